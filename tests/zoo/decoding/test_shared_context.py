"""Growing texts that outgrow their windows, asked together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
