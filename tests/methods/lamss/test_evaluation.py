"""Evaluation of methods that doubt their answers, with a script in place of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training import quiet_trainer

import zoo
from datamodules import FactWorld
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.methods.lamss.baselines import ConfidentSFT
from zoo.methods.lamss.evaluation import FILLER, DoubtedAnswer
from zoo.methods.lamss.metrics import auc, average_precision, calibration_error, tuned_threshold
from zoo.methods.lamss.questions import gold
from zoo.records import PlainText, Question, Triple


class Scripted(ConfidentSFT):
    """Answers rightly where the question's number is even; doubts by its number."""

    def __init__(self, **options: Any) -> None:
        super().__init__({"name": "tiny-llama"}, **options)
        self.asked: list[str] = []

    def losses(self, batch: Batch) -> dict[str, Term]:
        weight = torch.tensor(1.0)
        return {"answer": Term(self.lm.lm_head.weight[0, 0] * 0 + 1.0, weight)}

    def answer(self, records: Sequence[Any]) -> list[DoubtedAnswer]:
        answers = []
        for record in records:
            self.asked.append(record.id)
            number = int(record.id or 0)
            text = gold(record) if number % 2 == 0 else "nonsense"
            doubts = {"main": number / 10, "other": 1 - number / 10}
            answers.append(
                DoubtedAnswer(text, doubts, (("to", 0.0), ("ken", 1.0)), {"long": number})
            )
        return answers


class Records(FactWorld):
    """Given records, the same in every split."""

    def __init__(self, given: list[Any], **options: Any) -> None:
        super().__init__(**{"batch_size": 4, "eval_batch_size": 3, **options})
        self.given = given

    def load(self, split: str) -> list[Any]:
        return list(self.given)

    def check(self, encoder: Any) -> None:
        """Any records will do."""


