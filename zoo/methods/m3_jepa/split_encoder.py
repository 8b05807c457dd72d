"""A pretrained encoder cut in two: frozen lower blocks, and upper blocks that may be adapted.

The blocks of any Hugging Face encoder are called one by one with the arguments that the model
itself prepares for them (masks, rotary positions), so the lower ones can run without a gradient and
their result can be kept.

Shapes: B items, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma"),
    *("bert", "roberta", "xlm-roberta"),
    *("vit", "deit", "dinov2", "clip_vision_model"),
    *("wav2vec2", "hubert"),  # of waves; no code here makes spectrograms
)
"""Model types whose blocks were checked against Hugging Face's list of hidden states."""


class Entered(Exception):  # noqa: N818
    """Raised inside a model's forward once the arguments of its first block are known."""


class SplitEncoder(nn.Module):
    """An encoder whose output is the mean of its last two hidden-state entries.

    The entries are those of Hugging Face: the last one of a decoder-only language model is past its
    final norm, the one before and those of a vision transformer are not. A convolutional network
    has no two entries of one shape: its last feature map is taken, read as a sequence.

    Args:
        model: A Hugging Face encoder, without a task head.
        adapted: Number of upper blocks through which a gradient flows.
        frozen: Keep the model in evaluation mode; False trains all of it.
        cache_bytes: Keep what the lower blocks made of an item, up to so many bytes; 0 for nothing.
    """

    def __init__(
        self, model: Any, adapted: int, *, frozen: bool = True, cache_bytes: int = 0
    ) -> None:
        super().__init__()
        self.model = model
        self.cut = len(self.blocks) - adapted
        self.kept = min(self.cut, len(self.blocks) - 1)  # blocks whose result may be kept
        self.frozen, self.cache_bytes = frozen, cache_bytes
        self.forget()
        self.register_load_state_dict_post_hook(SplitEncoder.forget)

    def forget(self, *_: Any) -> None:
        """Keep no states: none are there yet, or the weights that made them were replaced."""
        self.cache: dict[str, Tensor] = {}
        self.cached_bytes = 0

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks; none for a convolutional network."""
        return find_blocks(self.model)

    @property
    def width(self) -> int:
        """D."""
        sizes = getattr(self.model.config, "hidden_sizes", None)
        return sizes[-1] if sizes else self.model.config.hidden_size

    @property
    def sharded(self) -> bool:
        """True if blocks are shared with other processes: all of them must run them together."""
        return any(isinstance(block, FSDPModule) for block in self.blocks)

    @property
    def keeps(self) -> bool:
        """True if results are kept."""
        return self.frozen and self.cache_bytes > 0 and not self.sharded

    def train(self, mode: bool = True) -> SplitEncoder:
        """Switch the adapters' dropout; a frozen model itself stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
            for name, part in self.model.named_modules():
                if "lora_dropout" in name:
                    part.train(mode)
        return self

    def forward(self, inputs: Mapping[str, Tensor], keys: Sequence[str] | None = None) -> Tensor:
        """Return the token states, `(B, L, D)`.

        Args:
            inputs: What the model takes: `input_ids` and `attention_mask`, `pixel_values`, or
                `input_values`.
            keys: A name per item under which its lower states are kept; None keeps nothing.
        """
        lower_grad = torch.is_grad_enabled() and not self.frozen
        if not self.blocks:
            return self._feature_map(inputs, keys if self.frozen else None, grad=lower_grad)
        with torch.set_grad_enabled(lower_grad):
            if keys is None or not self.keeps:
                hidden, call = self.enter(inputs)
                before, hidden = self.run(hidden, call, 0, self.cut)
            else:
                hidden = self._cached(inputs, keys)
                call = self.enter(inputs)[1]
                before, hidden = self.run(hidden, call, self.kept, self.cut)
        if self.cut < len(self.blocks):
            before, hidden = self.run(hidden, call, self.cut, len(self.blocks))
        if hasattr(self.model, "embed_tokens"):  # decoder-only: the last entry is normed
            hidden = self.model.norm(hidden)
        return (before + hidden) / 2

    def enter(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, tuple[Any, Any]]:
        """Return what the first block gets: states `(B, L, D)` and its other arguments."""
        caught: list[Any] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught.extend([args, kwargs])
            raise Entered

        options = {"use_cache": False} if hasattr(self.model, "embed_tokens") else {}
        handle = self.blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            self.model(**inputs, **options)
        except Entered:
            args, kwargs = caught
            return args[0], (args[1:], kwargs)
        finally:
            handle.remove()
        raise RuntimeError(f"{type(self.model).__name__} did not run its first block")

    def run(
        self, hidden_BLD: Tensor, call: tuple[Any, Any], start: int, stop: int
    ) -> tuple[Tensor, Tensor]:
        """Run blocks `start..stop`; return the states before the last of them and after it."""
        before = hidden_BLD
        args, kwargs = call
        for block in self.blocks[start:stop]:
            before = hidden_BLD
            out = block(hidden_BLD, *args, **kwargs)
            hidden_BLD = out[0] if isinstance(out, tuple) else out
        return before, hidden_BLD

    def _cached(self, inputs: Mapping[str, Tensor], keys: Sequence[str]) -> Tensor:
        """Return the states that may be kept, computed for the items that are not kept yet."""
        mask = inputs.get("attention_mask")

        def lower(some: Mapping[str, Tensor]) -> list[Tensor]:
            hidden_BLD = self.run(*self.enter(some), 0, self.kept)[1]
            masks = some.get("attention_mask", [None] * len(hidden_BLD))
            return [h if m is None else h[m.bool()] for h, m in zip(hidden_BLD, masks, strict=True)]

        rows = self._rows(inputs, keys, lower)
        if mask is None:
            return torch.stack(rows)
        out = rows[0].new_zeros(*mask.shape, rows[0].shape[-1])
        for i, row in enumerate(rows):
            out[i, mask[i].bool()] = row
        return out

    def _feature_map(
        self, inputs: Mapping[str, Tensor], keys: Sequence[str] | None, *, grad: bool
    ) -> Tensor:
        """Return the last feature map of a convolutional network, `(B, L, D)`."""

        def run(some: Mapping[str, Tensor]) -> Tensor:
            return sequence(self.model(**some).last_hidden_state)

        with torch.set_grad_enabled(grad):
            if keys is None or not self.cache_bytes:
                return run(inputs)
            return torch.stack(self._rows(inputs, keys, run))

    def _rows(
        self,
        inputs: Mapping[str, Tensor],
        keys: Sequence[str],
        run: Callable[[Mapping[str, Tensor]], Iterable[Tensor]],
    ) -> list[Tensor]:
        """Return the states of each item: kept, or run now and kept where there is room."""
        fresh = [i for i, key in enumerate(keys) if key not in self.cache]
        states: dict[str, Tensor] = {}
        if fresh:
            items = run({name: value[fresh] for name, value in inputs.items()})
            states = {keys[i]: item for i, item in zip(fresh, items, strict=True)}
        for key, state in states.items():
            if self.cached_bytes + state.nbytes <= self.cache_bytes:
                self.cache[key] = state.detach().cpu().clone()
                self.cached_bytes += state.nbytes
        device = next(iter(inputs.values())).device
        return [states[key] if key in states else self.cache[key].to(device) for key in keys]


def sequence(map_BDHW: Tensor) -> Tensor:
    """Return a feature map as tokens, `(B, H*W, D)`."""
    return map_BDHW.flatten(2).transpose(1, 2)


def find_blocks(model: Any) -> list[nn.Module]:
    """Return the blocks of an encoder: its first list of as many modules as it has layers."""
    count = getattr(model.config, "num_hidden_layers", None)
    for part in model.modules():
        if count and isinstance(part, nn.ModuleList) and len(part) == count:
            return list(part)
    return []
