"""Grades of straQ*'s strategies: opened once, counted, and asked of a model that loads late."""

from __future__ import annotations

from typing import Any

import pytest
from dialogues import TALK

from zoo.backbone import Backbone
from zoo.judges.judge import JudgeError
from zoo.methods.straq import grading
from zoo.methods.straq.grading import Distilled, LazyLLM, open_grader, seeker_rating
from zoo.methods.straq.rewards import Imitated, candidates
from zoo.support.decisions import decisions
from zoo.support.judging import Grade
from zoo.support.labels import STRATEGIES, SUPPORT

STATE = decisions(TALK)[0]


def test_missing_grades_are_counted_since_the_last_report() -> None:
    """Where to find seekers' ratings is said if all of those are missing, and only then."""
    opened: list[int] = []
    said = iter([3.0, None, 2.0, None, None])

    def grade(decision: Any, turn: Any, attempt: int) -> Grade:
        asked.append(turn.strategy)
        if attempt == 0:
            self.now = next(said)
        if self.now is None:
            raise JudgeError("no number")
        return Grade(self.now)

    self, asked = type("Now", (), {})(), list[str]()
    reward = Distilled(lambda: opened.append(1) or grade, SUPPORT, alternatives=1, scale=0.5)
    assert not opened
    assert [(one.reward, one.logged) for one in reward(STATE)] == [(1.5, True)]
    assert asked == ["Question", asked[1], asked[1], asked[1]]  # twice more, then it is left out
    assert reward.report() == "1 of 2 have no grade (JudgeError: no number)"
    assert reward.report() == ""
    assert [(one.reward, one.logged) for one in reward(STATE)] == [(1.0, True)]
    assert opened == [1]
    assert "ESConv.json" not in reward.report()
    unrated = Distilled(lambda: seeker_rating, SUPPORT, alternatives=0)
    assert unrated(STATE) == []
    assert grading.NO_RATINGS in unrated.report()


def test_others_are_drawn_by_seed_and_decision() -> None:
    """The logged one first; never twice the same; another seed or decision draws anew."""
    drawn = {seed: candidates(STATE, SUPPORT, 7, seed) for seed in range(4)}
    for found in drawn.values():
        assert STRATEGIES[found[0]] == STATE.target.strategy
        assert sorted(found) == list(range(8))
    assert len({tuple(found) for found in drawn.values()}) > 1
    assert candidates(STATE, SUPPORT, 7, 0) == drawn[0]
    assert candidates(decisions(TALK)[1], SUPPORT, 7, 0)[1:] != drawn[0][1:]
    assert [one.reward for one in Imitated(SUPPORT, negatives=2)(STATE)] == [1.0, -1.0, -1.0]
    assert Imitated(SUPPORT).report() == ""


def test_a_model_is_loaded_at_its_first_question(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and it says so; what it is asked and answers is passed on."""
    loaded: list[Any] = []

    class Model:
        def fits(self, messages: Any) -> bool:
            return messages == ["short"]

        def write(self, messages: Any, seed: int | None = None) -> str:
            return f"{messages} {seed}"

        def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
            return [float(len(begun))] * len(candidates)

    monkeypatch.setattr(
        grading.LocalLLM, "load", lambda backbone, device: loaded.append(device) or Model()
    )
    lazy = LazyLLM(Backbone("tiny-llama"))
    assert lazy.name == "tiny-llama"
    assert not loaded
    assert lazy.fits(["short"])
    assert not lazy.fits(["long"])
    assert lazy.write(["hi"], 3) == "['hi'] 3"
    assert lazy.write(["hi"]) == "['hi'] None"
    assert lazy.score(["hi"], ["a", "b"], "begun") == [5.0, 5.0]
    assert len(loaded) == 1
    assert caplog.text.count("judge: asking tiny-llama (once; its answers are kept") == 1


def test_who_grades() -> None:
    """Seekers, or the judge that is given; with a file what it lacks is asked of that judge."""
    assert open_grader("feedback") is seeker_rating
    with pytest.raises(JudgeError, match="the seeker has not rated Question"):
        seeker_rating(STATE, STATE.target, 0)
