"""Losses of the world model beside their equations: utterances, grades, preferences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, letter_logps, module_of, states_of

import zoo
from zoo.encoding import sum_head_weights
from zoo.losses.cross_entropy import total_loss
from zoo.records import SUPPORTER, Turn


def test_utterances_are_a_mean_over_their_tokens(module: Any) -> None:
    """L_obs of each state; one that ends with a reply has none and counts none."""
    world, (first, second) = module.world, states_of(0, 1)
    silent = replace(second, decision=replace(second.decision, turns=second.decision.turns[:2]))
    alone = [world.utterances([state], 1.0).sum.detach() for state in (first, second)]
    both = world.utterances([first, silent, second], 3.0)
    assert both.sum.item() == pytest.approx(float(sum(alone)), rel=1e-5)
    assert (float(both.weight), both.normalizer) == (2, 3)
    encoder = module.encoder()
    ids = [*encoder.observation(first), *(said := encoder.said(first.decision.query))]
    with torch.no_grad(), zoo.adapters.using(module.lm, "world_model"):
        logp = module.lm(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    nll = -logp.gather(1, torch.tensor(ids[1:])[:, None])[-len(said) :, 0].mean()
    assert float(alone[0]) == pytest.approx(float(nll), rel=1e-4)


def test_grades_of_a_user_are_learned_by_squares(module: Any) -> None:
    """Half the squared error; who gave none adds nothing and counts none."""
    states, reply = states_of(0, 1), Turn(SUPPORTER, "So.")
    with torch.no_grad():
        rewards = module.world.rewards(states, [reply] * 2).tolist()
    term = module.world._grades([(states[0], reply, 0.5), (states[1], reply, None)])
    assert float(term.sum) == pytest.approx(0.5 * (rewards[0] - 0.5) ** 2, rel=1e-5)
    assert (float(term.weight), term.normalizer) == (1, 1)
    none = module.world._grades([(states[0], reply, None)])
    assert (float(none.sum), float(none.weight), none.normalizer) == (0, 0, 1)


def test_preferences_are_those_of_bradley_and_terry(module: Any) -> None:
    """-log sigmoid of what the data's reply has more than the other one, for each state."""
    states, worse = states_of(0, 1), [Turn(SUPPORTER, "No."), Turn(SUPPORTER, "Go away.")]
    with torch.no_grad():
        good = module.world.rewards(states, [s.decision.target for s in states])
        bad = module.world.rewards(states, worse)
    term = module.world._preference(states, worse, 2.0)
    assert float(term.sum) == pytest.approx(float((1 + (bad - good).exp()).log().sum()), rel=1e-5)
    assert (float(term.weight), term.normalizer) == (2, 2)


def joint_nll(module: Any, prompt: list[int], label_of: dict[str, str]) -> float:
    """Return -log of the chance of a belief: of each letter among those of its factor."""
    path = [f.labels.index(label_of[f.name]) for f in module.factors]
    with torch.no_grad():
        rows = letter_logps(module, prompt, path)
    return -sum(float(row[index]) for row, index in zip(rows, path, strict=True))


def test_beliefs_are_learned_as_a_whole(make: Any) -> None:
    """L_bel and L_prior are means over states of -log of all three labels together."""
    module = module_of(make, weights={"observation": 0.0, "kl": 0.0, "prior": 1.0})
    encoder = module.encoder()
    examples = encoder(dialogue())
    normalizers = encoder.collate(examples, sum_head_weights(examples)).normalizers
    states = [encoder.state(example.record) for example in examples]
    named = [dict(zip([f.name for f in module.factors], s.belief, strict=True)) for s in states]
    assert len(named) == 2
    assert all(label for labels in named for label in labels.values())
    terms = module.world.losses(states, normalizers, names=["a", "b"])
    total = 0.0
    for name, prompt in (("belief", encoder.posterior), ("prior", encoder.prior)):
        pairs = zip(states, named, strict=True)
        wanted = sum(joint_nll(module, prompt(s), labels) for s, labels in pairs) / 2
        assert float(terms[name].loss) == pytest.approx(wanted, rel=1e-5)
        assert float(terms[name].mean) == pytest.approx(wanted, rel=1e-5), "what is logged"
        total += wanted
    assert float(total_loss(terms, module.loss_weights)) == pytest.approx(total, rel=1e-5)
