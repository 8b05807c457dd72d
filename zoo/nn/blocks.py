"""Run some blocks of a decoder: to capture a depth, to stop early, to catch up later.

`Blocks(lm, 0, k)` maps token ids to the raw residual stream after k blocks (entry k of Hugging
Face's hidden-state list), `Blocks(lm, k, K)` carries that stream on to the top. Both are views:
they share the parameters of `lm` and are never registered as submodules. One mechanism serves the
training step with several depths, the step that ends at depth k, early-exit decoding and catch-up.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor, nn
from transformers import __version__
from transformers.cache_utils import DynamicCache, DynamicLayer

from zoo.encoding import Batch

ROOM = 64  # tokens that follow before a cache is copied to larger memory
# What `forward` and `generate` call their cache of keys and values.
CACHE = "cache" if Version(__version__) >= Version("5.24") else "past_key_values"


class Blocks:
    """View of the blocks `start..stop` of a decoder, without the final norm.

    Args:
        lm: A causal language model whose decoder has `layers`, `norm` and `embed_tokens`.
        start: First block, 0-based.
        stop: One past the last block.
    """

    def __init__(self, lm: Any, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.config = _slice_config(lm.config, start, stop)
        view = copy.copy(lm.model)
        view._modules = dict(lm.model._modules)
        view._modules["layers"] = nn.ModuleList(list(lm.model.layers)[start:stop])
        view._modules["norm"] = nn.Identity()
        view.config = self.config
        if start > 0 and hasattr(view, "embedding_multiplier"):
            view.embedding_multiplier = 1.0  # Granite: the stream is scaled once, at the bottom
        self.view = view

    def __call__(self, x: Tensor, cache: DynamicCache | None = None, **where: Any) -> Tensor:
        """Run the blocks.

        Args:
            x: Token ids `(B, L)` if `start` is 0, else residual states `(B, L, D)`.
            cache: Keys and values of what these blocks have read; those of `x` are added.
            where: Positions, mask or packing (`place(batch)`).

        Returns:
            Raw residual states after block `stop`, `(B, L, D)`.
        """
        source = {"input_ids": x} if self.start == 0 else {"inputs_embeds": x}
        if self.start == self.stop:
            if self.start:
                return x
            scale = getattr(self.view, "embedding_multiplier", None)
            embedded: Tensor = self.view.embed_tokens(x)
            return embedded if scale is None else embedded * scale
        kept = {CACHE: cache, "use_cache": cache is not None}
        return self.view(**source, **kept, **where).last_hidden_state

    def new_cache(self) -> ShiftedCache:
        """Return an empty key/value cache for these blocks."""
        return ShiftedCache(self.start)


def keep_first(cache: DynamicCache, slots: int) -> None:
    """Forget all but the first slots of a cache without sliding windows.

    Not `crop`, whose negative and zero lengths mean other things in other versions.
    """
    layers: list[Any] = cache.layers
    for layer in layers:
        layer.keys = layer.keys[:, :, :slots]
        layer.values = layer.values[:, :, :slots]


def begin_rows(
    cache: DynamicCache, index: int, rows_P: Tensor, keys: Tensor, values: Tensor
) -> None:
    """Write rows of a block anew from their first slot; what they held beyond means nothing.

    Args:
        cache: Empty, or without sliding windows.
        index: Which of its blocks.
        rows_P: The rows, `(P,)`; all of an empty cache.
        keys: `(P, G, L, C)`; where L is more than there is, all rows get slots.
        values: The same.
    """
    if not cache.get_seq_length(index):
        cache.update(keys, values, index)
        return
    layer: Any = cache.layers[index]
    more = keys.shape[2] - layer.get_seq_length()
    if more > 0:
        holes = (
            old.new_zeros(*old.shape[:2], more, old.shape[3]) for old in (layer.keys, layer.values)
        )
        layer.update(*holes)
    for old, new in ((layer.keys, keys), (layer.values, values)):
        old[rows_P, :, : new.shape[2]] = new


class RoomyLayer(DynamicLayer):
    """Keys and values of a block, in memory with room for what follows.

    Memory of the exact size would have to be copied whole at every token. `keys` and `values` are
    views of what is used; dropping their last slots gives the room back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values, `(B, G, T, C)`, and return all of them."""
        old, new = self.get_seq_length(), key_states.shape[2]
        kept: Any = (self.keys, self.values)
        learning = key_states.requires_grad or (old > 0 and kept[0].requires_grad)
        if old == 0 or learning or torch.compiler.is_compiling():
            return super().update(key_states, value_states, *args, **kwargs)
        if not self._has_room(old + new):
            slots = old + new + ROOM
            self.memory = (_larger(kept[0], slots), _larger(kept[1], slots))
        assert self.memory is not None
        for memory, states in zip(self.memory, (key_states, value_states), strict=True):
            memory[:, :, old : old + new] = states
        self.keys, self.values = (memory[:, :, : old + new] for memory in self.memory)
        return self.keys, self.values

    def _has_room(self, slots: int) -> bool:
        """Say whether the memory is still that of `keys`, and large enough."""
        keys: Any = self.keys
        if self.memory is None or keys.data_ptr() != self.memory[0].data_ptr():
            return False
        memory = self.memory[0]
        writable = torch.is_inference_mode_enabled() or not memory.is_inference()
        return writable and len(keys) == len(memory) and slots <= memory.shape[2]


def _larger(kept: Tensor, slots: int) -> Tensor:
    """Return `(B, G, slots, C)` that begins with what is kept."""
    memory = kept.new_empty(*kept.shape[:2], slots, kept.shape[3])
    memory[:, :, : kept.shape[2]] = kept
    return memory


class ShiftedCache(DynamicCache):
    """Key/value cache of blocks `start..stop`: block `start` is its layer 0."""

    def __init__(self, start: int) -> None:
        super().__init__()  # without the config: no layer drops what is outside its window
        self.layer_class_to_replicate = RoomyLayer
        self.start = start

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of block `layer_idx` and return all of them."""
        return super().update(key_states, value_states, layer_idx - self.start, *args, **kwargs)


