"""A block's preferences: forward and backward over one tree against a sequence for each leaf.

A prompt of 600 tokens and 10 segments of 20 tokens; chosen and rejected of each hang on a prefix
that a third candidate carries on, which is the most that a tree can hold. SmolLM2-135M; float32 on
a CPU, bfloat16 autocast on CUDA; no optimiser step. Reference log-probabilities are given on both
sides: their pass gains the same.

- `ours`: `ALPO`'s tree, one masked pass, 1,180 tokens.
- `pairs`, the peer: Hugging Face on chosen and rejected of one segment after the other, as a
  trainer of pairs has it, its prefix in both: 14,200 tokens. Completion rows alone are projected,
  which such trainers do at their best.

Loss and every gradient agree in fp32 before anything is timed. The bound is the ratio of FLOPs of
matrix products: 6 per parameter and token.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.exactness import distance, farthest, fingerprint, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.roofline import Shape
from benchmarks.workload import BACKBONE
from zoo.backbone import Backbone
from zoo.losses.preference import dpo_loss
from zoo.methods.alpo.choose import Choice
from zoo.methods.alpo.module import ALPO
from zoo.methods.alpo.preference_tree import BlockPlan, collate_plans

CLAIM = "a block's preferences as one tree: >= 4x the speed of a sequence for each candidate"
NAME = "preference_tree"
PROMPT, SEGMENTS, LENGTH = 600, 10, 20
QUICK = (150, 4, 10)
WORDS = 200  # token ids that are drawn from
WARM_UP = 1
TOLERANCE = 1e-3
TARGET = 4.0


class ThirdCarries(random.Random):
    """Draws that carry every prefix on with the third candidate."""

    def random(self) -> float:
        """Return a number above every lambda below 1."""
        return 1.0

    def randrange(self, *_: Any) -> int:
        """Return the third candidate."""
        return 2


def plans(setting: Setting, count: int) -> list[BlockPlan]:
    """Return blocks of random tokens."""
    prompt, segments, length = QUICK if setting.quick else (PROMPT, SEGMENTS, LENGTH)
    draw = random.Random(0)

    def words(size: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, WORDS) for _ in range(size))

    weight = 1 / segments
    choices = tuple(
        Choice(0, 1, weight, draw.uniform(0.05, 1.0), is_open=True) for _ in range(segments)
    )
    return [
        BlockPlan(
            words(prompt),
            tuple(tuple(words(length) for _ in range(3)) for _ in range(segments)),
            choices,
            1.0,
            index,
        )
        for index in range(count)
    ]


def references(plan: BlockPlan) -> Tensor:
    """Return made-up log-probabilities of the reference, chosen and rejected of each pair."""
    size, draws = len(plan.candidates[0][0]), torch.Generator().manual_seed(0)
    return -size * (5 + torch.rand(len(plan.choices), 2, generator=draws))


def tree_loss(module: ALPO, plan: BlockPlan, setting: Setting) -> Tensor:
    """Return L of equation (7) from one pass."""
    batch = collate_plans([plan], 0.0, [ThirdCarries()]).to(setting.device)
    policy, (chosen, rejected) = module.log_probs(batch), references(plan).to(setting.device).T
    losses = dpo_loss(
        policy[batch.chosen], policy[batch.rejected], chosen, rejected, batch.pair_betas
    )
    return (batch.pair_weights * losses).sum()


def pair_losses(lm: Any, plan: BlockPlan, setting: Setting) -> list[partial[Tensor]]:
    """Return a function for each pair's part of the loss: a batch of two sequences each."""
    prefix, parts = plan.prompt, []
    for i, (candidates, choice) in enumerate(zip(plan.candidates, plan.choices, strict=True)):
        sides = (candidates[choice.chosen], candidates[choice.rejected])
        ids = torch.tensor([prefix + side for side in sides], device=setting.device)
        reference = references(plan)[i].to(setting.device)
        parts.append(partial(pair_loss, lm, ids, len(sides[0]), reference, choice))
        prefix = prefix + candidates[2]
    return parts


def pair_loss(lm: Any, ids: Tensor, size: int, reference: Tensor, choice: Choice) -> Tensor:
    """Return w softplus(-beta h) of two sequences whose last `size` tokens are compared."""
    states = lm.model(ids, use_cache=False).last_hidden_state[:, -size - 1 : -1]
    logp = F.log_softmax(lm.lm_head(states).float(), -1)
    policy = logp.gather(-1, ids[:, -size:, None]).sum((1, 2))
    loss = dpo_loss(policy[:1], policy[1:], reference[:1], reference[1:], choice.beta)
    return choice.weight * loss.sum()


