"""Training a plain model to say whether it is sure: labels, loss, stages, refused settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.lamss.lamss_questions import CHOICES, OPENS, log_probabilities
from methods.lamss.lamss_sequences import Make
from training import quiet_trainer

import zoo
from datamodules import CommonsenseQA, FactWorld
from zoo.encoding import sum_head_weights
from zoo.errors import InputError
from zoo.methods.lamss.questions import gold, key
from zoo.records import Question, Triple


def trainer(**options: Any) -> Any:
    quiet = {"num_sanity_val_steps": 0, "limit_val_batches": 0, "max_epochs": -1}
    return quiet_trainer(**{**quiet, **options})


class Questions(FactWorld):
    """Given records as a data module."""

    def __init__(self, train: list[Any], **options: Any) -> None:
        super().__init__(form="choice", **options)
        self.given = train

    def load(self, split: str) -> list[Any]:
        return list(self.given)


def test_the_labels_are_what_the_model_gets_right_before_training(make: Make) -> None:
    """And stay so: training changes the model, not the labels."""
    records = [r for r in CommonsenseQA().records("train") if isinstance(r, Question)][:8]
    records = [*CHOICES, *records]
    module = make("ConfidentSFT", "tiny-llama", spread=4.0, confidence=["sure"])
    before = {
        key(r): a.text == gold(r) for r, a in zip(records, module.answer(records), strict=True)
    }
    assert set(before.values()) == {True, False}, "choose another spread"
    optimizer = {"lr": 0.05}
    module = zoo.ConfidentSFT({"name": "tiny-llama"}, optimizer, confidence=["sure"])
    module.configure_model()
    with torch.no_grad():
        for parameter in module.lm.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    data = Questions(records, batch_size=3, eval_batch_size=4)
    trainer(max_steps=6).fit(module, data)
    assert module.was_right == before
    after = {
        key(r): a.text == gold(r) for r, a in zip(records, module.answer(records), strict=True)
    }
    assert after != before, "it does not train"


@pytest.mark.parametrize("packed", [True, False])
def test_sure_loss_by_hand(make: Make, shape: str, packed: bool) -> None:
    """The cross-entropy of ` sure` or ` unsure` after the gold answer and the question."""
    module = make("ConfidentSFT", shape, spread=3.0, confidence=["sure"], padding_free=packed)
    module.was_right = {"1": True, "2": False, "3": True, "4": False}
    records = [*CHOICES, OPENS[0]]
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    batch = encoder.collate(examples, sum_head_weights(examples))
    module.train()
    kept = batch.labels.clone()
    terms = module.losses(batch)
    assert torch.equal(batch.labels, kept), "the batch is not changed"
    expected = {"answer": [], "sure": []}
    start, sure, unsure = encoder.reaction("sure")
    for record in records:
        answer = encoder.ids(gold(record) + encoder.chat.end)
        logp = log_probabilities(module.lm, encoder.prompt(record), answer)
        expected["answer"] += (-logp[range(len(answer)), answer]).tolist()
        token = sure if module.was_right[record.id] else unsure
        before = encoder.after(record, gold(record), "sure") + start
        expected["sure"].append(-log_probabilities(module.lm, before, [token])[0, token].item())
    assert set(terms) == set(expected)
    for name, values in expected.items():
        assert terms[name].loss.item() == pytest.approx(sum(values) / len(values), abs=1e-4), name
    module.eval()
    assert set(module.losses(batch)) == {"answer"}, "nobody knows the labels of other questions"


@pytest.mark.parametrize("knows", [True, False])
def test_a_model_learns_to_be_sure_or_unsure(knows: bool) -> None:
    """Told that it knows everything, or nothing, it says so."""
    records = [Triple(word, "", word, system=".", id=word) for word in ("aa", "bb")]
    optimizer = {"lr": 0.01, "schedule": "constant", "warmup_ratio": 0.0}
    module = zoo.ConfidentSFT({"name": "tiny-llama"}, optimizer, confidence=["sure"])
    module.was_right = {"aa": knows, "bb": knows}
    trainer(max_steps=8).fit(module, Questions(records, batch_size=2))
    doubts = [answer.skepticism["sure"] for answer in module.answer(records)]
    assert max(doubts) < 0.2 if knows else min(doubts) > 0.8


def test_questions_that_do_not_fit_are_not_asked_either() -> None:
    """`data.too_long: drop`: the labels of before training are of the other questions."""
    records = [Triple(word, "", "yes", system=".", id=word) for word in ("short", "long " * 200)]
    backbone, options = {"name": "tiny-llama"}, {"max_length": 512, "max_new_tokens": 2}
    module = zoo.ConfidentSFT(backbone, confidence=["sure"], **options)
    trainer(max_steps=1).fit(module, Questions(records, batch_size=1, too_long="drop"))
    assert set(module.was_right) == {"short"}


def test_an_answer_that_was_right_half_of_the_time_is_half_doubted() -> None:
    records = [Triple("a", "", answer, system=".", id=answer) for answer in ("x", "y")]
    optimizer = {"lr": 0.01, "schedule": "linear", "warmup_ratio": 0.0}
    module = zoo.ConfidentSFT(
        {"name": "tiny-llama"}, optimizer, confidence=["sequence", "entropy"], max_new_tokens=3
    )
    trainer(max_steps=40).fit(module, Questions(records, batch_size=2))
    (found,) = module.answer(records[:1])
    assert found.text in ("x", "y")
    assert found.skepticism["sequence"] == pytest.approx(0.5, abs=0.1)
    # ln 2 nats at the letter, none at the stop token
    expected = math.log(2) / math.log(module.lm.config.vocab_size) / 2
    assert expected - 0.01 < found.skepticism["entropy"] < 0.2  # at first it is 1


def test_stages_and_resume(tmp_path: Path) -> None:
    """Text, then questions; a resumed run keeps the labels that it began with."""
    options = {"confidence": ["sure", "entropy"], "max_new_tokens": 2, "tune_eps": True}
    module = zoo.ConfidentSFT({"name": "tiny-llama"}, **options)
    text = FactWorld("text", max_train=4, max_val=2)
    run = trainer(max_steps=2, limit_val_batches=1, val_check_interval=1)
    run.fit(module, text)
    assert "val/text_loss" in run.callback_metrics
    assert "train/text_loss" in run.callback_metrics
    assert not {"val/auc", "train/sure_loss"} & set(run.callback_metrics)
    assert module.was_right == {}
    module.was_right = None
    data = FactWorld(form="choice", max_train=4, max_val=12, eval_batch_size=6)
    run = trainer(max_steps=2, limit_val_batches=1.0, check_val_every_n_epoch=2)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "last.ckpt")
    assert len(module.was_right) == 4
    again = zoo.ConfidentSFT({"name": "tiny-llama"}, **options)
    again.configure_model()
    flipped = {name: not value for name, value in module.was_right.items()}
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    saved["was_right"] = flipped  # what only the checkpoint says
    torch.save(saved, tmp_path / "other.ckpt")
    trainer(max_steps=3).fit(again, data, ckpt_path=tmp_path / "other.ckpt", weights_only=True)
    assert again.was_right == flipped
    assert again.threshold == module.threshold


def test_export_keeps_weights_and_threshold(make: Make, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    module = make("ConfidentSFT", "tiny-qwen2", tune_eps=True, max_new_tokens=2)
    module.tuned_eps.fill_(0.375)
    zoo.export.save(module, tmp_path / "out")
    again = zoo.load(tmp_path / "out")
    assert again.threshold == 0.375
    ours, theirs = module.answer(CHOICES), again.answer(CHOICES)
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert ours[0].skepticism == pytest.approx(theirs[0].skepticism)
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    torch.testing.assert_close(lm.model.norm.weight, module.lm.model.norm.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": ["entropie"]}, "'entropie'; did you mean 'entropy'"),
        ({"confidence": []}, "is empty or repeats itself"),
        ({"confidence": ["sure", "sure"]}, "is empty or repeats itself"),
        ({"eps": 1.5}, "model.eps: 1.5 is not in"),
        ({"eps": -0.1}, "model.eps: -0.1 is not in"),
        ({"eps": math.nan}, "model.eps: nan is not in"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.ConfidentSFT({"name": "tiny-llama"}, **options)


def test_sure_needs_a_data_module() -> None:
    module = zoo.ConfidentSFT({"name": "tiny-llama"}, confidence=["sure"])
    encoder = module.encoder()
    examples = [example for record in CHOICES for example in encoder(record)]
    batch = encoder.collate(examples, sum_head_weights(examples))
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    with pytest.raises(InputError, match="'sure' needs a data module"):
        trainer(max_steps=1).fit(module, loader)
