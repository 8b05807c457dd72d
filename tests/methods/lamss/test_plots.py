"""Figures and histograms of LaMsS: what they show of the numbers that they are given."""

from __future__ import annotations

import pytest
from matplotlib import colormaps

from zoo.methods.lamss.doubt_labels import Studied
from zoo.methods.lamss.label_sample import histograms
from zoo.methods.lamss.plots import risk_coverage_plot, shaded_answers


def test_a_curve_of_few_points_has_dots() -> None:
    """One of a single step could not be seen; both axes are shares."""
    few, many = [(0.5, 0.0), (1.0, 0.5)], [(0.2, 0.1), (0.6, 0.2), (1.0, 0.4)]
    axes = risk_coverage_plot({"few": few, "many": many}).axes[0]
    lines = axes.get_lines()
    assert [line.get_xydata().tolist() for line in lines] == [
        list(map(list, p)) for p in (few, many)
    ]
    assert [line.get_marker() for line in lines] == [".", ""]
    assert [line.get_drawstyle() for line in lines] == ["steps-post"] * 2
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["few", "many"]


def test_tokens_stand_on_their_doubt() -> None:
    """Green without doubt, yellow at a half, red with full doubt; pale enough to be read on."""
    tokens = [("no", 0.0), ("half", 0.5), ("full", 1.0)]
    _, *shown = shaded_answers([("Why?", tokens)]).axes[0].texts
    found = [text.get_bbox_patch().get_facecolor()[:3] for text in shown]
    ramp = colormaps["RdYlGn_r"]
    assert found[1] == pytest.approx(ramp(0.5)[:3], abs=0.02)
    (low, _, high), ends = found, [ramp(0.0)[:3], ramp(1.0)[:3]]
    for colour, end, main in ((low, ends[0], 1), (high, ends[1], 0)):
        assert colour[main] == max(colour)
        assert sum(colour) > sum(end), "paler than the end of the ramp"
    assert low[1] - low[0] == pytest.approx(high[0] - high[1], abs=0.2), "equally far from yellow"


def test_answers_stand_below_their_questions_and_nothing_overlaps() -> None:
    rows = [(f"{i}?", [("a", 0.1), ("long token", 0.2), ("", 0.3), ("b", 0.4)]) for i in range(3)]
    figure = shaded_answers(rows)
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 100)
    assert axes.get_ylim() == (-3, 0)
    assert axes.get_title(loc="left") == "answers, each token on its skepticism"
    figure.canvas.draw()
    assert not axes.axison
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    for i in range(3):
        question, *answer = axes.texts[5 * i : 5 * i + 5]
        assert question.get_text() == f"{i}?"
        assert {text.get_position()[1] for text in answer} == {answer[0].get_position()[1]}
        assert 0 < answer[0].get_position()[0] - question.get_position()[0] < 4, "a small indent"
        assert -i > question.get_position()[1] > answer[0].get_position()[1] > -i - 1


def test_tokens_follow_each_other_as_in_a_sentence() -> None:
    """Between two of them there is less than a character of the answer."""
    figure = shaded_answers([("Why?", [("abcdefgh", 0.1)] * 3)])
    figure.canvas.draw()
    _, *shown = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in shown]
    gaps = [after.x0 - before.x1 for before, after in zip(boxes, boxes[1:], strict=False)]
    assert 0 <= min(gaps) <= max(gaps) < boxes[0].width / 8


def test_what_cannot_be_shown_of_an_answer() -> None:
    """No control characters, no formulas, nothing beyond the right edge, no endless question."""
    tokens = [("a\nb", 0.0), ("$x$", 0.0), *[("word", 0.5)] * 40]
    question, first, second, *more = shaded_answers([("why " * 50, tokens)]).axes[0].texts
    assert len(question.get_text()) <= 90
    assert (first.get_text(), second.get_text()) == ("a?b", r"\$x\$")
    assert len(more) < 20
    assert all(text.get_position()[0] <= 98 for text in more)
    columns = [text.get_position()[0] for text in more]
    assert len({round(b - a, 9) for a, b in zip(columns, columns[1:], strict=False)}) == 1


def test_labels_are_counted_by_kind() -> None:
    """The last token of an answer is its stop token, counted by itself, gold and own together."""
    texts = [Studied([[5, 6], [7]], [[0, 1], [1]])]
    questions = [
        Studied([[5, 6, 2]], [[0, 2, 1]], [8, 2], [2, 0], level=2, query_levels=[1, 1]),
        Studied([[5, 2]], [[2, 1]], [2], [0], level=0, query_levels=[1]),
    ]
    lines = histograms(texts, questions, 3, interleave=True)
    assert [" ".join(line.split()) for line in lines] == [
        "text s_0 1 ####### s_1 2 ############# s_2 0",
        "query s_0 0 s_1 3 #################### s_2 0 (all alike: nothing to learn)",
        "gold answer s_0 1 ####### s_1 0 s_2 2 #############",
        "own answer s_0 0 s_1 0 s_2 1 #################### (all alike: nothing to learn)",
        "stop tokens s_0 2 ########## s_1 2 ########## s_2 0",
        "whole answer s_0 1 ########## s_1 0 s_2 1 ##########",
    ]
    (line,) = histograms(texts, questions, 3, interleave=False)
    assert line.split()[0] == "whole"
    assert histograms([], [], 3, interleave=True) == []
