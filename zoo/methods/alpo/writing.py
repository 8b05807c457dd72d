"""The translator writes numbered lines, several samples of them at once.

p(token) ~ softmax(logits / T), of the `top_k` best tokens, and of those the smallest set that
holds `top_p` of the probability (Holtzman et al., arXiv 1904.09751)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError

TOP = 0  # the one depth
OUT = -1e30  # a logit that no softmax counts


@dataclass(frozen=True)
class Nucleus:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: Share of the probability to draw from.
        top_k: Tokens to draw from; 0 for all.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 40

    def check(self, section: str) -> None:
        """Refuse what means nothing.

        Raises:
            InputError: A value is out of its range.
        """
        if self.temperature < 0:
            raise InputError(f"{section}.temperature: {self.temperature} is below 0")
        if not 0 < self.top_p <= 1:
            raise InputError(f"{section}.top_p: {self.top_p} is not above 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"{section}.top_k: {self.top_k} is below 0")

    def keep(self, logits_BV: Tensor) -> Tensor:
        """Return the logits, far below all others for every token that is not drawn from.

        Not -inf: the token that ends a row may be the only one that is allowed, and left out here.
        """
        if self.temperature == 0:
            return logits_BV
        no_ids = torch.empty(0)  # the warpers read none
        kept_BV = logits_BV.float() / self.temperature
        if self.top_k:
            kept_BV = TopKLogitsWarper(self.top_k)(no_ids, kept_BV)
        if self.top_p < 1:
            kept_BV = TopPLogitsWarper(self.top_p)(no_ids, kept_BV)
        return logits_BV.float().masked_fill(kept_BV.isinf(), OUT)


def begin(model: Any, prompt: Sequence[int], count: int) -> DepthDecoder:
    """Return a decoder with one prompt in `count` rows; it is run once.

    Args:
        model: The translator.
        prompt: Token ids.
        count: Rows.
    """
    decoder: DepthDecoder = model.new_decoder(1)
    decoder.open([list(prompt)])
    if count > 1:
        for cache in decoder.caches:
            cache.batch_repeat_interleave(count)
        decoder.mask_BL = decoder.mask_BL.repeat(count, 1)
        decoder.positions_BL = decoder.positions_BL.repeat(count, 1)
        decoder.last_BD = decoder.state().repeat(count, 1)
    return decoder


def write_lines(
    model: Any, decoder: DepthDecoder, count: int, nucleus: Nucleus, max_new_tokens: int
) -> list[str]:
    """Write up to `count` lines in every row; the rows are not to be read on.

    A line that the limit cuts off is left out, so that it does not pass for a whole one.

    Args:
        model: The translator.
        decoder: Rows that end where a line begins.
        count: Lines; a row also ends with its turn.
        nucleus: How tokens are drawn.
        max_new_tokens: Limit in tokens of a row.
    """
    tokenizer, encoder = model.tokenizer, model.encoder()
    ids = decoder.decode(
        TOP,
        lambda states: nucleus.keep(model.last_logits(states)),
        stop_id=encoder.stop_id,
        max_new_tokens=max_new_tokens,
        temperature=nucleus.temperature,
        close=False,
        allowed=ends_after(tokenizer, count, encoder.stop_id),
    )
    texts = [
        text.rpartition("\n")[0] if len(row) >= max_new_tokens else text
        for text, row in zip(tokenizer.batch_decode(ids), ids, strict=True)
    ]
    return [first_lines(text, count) for text in texts]


def ends_after(
    tokenizer: Any, count: int, stop_id: int
) -> Callable[[int, list[int]], list[int] | None]:
    """Return what may follow: anything, and after `count` whole lines the end alone."""
    breaks: dict[int, bool] = {}

    def allowed(_: int, tokens: list[int]) -> list[int] | None:
        if not tokens:
            return None
        last = tokens[-1]
        if last not in breaks:
            breaks[last] = "\n" in tokenizer.decode([last])
        if breaks[last]:
            whole = tokenizer.decode(tokens).split("\n")[:-1]
            if sum(bool(line.strip()) for line in whole) >= count:
                return [stop_id]
        return None

    return allowed


def first_lines(text: str, count: int) -> str:
    """Return the first lines of a text that are not empty."""
    return "\n".join([line for line in text.split("\n") if line.strip()][:count])