def build(setting: Setting) -> ALPO:
    """Return the module in evaluation mode: there is no dropout either way."""
    module = ALPO(Backbone(BACKBONE), objective="alpo")
    module.configure_model()
    module.to(setting.device).eval()
    return module


def exact(setting: Setting) -> Sample:
    """Compare loss and gradients in fp32, in one process."""
    module, lm = build(setting), hugging_face(BACKBONE, setting.device)
    (plan,) = plans(Setting(setting.device, quick=True), 1)
    loss = tree_loss(module, plan, setting)
    loss.backward()
    other = torch.zeros((), device=setting.device)
    for part in pair_losses(lm, plan, setting):
        value = part()
        value.backward()
        other = other + value.detach()
    named = {f"lm.{name}": p.grad for name, p in lm.named_parameters() if p.grad is not None}
    gap = farthest(gradients(module), named)
    return Sample([], checks={"loss": distance(loss, other), "gradients": gap})


def ours(setting: Setting, *, steps: int) -> Sample:
    """Time one pass over a tree and its backward."""
    module = build(setting)

    def step(plan: BlockPlan) -> float:
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            loss = tree_loss(module, plan, setting)
        loss.backward()
        module.zero_grad(set_to_none=True)
        return float(loss.detach())

    def tokens(plan: BlockPlan) -> float:
        return float(len(plan.grow(0.0, ThirdCarries())[0]))

    return _timed(step, module, module.lm, tokens, setting, steps)


def pairs(setting: Setting, *, steps: int) -> Sample:
    """Time two sequences for each segment and their backward; gradients add up."""
    lm = hugging_face(BACKBONE, setting.device)

    def step(plan: BlockPlan) -> float:
        total = 0.0
        for part in pair_losses(lm, plan, setting):
            with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
                loss = part()
            loss.backward()
            total += float(loss.detach())
        lm.zero_grad(set_to_none=True)
        return total

    def tokens(plan: BlockPlan) -> float:
        size = len(plan.candidates[0][0])
        return sum(2.0 * (len(plan.prompt) + (i + 1) * size) for i in range(len(plan.choices)))

    return _timed(step, lm, lm, tokens, setting, steps)


def _timed(
    step: Callable[[BlockPlan], float],
    model: Any,
    lm: Any,
    tokens: Callable[[BlockPlan], float],
    setting: Setting,
    steps: int,
) -> Sample:
    blocks = plans(setting, steps + WARM_UP)
    losses, measured = time_steps(step, blocks, model, setting.device)
    return Sample(
        **measured,
        work={"tokens": [tokens(plan) for plan in blocks[WARM_UP:]]},
        checks={"data": fingerprint([plan.candidates for plan in blocks]), "loss": losses[-1]},
        notes={"shape": asdict(Shape.of(lm))},
    )


SIDES: dict[str, Callable[..., Sample]] = {"exact": exact, "ours": ours, "pairs": pairs}


def flops(sample: Sample, setting: Setting) -> float:
    """Return the FLOPs of matrix products in the timed steps of a side."""
    shape = Shape(**sample.notes["shape"])
    _, segments, length = QUICK if setting.quick else (PROMPT, SEGMENTS, LENGTH)
    rows = 2.0 * segments * length * len(sample.work["tokens"])
    return 6 * (shape.block * shape.blocks * sum(sample.work["tokens"]) + shape.head * rows)


def run(setting: Setting) -> Result:
    """Compare loss and gradients in fp32, then time both sides in turn."""
    same = measure(NAME, "exact", setting)
    require_equal(same.checks, TOLERANCE)
    steps, repeats = 3, 1
    samples = interleave(NAME, dict.fromkeys(("ours", "pairs"), {"steps": steps}), setting, repeats)
    mine, theirs = samples["ours"][0], samples["pairs"][0]
    loss = 1e-2 if setting.device == "cuda" else TOLERANCE
    checks = {"fp32": {**same.checks, "tolerance": TOLERANCE}}
    checks["pairs"] = agree(mine, theirs, {"data": 0.0, "loss": loss})
    bound = flops(theirs, setting) / flops(mine, setting)
    peers = [Peer("Hugging Face, two sequences a segment", "pairs", target=TARGET, bound=bound)]
    return compare(NAME, CLAIM, peers, samples, checks, design_target=7.0)
