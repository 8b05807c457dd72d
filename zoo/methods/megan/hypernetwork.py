"""Beta of a gated SwiGLU from a condition in words (MeGan, arXiv 2605.01973).

    (1)  q = W_q x,  k = W_k C,  v = W_v C        D -> R; with R = 0: q = x, k = v = C, R := D
    (2)  z = MultiHeadAttention(q, k, v) + e_l    e_l: layer embedding of a shared hypernetwork
    (3)  beta = 1 + tanh(W_b z) / 2               per token and channel, in (0.5, 1.5)

x is the normalised input of block l's feed-forward part, C the input embeddings of the condition's
tokens: no positions, no context, no pooling. Equation (3) is computed in `gated_swiglu.py`, from
the R-wide z. Keys and values depend on the condition only, so `project` makes them once.

Shapes: B rows, T tokens, C condition tokens, D width, R bottleneck, F inner width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, nearest

BETA_INITS = ("official", "zero")


@dataclass(frozen=True)
class Hyper:
    """What makes beta of a condition.

    Attributes:
        shared: One hypernetwork for all blocks, with layer embeddings; False for one per block.
        bottleneck: R; 0 for an attention at the backbone's width.
        heads: Heads of that attention; 1 with a bottleneck.
        head_bias: Give W_b a bias.
        beta_init: `official`, beta starts near 1; `zero`, exactly there.
        freeze_layer_emb: Leave the layer embeddings at their random start, as released with
            `train: hyper`; with `train: full` they learn in any case, as released too.
    """

    shared: bool = True
    bottleneck: int = 512
    heads: int = 1
    head_bias: bool = False
    beta_init: Literal["official", "zero"] = "official"
    freeze_layer_emb: bool = False

    def check(self, width: int) -> None:
        """Check the sizes against the backbone's width D.

        Raises:
            InputError: A size does not fit, or `beta_init` is unknown.
        """
        wrong = {
            f"beta_init: {self.beta_init!r}; {nearest(str(self.beta_init), BETA_INITS)}": (
                self.beta_init not in BETA_INITS
            ),
            f"bottleneck: {self.bottleneck} is less than 0": self.bottleneck < 0,
            f"heads: {self.heads} is less than 1": self.heads < 1,
            f"heads: {self.heads}, but a bottleneck has 1; set bottleneck to 0 for more": (
                self.heads > 1 and self.bottleneck > 0
            ),
            f"heads: {self.heads} do not divide the backbone's width {width}": (
                width % max(self.heads, 1) != 0
            ),
        }
        for complaint, applies in wrong.items():
            if applies:
                raise InputError(f"model.hyper.{complaint}")


class Hypernetwork(nn.Module):
    """From tokens and condition to the R-wide state z that beta is made of.

    Args:
        width: D of the backbone.
        inner: F of the backbone's feed-forward parts, the outputs of `head`.
        layers: Number of layer embeddings; 0 for a hypernetwork that serves one block.
        bottleneck: R; 0 attends at width D without maps before the attention.
        heads: Heads of the attention.
        head_bias: Give `head` (W_b) a bias.
        device: Where to make the parameters; they are float32.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        layers: int,
        bottleneck: int,
        heads: int = 1,
        head_bias: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        state: int = bottleneck or width
        new: dict[str, Any] = {"device": device, "dtype": torch.float32}

        def narrow() -> nn.Module:
            return nn.Linear(width, state, **new) if bottleneck else nn.Identity()

        self.query, self.key, self.value = narrow(), narrow(), narrow()
        self.attention = nn.MultiheadAttention(state, heads, batch_first=True, **new)
        self.layer_embedding = nn.Embedding(layers, state, **new) if layers else None
        self.head = nn.Linear(state, inner, bias=head_bias, **new)

    def initialise(self, std: float, beta_init: str) -> None:
        """Draw the parameters as the released code does.

        Linear maps and embeddings are normal with `std`, biases zero; the attention's packed input
        map keeps its library's Xavier-uniform. Then beta is near 1, not 1; `zero` makes it 1.

        Args:
            std: Standard deviation, the backbone's `initializer_range`.
            beta_init: `official`, or `zero` for W_b = 0.
        """
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
        nn.init.xavier_uniform_(self.attention.in_proj_weight)
        nn.init.zeros_(self.attention.in_proj_bias)
        if beta_init == "zero":
            nn.init.zeros_(self.head.weight)

    def project(self, condition_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the condition, `(B, H, C, R / H)` each."""
        _, keys, values = self._maps()
        projected = [
            self._heads(linear(through(part, condition_BCD), *pair))
            for part, pair in ((self.key, keys), (self.value, values))
        ]
        return projected[0], projected[1]

    def forward(
        self, x_BTD: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, layer: int
    ) -> Tensor:
        """Return z of equation (2), `(B, T, R)`.

        Args:
            x_BTD: Input of block `layer`'s feed-forward part.
            keys: From `project`.
            values: From `project`.
            mask: True where a token may look, broadcastable to `(B, H, T, C)`; None for anywhere.
            layer: Index of the block.
        """
        query = self._heads(linear(through(self.query, x_BTD), *self._maps()[0]))
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        out = self.attention.out_proj
        state = linear(mixed.transpose(1, 2).flatten(2), out.weight, out.bias)
        if self.layer_embedding is None:
            return state
        return state + self.layer_embedding.weight[layer].to(state.dtype)

    def head_parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return W_b and its bias in a type."""
        bias = self.head.bias
        return self.head.weight.to(dtype), None if bias is None else bias.to(dtype)

    def _maps(self) -> list[tuple[Tensor, Tensor]]:
        """Return weight and bias of the attention's maps of query, key and value."""
        packed: Any = self.attention  # its types say Optional
        weights, biases = packed.in_proj_weight.chunk(3), packed.in_proj_bias.chunk(3)
        return list(zip(weights, biases, strict=True))

    def _heads(self, x_BTR: Tensor) -> Tensor:
        """Split the last dimension into heads: `(B, H, T, R / H)`."""
        return x_BTR.unflatten(-1, (self.attention.num_heads, -1)).transpose(1, 2)


def build(hyper: Hyper, config: Any, device: torch.device) -> list[Hypernetwork]:
    """Return the hypernetwork of all blocks, or one for each.

    Args:
        hyper: Which hypernetwork.
        config: The backbone's config.
        device: Where to make them.
    """
    depth, made = config.num_hidden_layers, []
    for _ in range(1 if hyper.shared else depth):
        hypernetwork = Hypernetwork(
            config.hidden_size,
            config.intermediate_size,
            layers=depth if hyper.shared else 0,
            bottleneck=hyper.bottleneck,
            heads=hyper.heads,
            head_bias=hyper.head_bias,
            device=device,
        )
        hypernetwork.initialise(config.initializer_range, hyper.beta_init)
        if hypernetwork.layer_embedding is not None and hyper.freeze_layer_emb:
            hypernetwork.layer_embedding.requires_grad_(False)
        made.append(hypernetwork)
    return made


def through(part: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear map in the type of x; an identity returns x."""
    return linear(x, part.weight, part.bias) if isinstance(part, nn.Linear) else x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear map in the type of x: float32 parameters under a backbone of any type."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
