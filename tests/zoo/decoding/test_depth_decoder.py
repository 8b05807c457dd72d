"""Decoding at several depths over one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from sliding_models import sliding

from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder

STOP, PAD = 258, 256
PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 11, 12], [100, 42, 17, 3, 90]]


def head(lm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda states: lm.lm_head(lm.model.norm(states))


def endless(lm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits that never choose the stop token."""

    def project(states: torch.Tensor) -> torch.Tensor:
        logits = head(lm)(states)
        logits[:, STOP] = -torch.inf
        return logits

    return project


@contextmanager
def counted(lm: Any) -> Iterator[Callable[[], int]]:
    """Count blocks x tokens that are run."""
    calls: list[int] = []

    def count(block: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        calls.append((given[0] if given else named["hidden_states"]).shape[1])

    hooks = [block.register_forward_hook(count, with_kwargs=True) for block in lm.model.layers]
    yield lambda: sum(calls)
    for hook in hooks:
        hook.remove()


def decoder_of(lm: Any, size: int, depths: tuple[int, ...] = (2, 4)) -> DepthDecoder:
    return DepthDecoder(lm, depths, batch_size=size, pad_id=PAD)


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


@pytest.fixture
def lm(make: Callable[..., Any], shape: str) -> Any:
    """A random model whose greedy choices vary."""
    return make("SFT", shape, spread=12.0).lm


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


@torch.no_grad()
def test_feeding_nothing_changes_nothing(lm: Any) -> None:
    decoder = decoder_of(lm, 2)
    decoder.feed([[1, 2], [3]], 0)
    state = decoder.last_BD.clone()
    decoder.feed([[], []], 0)
    assert torch.equal(decoder.last_BD, state)
    decoder.feed([[5], []], 0)  # a row that gets nothing keeps its state
    assert torch.equal(decoder.last_BD[1], state[1])
    assert not torch.equal(decoder.last_BD[0], state[0])


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "gemma3", "shape"])
def test_packed_prompts_decode_what_padded_ones_do(name: str, lm: Any) -> None:
    """And rows go on from them: fed, rewound, decoded."""
    lm = lm if name == "shape" else sliding(name, vocab_size=STOP + 1, pad_token_id=PAD)

    def answers(begin: str) -> tuple[list[Any], torch.Tensor, DepthDecoder]:
        decoder = decoder_of(lm, len(PROMPTS), (4,))
        decoder.open(PROMPTS) if begin == "open" else decoder.feed(PROMPTS, 0)
        place, state = decoder.place(), decoder.state()
        decoder.feed([[30], [], [31, 32]], 0)
        rows = decoder.decode(0, endless(lm), stop_id=STOP, max_new_tokens=6, close=False)
        decoder.rewind(place)
        rows += decoder.decode(0, endless(lm), stop_id=STOP, max_new_tokens=6, close=False)
        return rows, state, decoder

    (packed, state, opened), (padded, other, fed) = answers("open"), answers("feed")
    assert packed == padded
    torch.testing.assert_close(state, other, atol=1e-4, rtol=1e-4)
    assert torch.equal(opened.mask_BL, fed.mask_BL)
    assert torch.equal(opened.positions_BL, fed.positions_BL)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "gemma3", "shape"])
def test_rows_that_begin_alike_decode_what_whole_prompts_do(name: str, lm: Any) -> None:
    lm = lm if name == "shape" else sliding(name, vocab_size=STOP + 1, pad_token_id=PAD)
    alike = [*range(50, 60)]
    decoder, whole = (decoder_of(lm, len(PROMPTS), (4,)) for _ in range(2))
    with counted(lm) as calls:
        decoder.open_alike(alike)
        assert calls() == 4 * len(alike)
    decoder.feed(PROMPTS, 0)
    whole.open([[*alike, *prompt] for prompt in PROMPTS])
    torch.testing.assert_close(decoder.state(), whole.state(), atol=1e-4, rtol=1e-4)
    rows = [
        each.decode(0, endless(lm), stop_id=STOP, max_new_tokens=6, close=False)
        for each in (decoder, whole)
    ]
    assert rows[0] == rows[1]


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "shape"])
def test_rows_begin_anew_beside_rows_that_go_on(name: str, lm: Any) -> None:
    """A longer and a shorter prompt in place of two rows: each decodes what it does alone."""
    lm = lm if name == "shape" else sliding(name, vocab_size=STOP + 1, pad_token_id=PAD)
    longer = [*range(20, 40)]
    decoder = decoder_of(lm, len(PROMPTS), (4,))
    decoder.open(PROMPTS)
    decoder.feed([[30], [31, 32], []], 0)
    decoder.open([[], [12, 11], longer])
    decoder.feed([[33], [], [34, 35]], 0)
    together = decoder.decode(0, endless(lm), stop_id=STOP, max_new_tokens=6, close=False)
    for row, ids in enumerate([[*PROMPTS[0], 30, 33], [12, 11], [*longer, 34, 35]]):
        single = decoder_of(lm, 1, (4,))
        single.open([ids])
        alone = single.decode(0, endless(lm), stop_id=STOP, max_new_tokens=6, close=False)
        assert together[row] == alone[0]


