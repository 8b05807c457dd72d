"""straQ*'s rewards: feedback, grades of a judge, their file and their scale."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from methods.straq.straq_rated_talk import talk
from support_judges import strategy

import zoo
from datamodules import ESConv
from zoo.errors import InputError
from zoo.judges.judge import JudgeError, ScriptedJudge
from zoo.methods.straq.grading import Distilled, open_grader
from zoo.methods.straq.rewards import Imitated, Judged
from zoo.support.decisions import Decision, decisions
from zoo.support.judging import SupportJudge
from zoo.support.labels import STRATEGIES, SUPPORT, Labels


class PlaceJudge(ScriptedJudge):
    """Fails on one strategy, grades the others by their place."""

    def __init__(self) -> None:
        super().__init__(self.grade_of)
        self.asked = 0

    def grade_of(self, asked: str) -> str:
        self.asked += 1
        assert "next reply" not in asked
        name = strategy(asked)
        if name == "Others":
            raise JudgeError("no words")
        return f"[[{STRATEGIES.index(name) / 2}]]"


def test_feedback_stands_in_where_it_is() -> None:
    """The next rating, for the logged strategy alone; nothing after the last rating."""
    reward = Distilled(lambda: open_grader("feedback"), SUPPORT, alternatives=7)
    found = [reward(decision) for decision in decisions(talk())]
    assert found == [[(0, 4.0, True)], [(2, 4.0, True)], [(3, 4.0, True)], []]


def test_who_has_no_ratings_is_told_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """The hub's files have none; with ratings only what was used is learned, and a log says so."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill", max_length=4096)
    module.validate()
    assert "feedback: the value of an alternative is never learned" in caplog.text
    made = module.encoder()
    made.study([talk()], "train")
    assert {one.logged for judged in made.studied.values() for one in judged} == {True}
    unrated = replace(talk(), turns=tuple(replace(t, feedback=None) for t in talk().turns))
    with pytest.raises(InputError, match=r"4 of 4 .* ratings stand in the authors' ESConv\.json"):
        made.study([unrated], "train")


def test_all_alternatives_may_be_graded() -> None:
    judge = PlaceJudge()
    grader = SupportJudge(judge).grade
    found = Distilled(lambda: grader, SUPPORT, alternatives=7, scale=0.03)(decisions(talk())[0])
    assert sorted(one.action for one in found) == list(range(7))  # Others failed
    assert judge.asked == 7 + 3
    assert [one.reward for one in found] == pytest.approx([0.03 * o.action / 2 for o in found])
    assert [one.logged for one in found] == [True] + [False] * 6


def test_grades_are_kept_on_file(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    judge = PlaceJudge()
    points = decisions(talk())
    first = Distilled(lambda: open_grader(str(path), SupportJudge(judge)), SUPPORT)
    graded = [first(point) for point in points]
    asked = judge.asked
    assert len(path.read_text().splitlines()) == asked >= 8
    again = Distilled(lambda: open_grader(str(path)), SUPPORT)
    assert [again(point) for point in points] == graded
    assert judge.asked == asked
    with pytest.raises(InputError, match="no such file of recorded answers"):
        open_grader(str(tmp_path / "none.jsonl"))


def test_a_model_grades(tmp_path: Path) -> None:
    """A local model is asked for what the file lacks; a random one says no number: no grade."""
    path = tmp_path / "grades.jsonl"
    grader = open_grader(str(path), zoo.Backbone("tiny-llama"))
    model = grader.__self__.judge
    assert "llm" not in vars(model)  # not loaded before it is asked
    model.llm.max_length, model.llm.max_new_tokens = 4096, 2
    reward = Distilled(lambda: grader, SUPPORT)
    assert reward(decisions(talk())[0]) == []
    assert reward.report().startswith("2 of 2 have no grade (")
    assert reward.report() == ""
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    assert {line["judge"] for line in lines} == {"tiny-llama"}
    assert len(lines) == 2 * 3


def test_scale_of_probabilities() -> None:
    """Grades of 5 have the value 1 at most: r = 5 (1 - gamma) / 5."""
    kinds = {
        readout: zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill", readout=readout)
        for readout in ("mean_logit", "token_prob")
    }
    rewards = []
    for module in kinds.values():
        module.judge = SupportJudge(ScriptedJudge(lambda asked: "[[5]]"))
        rewards.append({one.reward for one in module.encoder()(talk())[0].judged})
    assert rewards[0] == {5.0}
    (scaled,) = rewards[1]
    assert scaled / (1 - 0.85) == pytest.approx(1.0)


@dataclass(frozen=True)
class First(Imitated):
    """Rewards of first decisions alone, or of none."""

    labels: Labels = SUPPORT
    none: bool = False

    def __call__(self, decision: Decision) -> list[Judged]:
        return [] if decision.depth or self.none else super().__call__(decision)


def test_what_has_no_grade_is_not_trained_on() -> None:
    """Ungraded decisions are planned in evaluation and left out of training."""
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, reward="distill")
    module.judge = SupportJudge(PlaceJudge())
    data = ESConv(batch_size=1)
    made = module.encoder()
    made.reward = First()
    everything = data.examples("train", made)
    assert {bool(one.judged) for one in everything} == {True, False}
    assert len(data.train_dataloader()) == 5
    assert sum(len(batch.records) for batch in data.val_dataloader()) == len(everything)
    made.reward = First(labels=SUPPORT, none=True)
    with pytest.raises(InputError, match="model.reward: nothing to learn; no decision is graded"):
        ESConv().examples("train", made)
