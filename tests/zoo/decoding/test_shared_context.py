"""Growing texts that outgrow their windows, asked together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.decoding.shared_context import SharedContext

HEADS = ["first head.", "2nd."]
LONG = [f"It is day {day} of a long talk. " for day in range(12)]
SHORT = [f"{day}, " for day in range(12)]
WINDOW, ROOM = 160, 40


@pytest.fixture
def method(make: Callable[..., Any], shape: str) -> Any:
    """A random model whose greedy choices vary."""
    return make("SFT", shape, spread=12.0)


def growing(method: Any, heads: list[str]) -> SharedContext:
    return SharedContext(
        method.lm,
        method.tokenizer,
        heads,
        stop="<|im_end|>",
        window=WINDOW,
        room=ROOM,
        spare=0.25,
    )


def answers(context: SharedContext, rows: list[list[str]]) -> list[list[str]]:
    """Tell a piece a row, ask, tell something that is taken back, and go on."""
    found = []
    for step in range(len(LONG)):
        for row, pieces in enumerate(rows):
            context.append(row, pieces[step])
        saved = context.save()
        found.append(context.ask(["What day? "] * len(rows), max_new_tokens=5))
        for row in range(len(rows)):
            context.append(row, "Forget that. " * 4)
        context.ask(["What? "] * len(rows), max_new_tokens=2)
        context.restore(saved)
    return found


def test_rows_of_different_lengths_answer_what_they_answer_alone(method: Any) -> None:
    together = answers(growing(method, HEADS), [LONG, SHORT])
    for row, pieces in enumerate([LONG, SHORT]):
        alone = answers(growing(method, HEADS[row : row + 1]), [pieces])
        assert [step[row] for step in together] == [step[0] for step in alone]
    assert len({answer for step in together for answer in step}) > 4


def test_only_the_row_that_outgrows_its_window_is_run_again(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[bool]] = []
    original = DepthDecoder.open

    def noted(decoder: DepthDecoder, ids: Any) -> None:
        begun.append([bool(row) for row in ids])
        original(decoder, ids)

    monkeypatch.setattr(DepthDecoder, "open", noted)
    context = growing(method, HEADS)
    for long, short in zip(LONG, SHORT, strict=True):
        context.append(0, long)
        context.append(1, short)
        context.ask(["What day? "] * 2, max_new_tokens=2)
        assert context.decoder is not None
        assert context.decoder.mask_BL.shape[1] <= 2 * (WINDOW - ROOM) + max(map(len, LONG))
        assert context.positions <= 2 * (WINDOW - ROOM)
    assert begun[0] == [True, True]
    assert [True, False] in begun
    assert [False, True] not in begun
    assert sum(map(all, begun)) < len(begun) / 2


def mean_log_prob(small: Any, told: str, answer: list[int]) -> float:
    """Return the mean log-probability of tokens behind a text, of a whole pass."""
    ids = small.encoder().ids(told)
    with torch.no_grad():
        logits = small.lm(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].float()
    return float(logits.log_softmax(-1)[range(len(answer)), answer].mean())


@pytest.fixture
def small(make: Callable[..., Any]) -> Any:
    """One random model."""
    return make("SFT", "tiny-qwen2", spread=12.0)


@pytest.fixture
def asked(small: Any) -> SharedContext:
    """Two texts of some pieces, not yet run."""
    context = growing(small, HEADS)
    context.append(0, LONG[0])
    context.append(1, SHORT[0])
    context.append(1, "")  # changes nothing
    return context


def test_the_cache_holds_the_tokens_of_all_rows(small: Any, asked: SharedContext) -> None:
    """None before the first question; a question and its answer do not stay."""
    assert asked.positions == 0
    assert [len(pieces) for pieces in asked.pieces] == [1, 1]
    tokens = sum(len(small.encoder().ids(text)) for text in (*HEADS, LONG[0], SHORT[0]))
    asked.ask(["Which day is it? ", "What? "], max_new_tokens=3)
    assert asked.positions == tokens
    assert isinstance(asked.positions, int)
    asked.score_choices(["What? ", "Why? "], ["yes", "no"])
    asked.answer_nll(["What? ", "Why? "], ["", ""], ["yes", "no"])
    assert asked.positions == tokens


def test_an_answer_is_one_of_the_choices(asked: SharedContext) -> None:
    """Whatever its length; a row that is not asked says nothing."""
    choices = ["a long choice", "b", "another one"]
    for questions in (["What? ", "Why? "], ["What? ", None], [None, "Why? "]):
        found = asked.ask(questions, max_new_tokens=1, choices=choices)
        for question, answer in zip(questions, found, strict=True):
            assert answer in (choices if question else [""])
    free = asked.ask(["What? ", None], max_new_tokens=5)
    assert free[0]
    assert free[1] == ""
    assert free[0] == asked.ask(["What? ", "Why? "], max_new_tokens=5)[0]


def test_choices_are_scored_by_their_mean_with_the_end(small: Any, asked: SharedContext) -> None:
    choices = ["a long choice", "b"]
    scores = asked.score_choices(["What? ", "Why? "], choices)
    assert scores.shape == (2, 2)
    for row, (told, question) in enumerate(
        ((HEADS[0] + LONG[0], "What? "), (HEADS[1] + SHORT[0], "Why? "))
    ):
        for column, choice in enumerate(choices):
            answer = [*small.encoder().ids(choice), asked.stop_id]
            wanted = mean_log_prob(small, told + question, answer)
            assert scores[row, column].item() == pytest.approx(wanted, rel=1e-3)


def test_annotated_answers_are_scored_behind_what_has_begun(
    small: Any, asked: SharedContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words and question are not counted; a blank at their end is read with what follows."""
    found = asked.answer_nll(["What? ", None], ["Well ", "So"], ["it is day 3.", " yes"])
    for row, told, answer in (
        (0, HEADS[0] + LONG[0] + "What? Well", " it is day 3."),
        (1, HEADS[1] + SHORT[0] + "So", " yes"),
    ):
        ids = small.encoder().ids(answer)
        nll, count = found[row]
        assert count == len(ids)
        assert -nll / count == pytest.approx(mean_log_prob(small, told, ids), rel=1e-3)
    half = asked.answer_nll(["What? ", "Why? "], ["Well ", ""], ["it is day 3.", ""])
    assert half[0][0] == pytest.approx(found[0][0], rel=1e-4)
    assert half[1] == (0.0, 0)
    monkeypatch.setattr(asked, "_run", None)  # nothing is run where nothing is to be scored
    assert asked.answer_nll(["What? ", "Why? "], ["Well ", ""], ["", ""]) == [(0.0, 0)] * 2


