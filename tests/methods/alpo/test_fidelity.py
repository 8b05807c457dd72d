"""ALPO's properties, written from its equations."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.alpo.alpo_blocks import FEW, NARROW, OPEN, prefix, scored
from torch import Tensor
from torch.nn.functional import logsigmoid

from zoo.encoding import collate
from zoo.losses.preference import node_log_probs
from zoo.methods.alpo.choose import Choice, choose, mixing
from zoo.methods.alpo.preference_tree import BlockPlan
from zoo.records import ScoredBlock


def build(make: Any, **options: Any) -> Any:
    """Return a module whose reference is kept, and whose policy has moved on from it."""
    module = make("ALPO", "tiny-llama", objective="alpo", spread=4.0, **options).double()
    module.reference.sync(module)
    return module


def moved(module: Any) -> Any:
    """Move the policy away from the reference."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.lm.model.layers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def plans(module: Any, *records: ScoredBlock) -> list[BlockPlan]:
    return [plan for record in records for plan in module.encoder()(record)]


def loss(module: Any, *records: ScoredBlock) -> Tensor:
    """Return L of equation (7) with chosen prefixes."""
    return module.losses(module.encoder().collate(plans(module, *records), {}))["preference"].loss


def gradients(module: Any, value: Tensor) -> list[Tensor]:
    weights = list(module.lm.parameters())
    found = torch.autograd.grad(value, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def textbook(module: Any, plan: BlockPlan) -> Tensor:
    """Return sum_i w_i -log sigmoid(beta_i h_i) from a sequence for each leaf and full logits."""

    def log_prob(prefix: tuple[int, ...], leaf: tuple[int, ...]) -> Tensor:
        logits = module.lm(torch.tensor([prefix + leaf]), use_cache=False).logits[0]
        rows = logits[len(prefix) - 1 : -1].log_softmax(-1)
        return rows[torch.arange(len(leaf)), list(leaf)].sum()

    def ratio(prefix: tuple[int, ...], leaf: tuple[int, ...]) -> Tensor:
        with torch.no_grad(), module.reference.used(module):
            before = log_prob(prefix, leaf)
        return log_prob(prefix, leaf) - before

    total, prefix = torch.zeros((), dtype=torch.float64), plan.prompt
    for candidates, choice in zip(plan.candidates, plan.choices, strict=True):
        if choice.is_open:
            h = ratio(prefix, candidates[choice.chosen]) - ratio(
                prefix, candidates[choice.rejected]
            )
            total = total - choice.weight * logsigmoid(choice.beta * h)
        prefix = prefix + candidates[choice.chosen]
    return total


@pytest.mark.fidelity("alpo", 1)
def test_one_segment_is_textbook_dpo(make: Any) -> None:
    """One open segment has w = 1 and beta = 1: L is DPO with that beta, times `beta_scale`."""
    module = moved(build(make, beta_scale=0.3))
    (plan,) = plans(module, scored([OPEN]))
    (choice,) = plan.choices
    assert (choice.weight, choice.beta) == (1.0, 1.0)
    (choice,) = (type(choice)(choice.chosen, choice.rejected, 1.0, 0.3, True),)
    textbook_plan = BlockPlan(plan.prompt, plan.candidates, (choice,), 1.0, 0)
    want = textbook(module, textbook_plan)
    assert abs(float(want) - math.log(2)) > 0.01
    torch.testing.assert_close(loss(module, scored([OPEN])), want, atol=1e-6, rtol=1e-6)


def test_a_block_is_the_weighted_sum_over_separate_sequences(make: Any) -> None:
    """Equation (7) with several segments on one tree, closed gates and a second block."""
    module = moved(build(make))
    records = [scored([OPEN, NARROW, OPEN[:5]], 0, seed=3), scored([FEW, OPEN], 1, seed=4)]
    want = sum(textbook(module, plan) for plan in plans(module, *records)) / 2
    torch.testing.assert_close(loss(module, *records), want, atol=1e-6, rtol=1e-6)


@pytest.mark.fidelity("alpo", 2)
def test_at_the_reference_the_loss_is_ln_2_times_the_weights(make: Any) -> None:
    module = build(make)
    batch = module.encoder().collate(plans(module, scored([OPEN, FEW, OPEN])), {})
    term, parts = module.preference(batch)
    weights = [6 / 15, 6 / 15]
    torch.testing.assert_close(parts.weights, torch.tensor(weights).double())
    torch.testing.assert_close(term.loss, torch.tensor(math.log(2) * sum(weights)).double())
    assert parts.chosen.abs().max() == parts.rejected.abs().max() == 0


@pytest.mark.fidelity("alpo", 3)
def test_prompt_and_prefix_are_not_learned(make: Any) -> None:
    """Targets are the leaves' tokens, each once: none of the prompt, the lines before, a prefix."""
    module = build(make)
    (plan,) = plans(module, scored([OPEN, OPEN]))
    tree, pairs = plan.grow(0.0, random.Random(5))
    batch = module.encoder().collate([plan], {})
    learned = sum(len(plan.candidates[i][leaf]) for i, c in enumerate(plan.choices)
                  for leaf in (c.chosen, c.rejected))  # fmt: skip
    assert batch.num_supervised == learned
    leaves = {leaf for pair in pairs for leaf in pair}
    assert [i for i, node in enumerate(tree.nodes) if node.head >= 0] == sorted(leaves)
    # A change of pi at the rows that predict prompt and prefix leaves the log-probabilities.
    states = module(batch).detach().requires_grad_()
    node_log_probs(states, batch, *module.output_head).sum().backward()
    rows = set(batch.rows.tolist())
    for slot, slope in enumerate(states.grad.flatten(0, 1)):
        assert bool(slope.abs().sum() > 0) == (slot in rows)
    assert len(rows) < len(plan.prompt)


@pytest.mark.fidelity("alpo", 4)
@pytest.mark.parametrize("closed", [FEW, NARROW, None, OPEN[:3]])
def test_closed_gates_teach_nothing_but_stand_in_prefixes(make: Any, closed: Any) -> None:
    module = moved(build(make))
    drawn = [choice for i in range(20) for choice in choose(scored([closed, OPEN], i), 0)]
    assert [choice.is_open for choice in drawn] == [False, True] * 20
    alone = plans(module, scored([closed, closed]))
    value = module.losses(module.encoder().collate(alone, {}))["preference"].sum
    assert float(value) == 0
    assert all(float(g.abs().max()) == 0 for g in gradients(module, value))
    assert alone[0].head_weights() == {}  # a training step does not even run it
    (plan,) = plans(module, scored([closed, OPEN]))
    assert [choice.is_open for choice in plan.choices] == [False, True]
    for seed in range(8):
        tree, ((chosen, _),) = plan.grow(0.0, random.Random(seed))
        above = tuple(tree.path(chosen)[: -len(tree.nodes[chosen].ids)])
        prefixes = [plan.prompt + candidate for candidate in plan.candidates[0]]
        assert above in prefixes


@pytest.mark.fidelity("alpo", 6)
@pytest.mark.parametrize("normalize", ["blocks", "micro_batch"])
def test_weights_change_the_gradient_of_one_pair(make: Any, normalize: str) -> None:
    """Two blocks of one open segment each, alone in their micro-batch; in one w is 6/9, not 1.

    A normaliser over the micro-batch is the control: there the weight of a lone pair cancels.
    """
    module = moved(build(make, normalize=normalize))
    (whole,), (part,) = (plans(module, scored(s)) for s in ([OPEN], [OPEN, FEW]))
    assert [c.weight for c in (*whole.choices, *part.choices)] == [1.0, 6 / 9, 0.0]
    same = BlockPlan(whole.prompt, whole.candidates, part.choices[:1], 1.0, 0)
    values = []
    for plan, weight in ((whole, 1.0), (same, 6 / 9)):
        choice = type(plan.choices[0])(*pick(whole), weight, 1.0, True)
        batch = module.encoder().collate(
            [BlockPlan(plan.prompt, plan.candidates, (choice,), 1.0, 0)], {}
        )
        values.append(gradients(module, module.losses(batch)["preference"].loss))
    ratio = 6 / 9 if normalize == "blocks" else 1.0
    assert max(float(g.abs().max()) for g in values[0]) > 1e-3
    for full, partial in zip(*values, strict=True):
        torch.testing.assert_close(partial, full * ratio, atol=1e-6, rtol=1e-4)


def pick(plan: BlockPlan) -> tuple[int, int]:
    return plan.choices[0].chosen, plan.choices[0].rejected


@pytest.mark.fidelity("alpo", 6)
def test_a_micro_batch_can_be_a_mean_by_weight(make: Any) -> None:
    """sum_i w_i l_i / sum_i w_i over both blocks, where equation (7) is sum_i w_i l_i / 2."""
    module = moved(build(make))
    both = [*plans(module, scored([OPEN])), *plans(module, scored([OPEN, FEW], 1))]
    assert [choice.weight for plan in both for choice in plan.choices] == [1.0, 6 / 9, 0.0]

    def loss(*blocks: BlockPlan) -> float:
        batch = module.encoder().collate(list(blocks), {})
        return float(module.losses(batch)["preference"].loss)

    apart = [loss(plan) for plan in both]
    assert loss(*both) == pytest.approx(sum(apart) / 2)
    module.normalize = "micro_batch"
    assert loss(*both) == pytest.approx(sum(apart) / (1 + 6 / 9))


@pytest.mark.fidelity("alpo", 6)
def test_the_released_normaliser_is_the_mean_over_pairs(make: Any) -> None:
    """Of all open ones alike: with one pair in a micro-batch w cancels; gates and betas stay."""
    module = moved(build(make, normalize="pairs"))
    records = [scored([OPEN, OPEN[:5], FEW]), scored([OPEN], 1, seed=4)]
    weighted = [choice for record in records for choice in choose(record, module.seed)]
    assert [choice.weight for choice in weighted] == [6 / 14, 5 / 14, 0.0, 1.0]
    pairs, both = [], plans(module, *records)
    for plan, whole in ((both[0], weighted[:3]), (both[1], weighted[3:])):
        for i in [i for i, choice in enumerate(whole) if choice.is_open]:
            alone = [Choice(c.chosen, c.rejected) for c in whole]
            alone[i] = replace(whole[i], weight=1.0)
            pairs.append(textbook(module, replace(plan, choices=tuple(alone))))
    assert len({round(float(value), 4) for value in pairs}) == 3
    torch.testing.assert_close(loss(module, *records), sum(pairs) / 3, atol=1e-6, rtol=1e-6)
    batch = module.encoder().collate(both, {})
    assert batch.pair_betas.tolist() == pytest.approx([c.beta for c in weighted if c.is_open])
    assert module.losses(batch)["preference"].weight == 3


@pytest.mark.fidelity("alpo", 7)
@pytest.mark.parametrize("step", [0, 500, 1000])
def test_the_share_of_chosen_prefixes_follows_the_step(make: Any, step: int) -> None:
    """lambda + (1 - lambda) / |T|, over redrawn prefixes of one plan; chosen stays as drawn."""
    module = build(make)
    lam = mixing(step, 1000)
    assert lam == pytest.approx(0.2 + 0.4 * step / 1000)
    (plan,) = plans(module, scored([OPEN, OPEN]))
    batch = module.encoder().collate([plan], {})
    wanted = plan.prompt + plan.candidates[0][plan.choices[0].chosen]
    hits, draws = 0, 600
    for t in range(draws):
        grown = module.encoder().regrow(batch, lam, step * draws + t)
        assert grown.plans[0].choices == plan.choices
        slots = grown.input_ids[0][grown.position_ids[0] < len(wanted)]
        leaf = int(grown.chosen[1])
        hits += wanted == prefix(grown, leaf)[: len(wanted)]
        assert len(slots) >= len(plan.prompt)
    share = lam + (1 - lam) / 6
    assert abs(hits / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


@pytest.mark.fidelity("alpo", 9)
@pytest.mark.parametrize("lora", [None, {"rank": 2, "dropout": 0.1}])
def test_the_reference_never_moves(make: Any, lora: Any) -> None:
    """Steps move the policy; the reference keeps its bits, has no gradient, and no dropout."""
    module = build(make, backbone={"lora": lora})
    module.train()
    kept = {name: value.clone() for name, value in module.reference.values.items()}
    batch = module.encoder().collate(plans(module, scored([OPEN, OPEN])), {})
    before = module.reference_log_probs(batch)
    assert not before.requires_grad
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-2)
    values = []
    for _ in range(3):
        optimizer.zero_grad()
        value = module.losses(batch)["preference"].loss
        value.backward()
        optimizer.step()
        values.append(float(value))
    assert values[-1] < values[0]
    assert torch.equal(module.reference_log_probs(batch), before)
    for name, value in module.reference.values.items():
        assert torch.equal(value, kept[name])
        assert value.grad is None
    assert not {id(p) for p in module.parameters()} & set(map(id, module.reference.values.values()))


def test_sft_learns_the_response_only(make: Any) -> None:
    """Equation (1): mean cross-entropy over the numbered lines and the end of the turn."""
    module = make("ALPO", "tiny-llama", objective="sft")
    (example,) = module.encoder()(scored([OPEN]).block)
    learned = [y for y in example.labels if y >= 0]
    text = module.encoder().tokenizer.decode(learned)
    assert text == "1. Before.\n2. Line 0 0.\n3. After.<|im_end|>"
    batch = collate([example])
    logits = module.lm(batch.input_ids, use_cache=False).logits[0].float()
    want = torch.nn.functional.cross_entropy(logits, batch.labels[0], ignore_index=-100)
    torch.testing.assert_close(module.losses(batch)["translation"].loss, want)
