"""straQ*'s rewards: as many negatives as positives; what has no strategy or no grade."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from methods.straq.straq_dialogue import DIALOGUE, batch_of, talk
from methods.straq.straq_reference import NAMES

import zoo
from datamodules import ESConv
from zoo.errors import InputError
from zoo.judges.judge import ScriptedJudge
from zoo.methods.straq.encoder import Transition
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.judging import SupportJudge

# -- 5: rewards by imitation -------------------------------------------------------------------


def imitated(records: Sequence[Dialogue]) -> list[Transition]:
    encoder = zoo.StraQ(backbone={"name": "tiny-llama"}, max_length=10**6).encoder()
    return [example for record in records for example in encoder(record)]


def check_imitation(examples: Sequence[Transition]) -> Counter[str]:
    """Check every state; return how often each strategy is the wrong one."""
    drawn: Counter[str] = Counter()
    for example in examples:
        rewards = {one.logged: (NAMES[one.action], one.reward) for one in example.judged}
        assert len(example.judged) == len(rewards) == 2
        assert rewards[True] == (example.record.target.strategy, 1.0)
        name, reward = rewards[False]
        assert name != example.record.target.strategy
        assert reward == -1.0
        drawn[name] += 1
    return drawn


@pytest.mark.fidelity("straq", 5)
def test_as_many_negatives_as_positives() -> None:
    """Each state has its logged strategy with +1 and one other with -1; the same in every run."""
    records = ESConv().records("train")
    examples = imitated(records)
    check_imitation(examples)
    assert imitated(records) == examples
    many = [talk(("", f"{i}"), (NAMES[i % 8], "x")) for i in range(800)]
    named = [Dialogue(d.turns, id=f"talk:{i}") for i, d in enumerate(many)]
    drawn = check_imitation(imitated(named))
    assert set(drawn) == set(NAMES)
    assert max(drawn.values()) < 140  # 100 expected of each, spread 9.4


@pytest.mark.fidelity("straq", 5)
@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs ESConv in $ZOO_DATA/esconv")
def test_negatives_of_esconv() -> None:
    path = str(Path(os.environ["ZOO_DATA"]) / "esconv")
    examples = imitated(ESConv(path).records("test"))
    assert len(examples) > 2000
    assert set(check_imitation(examples)) == set(NAMES)


# -- beside the properties ---------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["imit", "distill"])
def test_dialogues_without_strategies_are_planned(make: Any, reward: str) -> None:
    """Nothing is learned of them, `test` and `predict` plan them, and training refuses them."""
    module = make("StraQ", "tiny-llama", reward=reward)
    silent = Dialogue((Turn(SEEKER, "I lost my job."), Turn(SUPPORTER, "When?")), id="talk:2")
    encoder = module.encoder()
    encoder.study([silent], "test")
    examples = encoder(silent)
    assert [example.judged for example in examples] == [()]
    assert len(encoder.preview(examples[0])) > 1
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    module.log_terms = lambda *_: None
    module.test_step(batch_of(module, examples), 0)
    module.log_scores("test")
    assert list(logged) == ["test/planned_value"]
    module.start_evaluation()
    (row,) = module.predict_step(batch_of(module, examples), 0)
    assert (row["id"], row["gold"]) == ("talk:2, turn 1", "")
    with pytest.raises(InputError, match="talk:2: no supporter turn has a support strategy"):
        encoder.study([silent], "train")


def test_grades_are_opened_for_training_alone(make: Any, tmp_path: Path, caplog: Any) -> None:
    """A planner needs no file of grades to plan; held-out decisions are not graded."""
    module = make("StraQ", "tiny-llama", reward="distill", grades=str(tmp_path / "gone.jsonl"))
    assert module.plan([DIALOGUE])[0].strategy in NAMES
    encoder = module.encoder()
    encoder.study([DIALOGUE], "test")
    assert [example.judged for example in encoder(DIALOGUE)] == [()] * 4
    with pytest.raises(InputError, match=r"gone.jsonl: no such file of recorded answers"):
        encoder.study([DIALOGUE], "train")
    with pytest.raises(InputError, match="model.reward: distill needs model.objective: td"):
        make("StraQ", "tiny-llama", reward="distill", objective="cross_entropy")


def test_missing_grades_are_counted(make: Any, caplog: Any) -> None:
    """Some: a warning with their number and why; all: nothing can be learned."""
    unrated = make("StraQ", "tiny-llama", reward="distill").encoder()
    with pytest.raises(InputError, match=r"nothing to learn; 4 of 4 have no grade \(.*not rated"):
        unrated.study([DIALOGUE], "train")

    def slow(asked: str) -> str:
        if "\nSupporter" in asked:  # not the first decision
            raise TimeoutError("30 seconds")
        return "[[3]]"

    module = make("StraQ", "tiny-llama", reward="distill")
    module.judge = SupportJudge(ScriptedJudge(slow))
    encoder = module.encoder()
    with caplog.at_level("WARNING"):
        encoder.study([DIALOGUE], "train")
    assert "rewards of train: 6 of 8 have no grade (TimeoutError: 30 seconds)" in caplog.text
