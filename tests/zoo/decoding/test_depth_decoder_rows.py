"""Rows of a decoder of several depths: packed, begun alike or anew, fed, pushed, taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from depth_decoding import PAD, PROMPTS, STOP, counted, decoder_of, endless, head
from sliding_models import sliding

from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder


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
