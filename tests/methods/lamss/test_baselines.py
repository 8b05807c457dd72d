"""Five ways to read doubt from a plain model, each against the plain formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.lamss.lamss_questions import CHOICES, OPENS, log_probabilities
from methods.lamss.lamss_sequences import Make
from methods.lamss.lamss_world import LEVELS, with_levels

import zoo
from zoo.methods.lamss.baseline_encoder import QUESTIONS, SURE, number_said
from zoo.records import PlainText, Question

ALL = ["sequence", "mean_sequence", "entropy", "p_true", "verbalised", "sure"]


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


def test_every_way_to_ask_has_a_question() -> None:
    assert set(QUESTIONS) == {"p_true", "verbalised", "sure"}
    assert {kind.__name__ for kind in zoo.ConfidentSFT.takes} == {"Question", "Triple", "PlainText"}
    assert PlainText in zoo.ConfidentSFT({"name": "tiny-llama"}).encoder().records
    assert SURE > 0