def test_a_process_without_questions_runs_along(small: Any) -> None:
    """While others have some: as many passes of the blocks, and its rows stay as they are."""
    wanted = growing(small, HEADS).ask(["What? ", "Why? "], max_new_tokens=3)
    passes: list[int] = []
    small.lm.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    quiet = growing(small, HEADS)
    quiet.everyone_done = lambda mine: False  # others have something to feed
    decoder = quiet._run()
    assert len(passes) == 2, "its texts; new pieces of nobody"
    quiet._run()
    assert len(passes) == 4, "texts of nobody; new pieces of nobody"
    quiet._feed(decoder, [[], []])
    assert len(passes) == 5
    quiet.everyone_done = bool
    assert quiet.positions == sum(len(small.encoder().ids(text)) for text in HEADS)
    assert quiet.ask(["What? ", "Why? "], max_new_tokens=3) == wanted


def test_a_cache_that_is_mostly_empty_is_begun_anew(asked: SharedContext) -> None:
    """Where it has more than twice the slots that a row may fill."""
    asked.ask(["What? ", "Why? "], max_new_tokens=2)
    before = asked.decoder
    assert before is not None
    for slots, empty in ((2 * asked.budget, False), (2 * asked.budget + 1, True)):
        before.mask_BL = torch.zeros(2, slots, dtype=torch.long)
        assert asked._sparse() == empty
    assert asked._run() is not before
    assert not asked._sparse()
