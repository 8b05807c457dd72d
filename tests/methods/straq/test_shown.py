"""What straQ* shows of its values: bars, rows of samples, which scores, a second try in a chat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK
from matplotlib.colors import same_color

from zoo.errors import InputError
from zoo.methods.straq.evaluation import NUM_SHOWN, PlanReplyScores, StrategyPlan
from zoo.methods.straq.plots import value_bars
from zoo.methods.straq.prompts import letters
from zoo.records import SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import STRATEGIES, SUPPORT
from zoo.support.reply import AnsweredDecision, SupportReply

VALUES = (0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 0.25, 0.75)


def test_bars_are_the_values_of_each_state() -> None:
    """The best one alone is coloured, the right one framed; the first option is on top."""
    rows = [("one state", VALUES, STRATEGIES[4]), ("a second\nstate" * 9, VALUES[::-1], "")]
    drawn = value_bars(rows, STRATEGIES).axes
    assert len(drawn) == 2
    for axes, (_, values, gold) in zip(drawn, rows, strict=True):
        assert [bar.get_width() for bar in axes.patches] == list(values)
        best = [same_color(bar.get_facecolor(), "tab:blue") for bar in axes.patches]
        assert best == [value == max(values) for value in values]
        framed = [same_color(bar.get_edgecolor(), "tab:green") for bar in axes.patches]
        assert framed == [name == gold for name in STRATEGIES]
        assert {bar.get_linewidth() for bar, f in zip(axes.patches, framed, strict=True) if f} <= {
            2.0
        }
        assert [tick.get_text() for tick in axes.get_yticklabels()] == list(STRATEGIES)
        top, bottom = axes.transData.transform([(0, 0), (0, len(values) - 1)])[:, 1]
        assert top > bottom
        low, high = axes.get_xlim()
        room = 0.1 * (max(values) - min(values))  # on both sides, so that no bar ends at the edge
        assert (low, high) == pytest.approx((min(values) - room, max(values) + room), abs=1e-4)
    assert drawn[0].get_title() == "one state"
    assert len(drawn[1].get_title()) <= 60


def test_equal_values_can_be_drawn() -> None:
    (axes,) = value_bars([("all alike", (0.0, 0.0), "A")], ["A", "B"]).axes
    low, high = axes.get_xlim()
    assert low < 0 < high


def test_letters_are_in_order() -> None:
    assert letters(SUPPORT) == list("ABCDEFGH")


@pytest.fixture
def module(make: Any) -> Any:
    return make("StraQ", "tiny-llama", max_length=4096)


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


def test_training_logs_the_mean_value_and_the_loss(module: Any) -> None:
    """Of all strategies of all states of the step."""
    encoder = module.encoder()
    batch = encoder.collate(encoder(TALK), {})
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.log_terms = lambda stage, terms: logged.update(
        {f"{stage}/{name}": term.mean.item() for name, term in terms.items()}
    )
    loss = module.training_step(batch, 0)
    assert logged["train/value"] == pytest.approx(module(batch.now).mean().item())
    assert logged["train/td"] == pytest.approx(loss.item())


def test_a_batch_moves_as_a_whole(module: Any) -> None:
    encoder = module.encoder()
    batch = encoder.collate(encoder(TALK), {0: 3.0})
    moved = batch.to("meta")
    tensors = [moved.state, moved.action, moved.reward, moved.done]
    assert all(part.is_meta for part in (*tensors, moved.now.input_ids, moved.after.input_ids))
    assert (moved.normalizers, moved.records) == ({0: 3.0}, batch.records)
    assert moved.counts() == {
        "tokens": sum(batch.now.lengths) + sum(batch.after.lengths),
        "transitions": 4,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": -0.1}, r"model.gamma: -0.1 is not in 0\.\.1"),
        ({"alternatives": -1}, r"model.alternatives: -1 is not in 0\.\.7"),
        ({"labels": "acts", "alternatives": 4}, r"model.alternatives: 4 is not in 0\.\.3"),
        ({"objective": "cross_entropy", "reward": "distill"}, "model.reward: distill needs"),
    ],
)
def test_settings_that_do_not_fit(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make("StraQ", "tiny-llama", **options)


def test_settings_at_their_ends_fit(make: Any) -> None:
    make("StraQ", "tiny-llama", gamma=0.0, alternatives=7)
    graded = {"reward": "distill", "grades": "grades.jsonl"}
    make("StraQ", "tiny-llama", labels="acts", alternatives=3, **graded)


def test_a_preview_says_that_nothing_is_learned(module: Any) -> None:
    encoder = module.encoder()
    first, last = encoder(TALK)
    assert encoder.preview(replace(first, judged=(), ends=()))[-1] == "rewards     none"
    said = encoder.preview(first)[-1]
    assert said.startswith("rewards     Question +1 (logged), ")
    assert said.endswith(f"; then a prompt of {len(last.ids)} tokens")
