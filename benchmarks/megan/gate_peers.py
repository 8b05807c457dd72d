"""MeGan's formula as it reads, under plain autograd: the two peers of `megan_gate`.

    beta = 1 + tanh(W_b z) / 2,  z = attention(x; condition) + e_l
    y = down(silu(beta g) / beta * up(x)),  g = gate(x)

Every block projects the condition's keys and values again (`nn.MultiheadAttention`, as the released
code does). `EagerGating` is that gate alone, in a module that is ours otherwise; `Transcription` is
the whole step as one would write it on Hugging Face's model.

Shapes: B batch, L tokens, C condition tokens, D width, F inner width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.backbone import resolve
from zoo.encoding import IGNORE
from zoo.methods.megan.encoder import REPLY, ConditionedBatch
from zoo.methods.megan.hypernetwork import Hyper, build
from zoo.methods.megan.module import MeGan
from zoo.tiny_models import TINY, tiny_model


def make_beta(hyper: Any, x: Tensor, words: Tensor, unseen: Tensor, layer: int) -> Tensor:
    """Return beta of a block, `(B, L, F)`, in float32.

    Args:
        hyper: The shared hypernetwork.
        x: Input of the block's feed-forward part, `(B, L, D)`.
        words: Input embeddings of the condition's tokens, `(B, C, D)`.
        unseen: True for padding of the condition, `(B, C)`.
        layer: Index of the block.
    """
    mixed, _ = hyper.attention(
        hyper.query(x),
        hyper.key(words),
        hyper.value(words),
        key_padding_mask=unseen,
        need_weights=False,
    )
    state = mixed + hyper.layer_embedding.weight[layer]
    return 1 + 0.5 * torch.tanh(hyper.head(state).float())


class EagerGating:
    """The formula in place of the gate of a MeGan: everything around it stays ours.

    Args:
        module: A MeGan with a shared hypernetwork.
        batch: The batch of this forward pass, in padded rows.
    """

    sizes = None

    def __init__(self, module: MeGan, batch: ConditionedBatch) -> None:
        self.hyper: Any = module.hypers[0]
        with torch.no_grad():
            self.words = module.lm.model.embed_tokens(batch.condition_ids)
        self.unseen = ~batch.condition_mask

    def __call__(
        self, layer: int, x: Tensor, gate: Tensor, up: Tensor, down: Tensor | None
    ) -> Tensor:
        """Return the block's feed-forward output."""
        beta = make_beta(self.hyper, x, self.words, self.unseen, layer)
        product = (F.silu(beta * gate) / beta).to(gate.dtype) * up
        return F.linear(product, down) if down is not None else product


class Transcription(nn.Module):
    """Hugging Face's model and loss over full logits; each MLP's forward is the formula.

    Norms, attention (`sdpa`) and loss are the library's own. Parameters have the names and, from
    the same seed, the values that they have in `MeGan`.

    Args:
        backbone: Name of the backbone.
        hyper: A shared hypernetwork.
        train: `hyper` freezes the backbone, `full` does not.
    """

    def __init__(self, backbone: str, hyper: Hyper, train: str) -> None:
        super().__init__()
        self.lm: Any = load_plain(backbone)
        self.lm.requires_grad_(train == "full")
        self.hypers = nn.ModuleList(build(hyper, self.lm.config, self.lm.device))
        self.told: tuple[Tensor, Tensor] | None = None
        for layer, block in enumerate(self.lm.model.layers):
            block.mlp.forward = partial(self.feed_forward, block.mlp, layer)

    def feed_forward(self, mlp: Any, layer: int, x: Tensor) -> Tensor:
        """Return the output of a block's MLP, `(B, L, D)`."""
        if self.told is None:
            raise RuntimeError("a forward pass without a condition")
        beta = make_beta(self.hypers[0], x, *self.told, layer)
        mapped: Tensor = mlp.down_proj(F.silu(beta * mlp.gate_proj(x)) / beta * mlp.up_proj(x))
        return mapped

    def forward(self, batch: ConditionedBatch) -> Tensor:
        """Return the mean loss over the reply. Labels are shifted already."""
        with torch.no_grad():
            words = self.lm.model.embed_tokens(batch.condition_ids)
        self.told = words, ~batch.condition_mask
        labels = batch.labels.masked_fill(batch.head_ids != REPLY, IGNORE)
        output = self.lm(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            labels=labels,
            shift_labels=labels,
            use_cache=False,
        )
        loss: Tensor = output.loss
        return loss


def load_plain(backbone: str) -> Any:
    """Return Hugging Face's model in float32, nothing replaced."""
    from transformers import AutoModelForCausalLM

    if backbone in TINY:
        return tiny_model(backbone, torch.float32, "sdpa", meta=False)
    return AutoModelForCausalLM.from_pretrained(
        resolve(backbone),
        dtype=torch.float32,
        attn_implementation="sdpa",
        local_files_only=True,
        trust_remote_code=False,
    )
