"""Decoding of normal tokens and levels in turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from zoo.decoding.constrained import only
from zoo.methods.lamss.decoding import LevelDecoder, decode_graded, read_graded
from zoo.methods.lamss.token_probabilities import probabilities
from zoo.nn.attention import NAME

LEVELS, STOP, PAD = [250, 251, 252], 258, 256
PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 11, 12], [100, 42, 17, 3, 90]]


def head(lm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda states: lm.lm_head(lm.model.norm(states))


def decoder_of(lm: Any, prompts: list[list[int]], **options: Any) -> LevelDecoder:
    options = {"level_ids": LEVELS, "hidden": False, "shared_positions": False, **options}
    decoder = LevelDecoder(lm, [4], batch_size=len(prompts), pad_id=PAD, **options)
    decoder.feed(prompts, 0)
    return decoder


@pytest.fixture
def lm(make: Callable[..., Any], shape: str) -> Any:
    return make("SFT", shape, spread=12.0).lm


@torch.no_grad()
def test_a_batch_decodes_what_each_row_decodes_alone(lm: Any) -> None:
    """Also with rows that end early, and with levels that share positions or are hidden."""
    limits = {"stop_id": STOP, "max_new_tokens": 6}
    free = decode_graded(decoder_of(lm, PROMPTS), head(lm), LEVELS, **limits)
    stop = free[0].ids[2]
    for options in ({}, {"shared_positions": True}, {"hidden": True}):
        limits = {"stop_id": stop, "max_new_tokens": 6}
        decoder = decoder_of(lm, PROMPTS, **options)
        together = decode_graded(decoder, head(lm), LEVELS, **limits)
        decoder.feed([[30, 31]] * 3, 0)
        for row, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
            single = decoder_of(lm, [prompt], **options)
            alone = decode_graded(single, head(lm), LEVELS, **limits)[0]
            assert (alone.ids, alone.levels) == (found.ids, found.levels)
            assert alone.doubts == pytest.approx(found.doubts, abs=1e-5)
            single.feed([[30, 31]], 0)
            torch.testing.assert_close(
                single.state()[0], decoder.state()[row], atol=1e-4, rtol=1e-4
            )
        if not options:  # the row that the stop token was taken from
            assert len(together[0].ids) <= 3


@torch.no_grad()
def test_choices_hold_for_normal_slots_alone(lm: Any) -> None:
    allowed = only([[[65], [66, 67]], None, [[70]]], STOP)
    rows = decode_graded(
        decoder_of(lm, PROMPTS),
        head(lm),
        LEVELS,
        stop_id=STOP,
        max_new_tokens=4,
        allowed=allowed,
    )
    assert rows[0].ids in ([65, STOP], [66, 67, STOP])
    assert len(rows[1].ids) == len(rows[1].doubts) == len(rows[1].levels) > 0
    assert rows[2].ids == [70, STOP]


@torch.no_grad()
def test_everyone_goes_on_until_all_are_done(lm: Any) -> None:
    """A process whose rows have ended keeps the others company, and nothing changes for it."""
    calls: list[bool] = []

    def others_work(done: bool) -> bool:
        calls.append(done)
        return len(calls) == 6

    limits: dict[str, Any] = {"stop_id": STOP, "max_new_tokens": 8}
    limits["allowed"] = only([[[65]]] * 3, STOP)
    decoder = decoder_of(lm, PROMPTS, everyone_done=others_work)
    rows = decode_graded(decoder, head(lm), LEVELS, **limits)
    assert calls == [False, True, True, True, True, True]
    alone = decoder_of(lm, PROMPTS)
    assert rows == decode_graded(alone, head(lm), LEVELS, **limits)
    torch.testing.assert_close(decoder.state(), alone.state())


@torch.no_grad()
def test_everyone_reads_until_all_have_read(lm: Any) -> None:
    """As in decoding: three more steps for another process's longer prompt change nothing."""
    longest = max(map(len, PROMPTS))
    calls: list[bool] = []

    def others_read(done: bool) -> bool:
        calls.append(done)
        return len(calls) == longest + 4

    options: dict[str, Any] = {"level_ids": LEVELS, "hidden": False, "shared_positions": False}
    options |= {"batch_size": len(PROMPTS), "pad_id": PAD}
    decoder = LevelDecoder(lm, [4], everyone_done=others_read, **options)
    chances = read_graded(decoder, PROMPTS, head(lm), LEVELS)
    assert calls == [False] * longest + [True] * 4
    alone = LevelDecoder(lm, [4], **options)
    assert chances == read_graded(alone, PROMPTS, head(lm), LEVELS)
    assert [len(row) for row in chances] == [len(prompt) - 1 for prompt in PROMPTS]
    torch.testing.assert_close(decoder.state(), alone.state())


@torch.no_grad()
def test_hidden_levels_under_a_sliding_window() -> None:
    """The window counts positions; a level is seen by itself alone."""
    config = MistralConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
        attn_implementation=NAME,
    )
    lm = MistralForCausalLM(config).eval()
    ids = [5, 250, 6, 251, 7, 252, 8, 250, 9, 251, 10]
    decoder = decoder_of(lm, [ids[:5]], hidden=True, shared_positions=True)
    for token in ids[5:]:
        decoder.push(torch.tensor([token]), torch.tensor([True]), 0)
    at_once = decoder_of(lm, [ids], hidden=True, shared_positions=True)
    torch.testing.assert_close(decoder.state(), at_once.state())
    clean = decoder_of(lm, [ids[::2]])
    torch.testing.assert_close(decoder.state(), clean.state())


@torch.no_grad()
def test_probabilities_are_those_of_whole_forwards(lm: Any) -> None:
    rows = [(PROMPTS[0], [7]), (PROMPTS[1], [1, 2, 3]), (PROMPTS[2], [200, 201])]
    for budget in (4, 4096):
        for (context, tokens), found in zip(
            rows, probabilities(lm, rows, budget=budget), strict=True
        ):
            logits = lm(torch.tensor([[*context, *tokens]])).logits[0].softmax(-1)
            start = len(context) - 1
            expected = [logits[start + t, token].item() for t, token in enumerate(tokens)]
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)
