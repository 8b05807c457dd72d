"""Five ways to read doubt from a plain model, each against the plain formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.lamss.lamss_world import LEVELS, with_levels
from training import quiet_trainer

import zoo
from datamodules import CommonsenseQA, FactWorld
from zoo.encoding import sum_head_weights
from zoo.errors import InputError
from zoo.methods.lamss.baseline_encoder import QUESTIONS, SURE, number_said
from zoo.methods.lamss.questions import gold, key
from zoo.records import PlainText, Question, Triple

Make = Callable[..., Any]
ALL = ["sequence", "mean_sequence", "entropy", "p_true", "verbalised", "sure"]
CHOICES = [
    Question("Where?", ("bag", "box", "hat"), 1, kind="a", id="1"),
    Question("What is the longest word of all?", ("a", "bb"), 0, kind="b", id="2"),
    Question("Who was it?", ("Ann", "Bob", "Cy", "Di"), 3, kind="a", id="3"),
]
OPENS = [Triple("Why?", "", "so", id="4"), Triple("Who sails on it at night?", "", "Ann", id="5")]


def log_probabilities(lm: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Return log p(. | prompt, answer so far) before each token of the answer, `(T, V)`."""
    with torch.no_grad():
        logits = lm(torch.tensor([prompt + answer])).logits[0]
    return logits[len(prompt) - 1 : -1].float().log_softmax(-1)


def read_plainly(module: Any, record: Any, text: str) -> dict[str, float]:
    """Compute every doubt about an answer with whole forward passes over one record."""
    encoder, lm = module.encoder(), module.lm
    answer = encoder.ids(text)
    if len(answer) < module.max_new_tokens:
        answer = [*answer, encoder.stop_id]
    logp = log_probabilities(lm, encoder.prompt(record), answer)
    chosen = logp[range(len(answer)), answer]
    entropy = -(logp.exp() * logp).sum(-1) / math.log(logp.shape[1])
    found = {
        "sequence": 1 - chosen.sum().exp().item(),
        "mean_sequence": 1 - chosen.mean().exp().item(),
        "entropy": entropy.mean().item(),
    }
    for name, (calm, doubtful) in {"p_true": ("Y", "N"), "sure": ("I am s", "I am u")}.items():
        before = encoder.after(record, text, name)
        pair = [
            log_probabilities(lm, before, encoder.ids(said))[-1][encoder.ids(said)[-1]]
            for said in (calm, doubtful)
        ]
        found[name] = torch.stack(pair).softmax(0)[1].item()
    ids = encoder.after(record, text, "verbalised")
    said: list[int] = []
    while len(said) < 8 and encoder.stop_id not in said:
        said.append(int(lm(torch.tensor([ids + said])).logits[0, -1].argmax()))
    number = number_said(module.tokenizer.decode(said))
    return {**found, "verbalised": 0.5 if number is None else 1 - number}


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
def test_doubts_are_those_of_plain_forward_passes(make: Make, name: str) -> None:
    """A batch of unequal questions; of those with options the letter and the stop count."""
    module = make("ConfidentSFT", name, spread=4.0, confidence=ALL, max_new_tokens=3)
    text_of = {}
    for records in (CHOICES[1:2], [OPENS[0], *CHOICES]):
        for record, found in zip(records, module.answer(records), strict=True):
            assert list(found.skepticism) == ALL
            assert text_of.setdefault(record.id, found.text) == found.text, "alone or in a batch"
            if isinstance(record, Question):
                assert found.text in "ABCD"[: len(record.options)]
                expected = read_plainly(module, record, found.text)
                assert found.skepticism == pytest.approx(expected, abs=1e-4)
            assert all(0 <= value <= 1 for value in found.skepticism.values())


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
def test_doubts_about_open_answers(make: Make, name: str) -> None:
    """An answer cut at the limit has no stop token."""
    module = make("ConfidentSFT", name, spread=4.0, confidence=ALL, max_new_tokens=3)
    encoder = module.encoder()
    for record in OPENS:
        ids: list[int] = []
        while len(ids) < 3:  # greedy, by whole passes
            logits = module.lm(torch.tensor([encoder.prompt(record) + ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
        assert encoder.stop_id not in ids, "choose another spread: this test is about the limit"
        logp = log_probabilities(module.lm, encoder.prompt(record), ids)
        chosen = logp[range(3), ids]
        (found,) = module.answer([record])
        assert found.text == module.tokenizer.decode(ids).strip()
        assert found.skepticism["sequence"] == pytest.approx(
            1 - chosen.sum().exp().item(), abs=1e-5
        )
        shades = [shade for _, shade in found.tokens]
        assert shades == pytest.approx((1 - chosen.exp()).tolist(), abs=1e-5)
        assert len(found.tokens) == 3


@torch.no_grad()
def test_levels_of_a_backbone_have_no_part(tmp_path: Path) -> None:
    """Of an export of LaMsS no level is said, and probabilities are among the other tokens."""
    backbone = zoo.Backbone(with_levels(tmp_path / "model", interleave=True))
    module = zoo.ConfidentSFT(backbone, confidence=["sequence", "entropy"], max_new_tokens=3)
    module.configure_model()
    module.eval()
    for record, found in zip(OPENS, module.answer(OPENS), strict=True):
        ids: list[int] = []
        doubts, entropies = [], []
        while len(ids) < 3 and 258 not in ids:
            prompt = torch.tensor([module.encoder().prompt(record) + ids])
            chances = module.lm(prompt).logits[0, -1, : LEVELS[0]].softmax(-1)
            ids.append(int(chances.argmax()))
            doubts.append(1 - chances.max().item())
            entropies.append(torch.special.entr(chances).sum().item() / math.log(264))
        assert [shade for _, shade in found.tokens] == pytest.approx(doubts[:3], abs=1e-5)
        assert found.skepticism["entropy"] == pytest.approx(sum(entropies) / len(ids), abs=1e-5)


def test_uniform_logits(make: Make) -> None:
    """Nothing is known: the entropy is all of ln V, p(A|Q) is V^-n, yes and no are as likely."""
    module = make("ConfidentSFT", "tiny-llama", confidence=ALL, max_new_tokens=2)
    with torch.no_grad():
        module.lm.lm_head.weight.zero_()
    for record, found in zip(CHOICES, module.answer(CHOICES), strict=True):
        vocabulary = module.lm.config.vocab_size
        assert found.skepticism["entropy"] == pytest.approx(1.0, abs=1e-5)
        assert found.skepticism["sequence"] == pytest.approx(1 - vocabulary**-2, abs=1e-6)
        assert found.skepticism["mean_sequence"] == pytest.approx(1 - 1 / vocabulary, abs=1e-6)
        assert found.skepticism["p_true"] == found.skepticism["sure"] == pytest.approx(0.5)
        assert found.skepticism["verbalised"] == 0.5
        assert found.counts == {"unparsed": 1.0}
        assert found.text == "A", record  # the first of equals


# -- training ----------------------------------------------------------------------------------


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
        ({"confidence": ["entropie"]}, "no 'entropie'; did you mean 'entropy'"),
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


def test_every_way_to_ask_has_a_question() -> None:
    assert set(QUESTIONS) == {"p_true", "verbalised", "sure"}
    assert {kind.__name__ for kind in zoo.ConfidentSFT.takes} == {"Question", "Triple", "PlainText"}
    assert PlainText in zoo.ConfidentSFT({"name": "tiny-llama"}).encoder().records
    assert SURE > 0
