"""The optional retriever: its loss from the equation, what it moves and what it does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import zoo
from zoo.backbone import LoRA
from zoo.errors import InputError
from zoo.methods.sova.expected import RULES, expected_action
from zoo.methods.sova.principles import corpus, curated
from zoo.methods.sova.retrieval import as_chunk
from zoo.methods.sova.retriever import candidates, positives, query
from zoo.records import Dilemma

RULE = "maslow_growth"


@pytest.fixture
def retriever(make: Any) -> Any:
    def build(**options: Any) -> Any:
        backbone = {"lora": LoRA(rank=4)}
        options = {"max_length": 8192, "read_text": False, "rule": RULE, **options}
        return make("SoVA", "tiny-llama", kind="retriever", backbone=backbone, **options)

    return build


def loss_of(module: Any, dilemmas: list[Dilemma]) -> torch.Tensor:
    encoder = module.encoder()
    batch = encoder.collate([e for dilemma in dilemmas for e in encoder(dilemma)], {})
    loss: torch.Tensor = module.losses(batch)["retriever"].loss
    return loss


def vector(module: Any, text: str) -> torch.Tensor:
    """Return the mean of a text's normed states, length 1, by a plain forward pass."""
    ids = torch.tensor([module.encoder().ids(text)])
    states = module.lm.model(ids).last_hidden_state[0]
    return F.normalize(states.mean(0), dim=0)


@pytest.mark.parametrize("padding_free", [True, False])
def test_the_loss_is_the_equation(retriever, dilemmas, padding_free):
    """(I1), a text at a time; t = 0.05, positives: labels of the expected action."""
    module = retriever(padding_free=padding_free)
    needs = [item for item in curated() if item.theory == "maslow"]
    with torch.no_grad():
        principles = torch.stack([vector(module, item.rule) for item in needs])
        losses = []
        for dilemma in dilemmas:
            expected = expected_action(dilemma, RULE)
            if expected is None:
                continue
            logps = (principles @ vector(module, dilemma.situation) / 0.05).log_softmax(0)
            labels = dilemma.action(expected).of("maslow")
            fits = torch.tensor([item.label in labels for item in needs])
            assert 0 < fits.sum() < len(needs)
            losses.append(-logps[fits].mean())
        assert len(losses) >= 3
        found = loss_of(module, dilemmas)
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-4)


def test_training_moves_the_retrieval_and_not_the_decision(retriever, make, dilemmas):
    module = retriever()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    before = module.retrieval.principles_near([dilemmas[0].situation], 400)
    odds = [answer.odds for answer in module.decide(dilemmas[:2], [[], []])]
    pasted = module.near_principles([d.situation for d in dilemmas[:2]])
    start = float(loss_of(module, dilemmas).detach())
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(module, dilemmas).backward()
        optimizer.step()
    assert float(loss_of(module, dilemmas).detach()) < start - 0.1
    assert module.retrieval.principles_near([dilemmas[0].situation], 400) != before
    module.near_principles = lambda situations: pasted
    after = [answer.odds for answer in module.decide(dilemmas[:2], [[], []])]
    assert after == odds


def test_vectors_of_principles_follow_the_training(retriever, dilemmas):
    """Between two steps and after the last one, they are those of the weights of then."""
    module = retriever()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, fused=True)
    rule = as_chunk(corpus()[0])
    for _ in range(3):
        loss_of(module, dilemmas).backward()
        optimizer.step()
        with torch.no_grad():
            module.retrieval.principles_near([dilemmas[0].situation], 400)
            assert torch.allclose(module.retrieval.vectors_PD[0], vector(module, rule), atol=1e-5)


def test_a_retriever_is_an_adapter(make):
    with pytest.raises(
        InputError, match="retriever is an adapter, so it needs model.backbone.lora"
    ):
        make("SoVA", "tiny-llama", kind="retriever")


def test_positives_are_the_principles_of_the_expected_actions_labels(
    dilemmas: list[Dilemma],
) -> None:
    """Each has an equal share of one; a text shorter than they are teaches fewer."""
    rule = "maslow_growth"
    record = next(d for d in dilemmas if expected_action(d, rule))
    labels = set(record.action(expected_action(record, rule)).of(RULES[rule][0]))
    found = positives(record, rule)
    assert {candidates(rule)[i].label for i in found} == labels
    assert len(found) == sum(item.label in labels for item in candidates(rule))
    assert positives(dataclasses.replace(record, not_to_do=record.to_do), rule) == []
    example = query(list(range(90)), record, rule, 0)
    assert example.labels[: len(found)] == found
    assert example.weights[: len(found)] == pytest.approx([1 / len(found)] * len(found))
    assert example.head_weights() == {0: pytest.approx(1.0)}
    short = query([5], record, rule, 0)
    assert (short.labels[0], short.weights[0]) == (found[0], 1.0)


def test_a_retriever_needs_an_adapter(make: Any) -> None:
    with pytest.raises(
        InputError, match="retriever is an adapter, so it needs model.backbone.lora"
    ):
        make("SoVA", "tiny-llama", kind="retriever")
    made = zoo.SoVA({"name": "tiny-llama"}, kind="sft")
    assert made.untrained() == ""
    assert (
        zoo.SoVA({"name": "tiny-llama"}).untrained().startswith("model.kind: sova is not trained")
    )
