"""Blocks that fill the window, and the preview of what is learned of a block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.alpo.alpo_blocks import FEW, OPEN, block, scored

from zoo.errors import TooLongError


def test_a_block_that_fills_the_window_fits_and_one_more_token_does_not(make: Any) -> None:
    """Of SFT with its response, of preferences with its longest candidates."""
    for objective, record in (("sft", block(2)), ("alpo", scored([OPEN, FEW]))):
        encoder = make("ALPO", "tiny-llama", objective=objective).encoder()
        prompt = encoder.prompt(block(2))
        lines = block(2).translation
        if objective == "sft":
            size = len(prompt) + len(encoder.response(lines, 1, 4))
        else:
            each = [
                max(len(encoder.response(c, i + 2, 4)) for c in segment.candidates)
                for i, segment in enumerate(record.segments)
            ]
            size = len(prompt) + len(encoder.response(lines[:1], 1, 4)) + sum(each)
        assert len(replace(encoder, max_length=size)(record)) == 1
        with pytest.raises(TooLongError, match=f"a.zh:0: {size} tokens, longer than .*={size - 1}"):
            replace(encoder, max_length=size - 1)(record)


def test_a_preview_is_of_the_first_chosen_candidate(make: Any) -> None:
    """A block from which nothing is learned is shown as its prompt."""
    encoder = make("ALPO", "tiny-llama", objective="alpo").encoder()
    record = scored([OPEN])
    (plan,) = encoder(record)
    shown = "".join(encoder.preview(plan))
    chosen = record.segments[0].candidates[plan.choices[0].chosen][0]
    assert f"2. {chosen}" in shown
    assert "1. Before." in shown
    (closed,) = encoder(scored([FEW]))
    assert "1. Before." in "".join(encoder.preview(closed))
