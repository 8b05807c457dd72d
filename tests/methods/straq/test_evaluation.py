"""What straQ* shows of its plans: samples, predictions, figures, scores, a second try in a chat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK
from methods.straq.straq_rated_talk import VALUES

from zoo.methods.straq.evaluation import NUM_SHOWN, PlanReplyScores, StrategyPlan
from zoo.records import SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import STRATEGIES, SUPPORT
from zoo.support.reply import AnsweredDecision, SupportReply


def test_a_sample_shows_values_plan_and_reply(module: Any) -> None:
    """The values from the highest down; what was annotated beside what was chosen."""
    state = decisions(TALK)[0]
    plan = StrategyPlan("Others", VALUES)
    row = module.sample(state, plan)
    assert list(row) == ["state", "Q", "strategy"]
    shown = [part.rpartition(" ")[::2] for part in row["Q"].split(", ")]
    wanted = sorted(zip(STRATEGIES, VALUES, strict=True), key=lambda pair: -pair[1])
    assert shown == [(name, f"{value:.2f}") for name, value in wanted]
    assert row["strategy"] == "Others   [gold: Question]"
    row = module.sample(state, replace(plan, reply="So?"))
    assert row["reply"] == "So?   [gold: When?]"
    unnamed = replace(state, target=Turn(SUPPORTER, ""))
    row = module.sample(unnamed, replace(plan, reply="So?"))
    assert (row["strategy"], row["reply"]) == ("Others", "So?")


def test_a_prediction_has_a_reply_if_one_was_written(module: Any) -> None:
    state = decisions(TALK)[0]
    bare = module.prediction(state, StrategyPlan("Others", VALUES))
    assert bare["values"] == dict(zip(STRATEGIES, VALUES, strict=True))
    assert (bare["id"], bare["strategy"], bare["gold"]) == (state.id, "Others", "Question")
    assert "reply" not in bare
    spoken = module.prediction(state, StrategyPlan("Others", VALUES, ""))
    assert (spoken["reply"], spoken["gold_reply"]) == ("", "When?")


def test_states_of_a_figure_are_spread_over_all(module: Any, monkeypatch: Any) -> None:
    """At most six, from the first on, at equal distances; without answers no figure."""
    assert module.figures() == {}
    drawn: list[Any] = []
    monkeypatch.setattr(
        "zoo.methods.straq.evaluation.value_bars", lambda rows, names: drawn.append(rows)
    )
    state = decisions(TALK)[0]
    for count, places in ((3, [0, 1, 2]), (2 * NUM_SHOWN, list(range(0, 12, 2)))):
        many = [replace(state, turns=(replace(TALK.turns[0], text=f"{i}"),)) for i in range(count)]
        plans = [StrategyPlan("Others", VALUES)] * count
        module.answers = {f"{i}": pair for i, pair in enumerate(zip(many, plans, strict=True))}
        assert "values" in module.figures()
        assert [title for title, *_ in drawn[-1]] == [f"{i}" for i in places]
        assert {(values, gold) for _, values, gold in drawn[-1]} == {(VALUES, "Question")}


def test_scores_of_replies_are_those_of_texts() -> None:
    """Accuracy and bias are those of the plans; without replies there is no score."""
    scores = PlanReplyScores(SUPPORT)
    state = decisions(TALK)[0]
    answered = AnsweredDecision(state, SupportReply("When?", "Question"), "")
    scores.update([answered], [state.id])
    found = scores.compute()
    assert found["rouge_l"] == pytest.approx(100)
    assert found["answers"] == 1
    assert not {name for name in found if "accuracy" in name or "bias" in name}
    assert all(torch.tensor(value).isfinite() for value in found.values())


def test_a_second_try_follows_the_second_best(module: Any, monkeypatch: Any) -> None:
    """Of two equal best ones the one that was not planned."""
    waiting = Dialogue(TALK.turns[:3], id="talk:1")
    followed: list[str] = []

    def reply(states: Any, names: Any, device: Any) -> list[str]:
        followed.extend(names)
        return ["So?"]

    module.responder = reply
    for values in (VALUES, (1.0, 3.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0), (2.0, *VALUES[1:])):
        ranked = sorted(range(8), key=lambda i, values=values: -values[i])  # stable
        monkeypatch.setattr(
            module, "plan", lambda _, values=values: module.plans(torch.tensor([values]))
        )
        followed.clear()
        for temperature in (0.0, 1.0):
            notes, told = module.converse(waiting, temperature=temperature)
            assert told.turns[-1] == Turn(SUPPORTER, "So?", strategy=followed[-1])
            assert set(notes) == {"strategy", "Q"}
            assert notes["strategy"] == followed[-1]
        assert followed == [STRATEGIES[i] for i in ranked[:2]]