def place(batch: Batch) -> dict[str, Any]:
    """Return the arguments that tell the blocks where the tokens of a batch are."""
    if batch.attention_mask is not None:
        return {"position_ids": batch.position_ids, "attention_mask": batch.attention_mask}
    longest = max(batch.lengths)
    return {
        "position_ids": batch.position_ids,
        # A 4-D mask is handed through as it is; packed attention reads the lengths instead. It has
        # no entry, so that nobody can read one.
        "attention_mask": torch.empty(1, 1, 0, 0, device=batch.input_ids.device),
        "lengths": batch.lengths,
        "cu_seq_lens_q": batch.offsets,
        "cu_seq_lens_k": batch.offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def grow_mask(config: Any, mask_BL: Tensor, positions_BL: Tensor, new: int) -> Any:
    """Return the attention mask of the last `new` slots of a batch that grows with holes.

    A sliding window counts tokens, not slots, so a model that has one gets its masks from
    `explicit_mask`, with the same arguments; any other builds its own from `mask_BL`.
    """
    if sliding_window(config) is None:
        return mask_BL
    return explicit_mask(config, mask_BL, positions_BL, new)


def explicit_mask(config: Any, mask_BL: Tensor, positions_BL: Tensor, new: int) -> Any:
    """Return which slots each of the last `new` ones sees, by kind of block where they differ.

    A hole is seen by itself and by no other slot, so a token that no other may see can be one.

    Args:
        config: The backbone's config.
        mask_BL: 1 for tokens and 0 for holes, `(B, L)`.
        positions_BL: Position of each token in its own sequence, `(B, L)`.
        new: Number of query slots, T.

    Returns:
        `(B, 1, T, L)`, bool; a mapping of two such masks if blocks have different windows.
    """
    slots_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
    before_TL = slots_L[None] <= slots_L[-new:, None]
    itself_TL = slots_L[None] == slots_L[-new:, None]  # a hole sees itself: no empty softmax
    full_BTL = (before_TL & mask_BL.bool()[:, None]) | itself_TL
    return windowed_mask(config, full_BTL, positions_BL)


def windowed_mask(config: Any, full_BTL: Tensor, positions_BL: Tensor) -> Any:
    """Return a mask of pairs as the blocks of a model take it, sliding windows included.

    Args:
        config: The backbone's config.
        full_BTL: Which slots each of the last T ones may see, bool.
        positions_BL: Position of each token in its own sequence, `(B, L)`.

    Returns:
        `(B, 1, T, L)`, bool; a mapping of two such masks if blocks have different windows.
    """
    window, types = sliding_window(config), getattr(config, "layer_types", None)
    if window is None:
        return full_BTL[:, None]
    distance_BTL = positions_BL[:, -full_BTL.shape[1] :, None] - positions_BL[:, None]
    sliding_BTL = full_BTL & (distance_BTL < window)
    if types is None:
        return sliding_BTL[:, None]
    return {"full_attention": full_BTL[:, None], "sliding_attention": sliding_BTL[:, None]}


def sliding_window(config: Any) -> int | None:
    """Return how many tokens a sliding window has, None if no block has one."""
    types = getattr(config, "layer_types", None)
    if types is not None and "sliding_attention" not in types:
        return None
    return getattr(config, "sliding_window", None)


def num_blocks(lm: Any) -> int:
    """Return the number of blocks K of a model."""
    return len(lm.model.layers)


def _slice_config(config: Any, start: int, stop: int) -> Any:
    sliced = copy.copy(config)
    sliced.num_hidden_layers = stop - start
    types = getattr(config, "layer_types", None)
    if types is not None:
        sliced.layer_types = types[start:stop]
    return sliced
