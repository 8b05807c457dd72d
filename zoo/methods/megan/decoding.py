"""Decoding whose blocks bend their gates (see `zoo.methods.megan.gated_swiglu`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.methods.megan.gated_swiglu import Gate


class GatedDecoder(DepthDecoder):
    """A decoder that hands one gating to the blocks in every call.

    Args:
        lm: Causal language model with gates that bend.
        depths: Block counts in ascending order.
        gating: The gating of the whole dialogue; None for plain gates.
        options: Further arguments of `DepthDecoder`.
    """

    def __init__(
        self, lm: Any, depths: Sequence[int], *, gating: Gate | None, **options: Any
    ) -> None:
        super().__init__(lm, depths, **options)
        self.gating = gating

    def _block_arguments(self, config: Any, new: int) -> dict[str, Any]:
        arguments = super()._block_arguments(config, new)
        return arguments if self.gating is None else {**arguments, "gating": self.gating}