@torch.no_grad()
def test_a_row_that_can_end_in_one_way_is_not_run(lm: Any) -> None:
    """The tokens are those of the decoder that runs them all; a pushed token costs four blocks."""
    choices = [[7, 8, 9], [7, 8, 10, 11], [20, 21, 22, 23]]

    def answers(close: bool) -> tuple[list[list[int]], int]:
        decoder = decoder_of(lm, len(PROMPTS), (4,))
        decoder.open(PROMPTS)
        with counted(lm) as calls:
            found = decoder.decode(
                0,
                head(lm),
                stop_id=STOP,
                max_new_tokens=5,
                close=close,
                allowed=only([choices] * len(PROMPTS), STOP),
            )
            return found, calls()

    (found, few), (same, many) = answers(False), answers(True)
    assert found == same
    assert all(row in choices for row in found)
    open_tokens = 2 if any(row[0] == 7 for row in found) else 0  # the third tells the two apart
    assert few == 4 * open_tokens
    assert many >= 4 * max(map(len, found)) > few


@torch.no_grad()
def test_states_that_predict_given_tokens(make: Callable[..., Any]) -> None:
    """Those of a whole pass, one before each token; the rows go on behind them."""
    lm = make("SFT", "tiny-llama", spread=12.0).lm
    decoder = decoder_of(lm, 2, (4,))
    decoder.feed([[5, 6, 7], [9, 8]], 0)
    states = decoder.follow([[30, 31], [40]], 0)
    assert states.shape[:2] == (2, 2)
    for row, (ids, count) in enumerate((([5, 6, 7, 30, 31], 2), ([9, 8, 40], 1))):
        logits = lm(torch.tensor([ids])).logits[0]
        found = head(lm)(states[row, :count])
        torch.testing.assert_close(found, logits[-count - 1 : -1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(head(lm)(decoder.state()[row]), logits[-1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_row_that_is_not_alive_gets_an_empty_slot(make: Callable[..., Any]) -> None:
    lm = make("SFT", "tiny-llama", spread=12.0).lm
    decoder = decoder_of(lm, 2, (4,))
    assert decoder.mask_BL.shape == decoder.positions_BL.shape == (2, 0)
    decoder.feed([[5, 6, 7], [9, 8]], 0)
    before = decoder.state().clone()
    decoder.push(torch.tensor([30, 31]), torch.tensor([True, False]), 0)
    assert decoder.mask_BL.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert decoder.positions_BL.tolist()[0] == [0, 1, 2, 3]
    assert torch.equal(decoder.state()[1], before[1])
    decoder.push(torch.tensor([30, 31]), torch.tensor([True, True]), 0)
    assert decoder.positions_BL[1, -1] == 2, "the next token of the shorter row"


@torch.no_grad()
def test_only_one_depth_goes_back_to_a_place(make: Callable[..., Any]) -> None:
    """Everything after it is forgotten: slots, positions, state and cache."""
    lm = make("SFT", "tiny-llama", spread=12.0).lm
    decoder = decoder_of(lm, 1, (4,))
    assert (decoder.place().slots, decoder.place().last) == (0, None)
    decoder.feed([[5, 6, 7]], 0)
    place, state = decoder.place(), decoder.state().clone()
    decoder.feed([[30, 31]], 0)
    decoder.rewind(place)
    assert decoder.mask_BL.tolist() == [[1, 1, 1]]
    assert decoder.positions_BL.tolist() == [[0, 1, 2]]
    assert torch.equal(decoder.state(), state)
    assert decoder.caches[0].get_seq_length() == 3
    two = decoder_of(lm, 1)
    two.feed([[5]], 0)
    with pytest.raises(RuntimeError, match="only a decoder of one depth can be rewound"):
        two.rewind(two.place())


@torch.no_grad()
def test_tokens_rise_through_three_depths(make: Callable[..., Any]) -> None:
    """However far each piece rose at first: the last state is that of a whole pass."""
    lm = make("SFT", "tiny-llama", spread=12.0).lm
    decoder = decoder_of(lm, 2, (1, 2, 4))
    with counted(lm) as calls:
        decoder.feed([[5, 6, 7], [9, 8]], 0)
        assert calls() == 3
        decoder.feed([[10], [11]], 1)
        assert calls() == 2 * 4
        decoder.feed([[12], []], 2)  # the second row gets nothing at that depth
        assert calls() == 4 * 5
    wanted = lm(torch.tensor([[5, 6, 7, 10, 12]])).logits[0, -1]
    torch.testing.assert_close(head(lm)(decoder.state()[0]), wanted, rtol=1e-4, atol=1e-4)
    decoder.feed([[13], [14]], 0)
    decoder.feed([[15], [16]], 2)
    for row, ids in enumerate(([5, 6, 7, 10, 12, 13, 15], [9, 8, 11, 14, 16])):
        wanted = lm(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(head(lm)(decoder.state()[row]), wanted, rtol=1e-4, atol=1e-4)
