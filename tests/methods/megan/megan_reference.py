"""MeGan's equations once more, for its fidelity tests: plain modules, Hugging Face and autograd.

One sequence with one condition at a time, nothing packed, padded, cached or recomputed. The
hypernetwork projects the condition again in every layer, the gate is SiLU(beta g) / beta, and the
loss is torch's own cross-entropy on full logits. It uses nothing of `zoo` but the weights.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, silu


class ReferenceHyper(nn.Module):
    """Attention from x to the condition, layer embedding, beta head; delta in (-0.5, 0.5)."""

    def __init__(
        self, width: int, inner: int, layers: int, bottleneck: int, heads: int, bias: bool
    ) -> None:
        super().__init__()
        state = bottleneck or width
        self.bottleneck = bottleneck
        if bottleneck:
            self.query = nn.Linear(width, bottleneck)
            self.key = nn.Linear(width, bottleneck)
            self.value = nn.Linear(width, bottleneck)
        self.attention = nn.MultiheadAttention(state, heads, dropout=0.0, batch_first=True)
        self.layer_embedding = nn.Embedding(layers, state) if layers else None
        self.head = nn.Linear(state, inner, bias=bias)

    def forward(self, x: Tensor, condition: Tensor, layer: int) -> Tensor:
        """Return delta `[B, T, f]` for x `[B, T, d]` and the condition's embeddings `[B, S, d]`."""
        q, k, v = x, condition, condition
        if self.bottleneck:
            q, k, v = self.query(x), self.key(condition), self.value(condition)
        out, _ = self.attention(q, k, v, need_weights=False)
        if self.layer_embedding is not None:
            out = out + self.layer_embedding(torch.tensor(layer))
        return 0.5 * torch.tanh(self.head(out))


class ReferenceMLP(nn.Module):
    """SwiGLU with SiLU(beta g) / beta; remembers beta and delta of its last call."""

    def __init__(self, mlp: Any, layer: int, home: Reference) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.layer = layer
        self.home = [home]  # a list: not a submodule

    def forward(self, x: Tensor) -> Tensor:
        home = self.home[0]
        gate, up = self.gate_proj(x), self.up_proj(x)
        if home.condition is None:
            return self.down_proj(silu(gate) * up)
        hyper = home.hypers[self.layer if len(home.hypers) > 1 else 0]
        delta = hyper(x, home.condition, self.layer)
        beta = 1 + delta
        home.deltas.append(delta)
        home.gated.append(silu(beta * gate) / beta * up)
        return self.down_proj(home.gated[-1])


class ReferenceNorm(nn.Module):
    """RMSNorm in the type of its input; Hugging Face's rounds to float32."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()


class Reference:
    """A copy of a module's backbone and hypernetworks, computed the plain way.

    Args:
        module: A built `zoo.MeGan` whose gate is `hyper`.
        dtype: Type to compute in.
    """

    def __init__(self, module: Any, dtype: torch.dtype = torch.float32) -> None:
        config = copy.deepcopy(module.lm.config)
        config._attn_implementation = "sdpa"
        self.lm = type(module.lm)(config)
        self.lm.load_state_dict(module.lm.state_dict())
        hyper = module.hyper
        self.hypers = nn.ModuleList()
        for ours in module.hypers:
            one = ReferenceHyper(
                config.hidden_size,
                config.intermediate_size,
                config.num_hidden_layers if hyper.shared else 0,
                hyper.bottleneck,
                hyper.heads,
                hyper.head_bias,
            )
            one.load_state_dict(ours.state_dict())
            self.hypers.append(one)
        for layer, block in enumerate(self.lm.model.layers):
            block.mlp = ReferenceMLP(block.mlp, layer, self)
            block.input_layernorm = ReferenceNorm(block.input_layernorm)
            block.post_attention_layernorm = ReferenceNorm(block.post_attention_layernorm)
        self.lm.model.norm = ReferenceNorm(self.lm.model.norm)
        self.lm.to(dtype).train()
        self.hypers.to(dtype)
        self.condition: Tensor | None = None
        self.deltas: list[Tensor] = []
        self.gated: list[Tensor] = []

    def logits(self, ids: list[int], condition: list[int]) -> Tensor:
        """Return the logits of one sequence, `(T, V)`; no condition for an empty list."""
        self.deltas, self.gated, self.condition = [], [], None
        if condition:
            with torch.no_grad():
                self.condition = self.lm.model.embed_tokens(torch.tensor([condition]))
        out = self.lm(input_ids=torch.tensor([ids]), use_cache=False)
        return out.logits[0]

    def loss(
        self,
        samples: list[tuple[list[int], int, list[int]]],
        lambda_beta: float = 0.0,
        lambda_w: float = 0.0,
    ) -> Tensor:
        """Return CE + lambda_beta sum |delta| + lambda_w sum ||W||_F.

        Args:
            samples: Token ids, where the response starts, and the condition's ids.
            lambda_beta: Weight of the L1 penalty.
            lambda_w: Weight of the norms of the beta heads.
        """
        rows, targets, sizes = [], [], [torch.zeros(())]
        for ids, start, condition in samples:
            rows.append(self.logits(ids, condition)[start - 1 : -1])
            targets.append(torch.tensor(ids[start:]))
            sizes += [delta.abs().sum() for delta in self.deltas]
        total = cross_entropy(torch.cat(rows), torch.cat(targets))
        total = total + lambda_beta * torch.stack([s.to(total.dtype) for s in sizes]).sum()
        norms = [hyper.head.weight.square().sum().sqrt() for hyper in self.hypers]
        return total + lambda_w * torch.stack(norms).sum()

    def gradients(self) -> dict[str, Tensor | None]:
        """Return gradients by the module's parameter names."""
        named = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        return named | {f"hypers.{name}": p.grad for name, p in self.hypers.named_parameters()}

    def greedy(self, ids: list[int], condition: list[int], stop: int, limit: int) -> list[int]:
        """Decode by a full forward pass for every token."""
        found: list[int] = []
        with torch.no_grad():
            while len(found) < limit:
                token = int(self.logits([*ids, *found], condition)[-1].argmax())
                if token == stop:
                    break
                found.append(token)
        return found