QUESTIONS = [Triple(f"{i}?", "", "yes", kind="ab"[i // 4], id=str(i)) for i in range(8)]
DOUBTS = [i / 10 for i in range(8)]
RIGHT = [i % 2 == 0 for i in range(8)]


def trainer(**options: Any) -> Any:
    return quiet_trainer(**{"num_sanity_val_steps": 0, "max_epochs": 1, **options})


def test_scores_of_a_test_run() -> None:
    """Over all batches, of every score by its name, and by kind."""
    module = Scripted(eps=0.35)
    found = trainer().test(module, Records(QUESTIONS), verbose=False)[0]
    assert found["test/accuracy"] == 0.5
    assert found["test/accuracy_a"] == found["test/accuracy_b"] == 0.5
    assert found["test/willing_accuracy"] == 0.5  # 0, 1, 2, 3
    assert found["test/answer_rate"] == 0.5
    assert found["test/auc"] == pytest.approx(auc(DOUBTS, RIGHT))
    assert found["test/ap"] == pytest.approx(average_precision(DOUBTS, RIGHT))
    assert found["test/ece"] == pytest.approx(calibration_error(DOUBTS, RIGHT))
    other = [1 - u for u in DOUBTS]
    assert found["test/auc_other"] == pytest.approx(auc(other, RIGHT))
    assert found["test/answer_rate_other"] == pytest.approx(1 / 8)  # 0.3 < 0.35
    assert found["test/skepticism"] == pytest.approx(0.35)
    assert found["test/skepticism_a"] == pytest.approx(0.15)
    assert found["test/skepticism_b"] == pytest.approx(0.55)
    assert found["test/long"] == pytest.approx(3.5)
    assert found["test/threshold"] == pytest.approx(0.35)
    assert found["test/answer_loss"] == pytest.approx(1.0)


def test_a_question_is_answered_once_and_texts_never() -> None:
    """A record may have several examples, and a batch other records beside it."""
    module = Scripted()
    records = [PlainText("Just text.", id="p"), *QUESTIONS, *QUESTIONS[:3]]
    found = trainer().test(module, Records(records), verbose=False)[0]
    assert module.asked == [q.id for q in QUESTIONS]
    assert found["test/accuracy"] == 0.5
    module = Scripted()
    found = trainer().test(module, Records(records[:1]), verbose=False)[0]
    assert module.asked == []
    assert set(found) == {"test/answer_loss", "test/loss"}
    assert module.figures() == {}


def test_at_most_so_many_are_answered_in_each_run() -> None:
    module = Scripted(max_generated=4)
    for _ in range(2):
        trainer().validate(module, Records(QUESTIONS), verbose=False)
    assert module.asked == ["0", "1", "2", "3"] * 2


def test_a_process_without_questions_answers_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where weights are shared, others wait for it; what it answers is not counted."""
    module = Scripted()
    monkeypatch.setattr(Scripted, "everyone_done", property(lambda self: lambda done: False))
    module.log_terms = lambda *_: None
    module.configure_model()
    batch = SimpleNamespace(records=[PlainText("x")], normalizers={})
    assert module.validation_step(batch, 0) == {"samples": []}
    assert module.asked == [FILLER.id]
    assert module.answers == {}


def test_a_tuned_threshold_is_kept_for_the_test_and_saved(tmp_path: Path) -> None:
    expected = tuned_threshold(DOUBTS, RIGHT)
    assert expected not in (0.0, 0.5)
    module = Scripted(tune_eps=True)
    assert module.threshold == 0.5
    run = trainer()
    run.fit(module, Records(QUESTIONS))
    assert module.threshold == pytest.approx(expected)
    assert run.callback_metrics["val/threshold"].item() == pytest.approx(expected)
    run.save_checkpoint(tmp_path / "one.ckpt")
    again = Scripted(tune_eps=True)
    found = trainer().test(
        again, Records(QUESTIONS), tmp_path / "one.ckpt", verbose=False, weights_only=True
    )[0]
    assert found["test/threshold"] == pytest.approx(expected)
    fixed = Scripted(eps=0.25)
    fixed.configure_model()
    fixed.load_state_dict(torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"])
    assert fixed.threshold == 0.25, "nothing was to be tuned"


def test_a_threshold_just_above_full_doubt_answers_everything() -> None:
    """All answers are right and fully doubted: eps is the next float64 after 1, in full."""

    class Certain(Scripted):
        def answer(self, records: Sequence[Any]) -> list[DoubtedAnswer]:
            return [DoubtedAnswer(gold(record), {"main": 1.0}) for record in records]

    module, run = Certain(tune_eps=True), trainer()
    run.fit(module, Records(QUESTIONS))
    assert module.threshold == tuned_threshold([1.0] * 8, [True] * 8) > 1
    assert run.callback_metrics["val/answer_rate"].item() == 1.0
    assert run.callback_metrics["val/willing_accuracy"].item() == 1.0


def test_the_test_split_and_a_dry_run_tune_nothing() -> None:
    module = Scripted(tune_eps=True)
    trainer().test(module, Records(QUESTIONS), verbose=False)
    assert module.threshold == 0.5
    run = trainer(num_sanity_val_steps=2, max_steps=1, limit_val_batches=3, max_epochs=-1)
    seen = []
    hook = Scripted.on_train_start
    module.on_train_start = lambda: (seen.append(module.threshold), hook(module))
    run.fit(module, Records(QUESTIONS, eval_batch_size=1))
    assert seen == [0.5]


def test_show_says_everything() -> None:
    module = Scripted(eps=0.15)
    rows = module.show([PlainText("x"), *QUESTIONS[1:3]])
    assert list(rows[0]) == [
        *("question", "answer", "skepticism main", "skepticism other", "decision", "gold")
    ]
    assert rows[0]["question"] == "1?"
    assert rows[0]["skepticism main"] == "0.100"
    assert rows[0]["decision"] == "willing (threshold 0.150)"
    assert rows[1]["decision"] == "unwilling (threshold 0.150)"
    assert rows[0]["gold"] == "yes"
    assert rows[0]["answer"] == "\033[48;5;22mto\033[0m\033[48;5;88mken\033[0m"
    (row,) = module.show(QUESTIONS, prompt="What now?")
    assert row["question"] == "What now?"
    assert "gold" not in row


def test_show_refuses_what_it_cannot_show() -> None:
    module = Scripted()
    with pytest.raises(TypeError, match="given"):
        module.show(QUESTIONS, given="hm")
    with pytest.raises(InputError, match="no question among these records"):
        module.show([PlainText("x")])


def test_predictions_hold_answer_doubt_and_decision() -> None:
    module = Scripted()
    batches = trainer().predict(module, Records([PlainText("text"), *QUESTIONS]))
    rows = [row for batch in batches for row in batch]
    assert [row["id"] for row in rows] == [q.id for q in QUESTIONS]
    assert [row["right"] for row in rows] == RIGHT
    assert [row["willing"] for row in rows] == [u < 0.5 for u in DOUBTS]
    assert rows[3]["answer"] == "nonsense"
    assert rows[3]["gold"] == "yes"
    assert rows[3]["skepticism"] == {"main": 0.3, "other": 0.7}


def test_figures() -> None:
    module = Scripted()
    trainer().test(module, Records(QUESTIONS), verbose=False)
    drawn = module.figures()
    assert set(drawn) == {"risk_coverage", "tokens", "kinds"}
    lines = drawn["risk_coverage"].axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["main", "other"]
    rates, risks = lines[0].get_data()
    assert list(rates) == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert list(risks) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2, 2 / 5, 1 / 2, 3 / 7, 1 / 2])
    table = drawn["kinds"].axes[0].images[0].get_array()
    assert table.tolist() == [pytest.approx([0.5, 0.15]), pytest.approx([0.5, 0.55])]


def test_options_are_answered_too() -> None:
    questions = [Question(f"{i}?", ("yes", "no"), i % 2, id=str(i)) for i in range(4)]
    found = trainer().test(Scripted(), Records(questions), verbose=False)[0]
    assert found["test/accuracy"] == 0.5


def test_a_method_must_implement_both() -> None:
    from zoo.methods.lamss.evaluation import SelectiveModule

    bare = SelectiveModule({"name": "tiny-llama"}, None)
    for call in (lambda: bare.answer([]), lambda: bare.losses(None)):
        with pytest.raises(TypeError, match="SelectiveModule does not implement"):
            call()
    assert isinstance(zoo.ConfidentSFT({"name": "tiny-llama"}), SelectiveModule)
