"""Decoding at several depths: a batch decodes what each row does alone, ends, limits, sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from depth_decoding import PAD, PROMPTS, STOP, counted, decoder_of, endless, head
from sliding_models import sliding


def two_phases(lm: Any, prompts: list[list[int]], stop: int, limit: int = 8) -> list[Any]:
    """Decode at depth 2, close, feed unequal rows, decode at depth 4."""
    decoder = decoder_of(lm, len(prompts))
    decoder.feed(prompts, 0)
    first = decoder.decode(0, head(lm), stop_id=stop, max_new_tokens=limit)
    decoder.feed([[30 + p[0] % 5, 31][: 1 + p[0] % 2] for p in prompts], 1)
    second = decoder.decode(1, head(lm), stop_id=stop, max_new_tokens=limit, close=False)
    return list(zip(first, second, strict=True))


def by_full_forwards(
    lm: Any, prompt: list[int], stop: int, limit: int = 8, close: int | None = None
) -> Any:
    """Decode the same with a full Hugging Face forward per token; `close` follows, else stop."""

    def grow(ids: list[int], logits: Callable[[Any], torch.Tensor]) -> list[int]:
        new: list[int] = []
        while len(new) < limit:
            out = lm(torch.tensor([[*ids, *new]]), output_hidden_states=True, use_cache=False)
            token = int(logits(out).argmax())
            if token == stop:
                break
            new.append(token)
        return new

    first = grow(prompt, lambda out: head(lm)(out.hidden_states[2][0, -1]))
    ids = [
        *prompt,
        *first,
        stop if close is None else close,
        *[30 + prompt[0] % 5, 31][: 1 + prompt[0] % 2],
    ]
    return first, grow(ids, lambda out: out.logits[0, -1])


def a_stop_that_occurs(lm: Any) -> int:
    """Return a token that greedy decoding of the first prompt meets, so that rows end unequally."""
    first, _ = by_full_forwards(lm, PROMPTS[0], STOP)
    return first[2]


@torch.no_grad()
def test_a_batch_decodes_what_each_row_decodes_alone(lm: Any) -> None:
    stop = a_stop_that_occurs(lm)
    together = two_phases(lm, PROMPTS, stop)
    assert together == [two_phases(lm, [prompt], stop)[0] for prompt in PROMPTS]
    assert together == [by_full_forwards(lm, prompt, stop) for prompt in PROMPTS]
    assert len({len(first) for first, _ in together}) > 1, "rows should end unequally"


@torch.no_grad()
def test_end_of_text_ends_a_row_too(lm: Any) -> None:
    """A token that ends the model's own texts; the next phase reads the stop token in its place."""
    end = a_stop_that_occurs(lm)
    lm.generation_config.eos_token_id = [STOP, end]
    wanted = [by_full_forwards(lm, prompt, end, close=STOP) for prompt in PROMPTS]
    assert two_phases(lm, PROMPTS, STOP) == wanted
    assert len(wanted[0][0]) < 8


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_sliding_windows_count_tokens_not_padding(name: str) -> None:
    lm = sliding(name, vocab_size=STOP + 1, pad_token_id=PAD)
    alone = [two_phases(lm, [prompt], STOP)[0] for prompt in PROMPTS]
    assert alone == [by_full_forwards(lm, prompt, STOP) for prompt in PROMPTS]
    assert two_phases(lm, PROMPTS, STOP) == alone


@torch.no_grad()
def test_a_token_runs_the_blocks_below_its_depth(lm: Any) -> None:
    with counted(lm) as calls:
        decoder = decoder_of(lm, 1)
        decoder.feed([[1, 2, 3, 4, 5]], 0)
        assert calls() == 2 * 5
        decoder.decode(0, endless(lm), stop_id=STOP, max_new_tokens=3)
        assert calls() == 2 * (5 + 3 + 1)  # the closing stop token too
        decoder.feed([[1, 2]], 1)  # the upper blocks catch up on everything
        assert calls() == 4 * (5 + 3 + 1 + 2)
        decoder.decode(1, endless(lm), stop_id=STOP, max_new_tokens=3, close=False)
        assert calls() == 4 * (5 + 3 + 1 + 2 + 2)  # nothing reads the last token


@torch.no_grad()
def test_the_limit_closes_every_row_with_the_stop_token(lm: Any) -> None:
    for limit in (0, 1, 4):
        decoder = decoder_of(lm, 2)
        decoder.feed([[1, 2, 3], [4]], 0)
        rows = decoder.decode(0, head(lm), stop_id=STOP, max_new_tokens=limit)
        assert all(len(row) <= limit for row in rows)
        assert decoder.mask_BL.sum(1).tolist() == [3 + len(rows[0]) + 1, 1 + len(rows[1]) + 1]
        # What was fed is prompt, rows and stop: the next phase equals one from scratch.
        decoder.feed([[7], [7]], 1)
        scratch = decoder_of(lm, 2)
        scratch.feed([[1, 2, 3, *rows[0], STOP, 7], [4, *rows[1], STOP, 7]], 1)
        torch.testing.assert_close(decoder.last_BD, scratch.last_BD, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_without_close_nothing_is_fed_after_the_last_token(lm: Any) -> None:
    decoder = decoder_of(lm, 1)
    decoder.feed([[1, 2, 3]], 1)
    rows = decoder.decode(1, endless(lm), stop_id=STOP, max_new_tokens=2, close=False)
    assert [type(token) for token in rows[0]] == [int, int]
    assert decoder.mask_BL.sum().item() <= 3 + 2


@torch.no_grad()
def test_sampling_is_reproducible_and_follows_the_temperature(lm: Any) -> None:
    def sample(seed: int, temperature: float) -> list[list[int]]:
        torch.manual_seed(seed)
        decoder = decoder_of(lm, 3)
        decoder.feed(PROMPTS, 0)
        return decoder.decode(0, head(lm), stop_id=STOP, max_new_tokens=12, temperature=temperature)

    assert sample(1, 5.0) == sample(1, 5.0)
    assert sample(1, 5.0) != sample(2, 5.0)
    greedy = sample(1, 0.0)
    assert greedy == sample(2, 0.0)
    assert sample(3, 1e-4) == greedy


def test_decode_needs_a_feed(lm: Any) -> None:
    with pytest.raises(RuntimeError, match="decode before feed"):
        decoder_of(lm, 1).decode(0, head(lm), stop_id=STOP, max_new_tokens=1)
