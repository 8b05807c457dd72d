"""M3-JEPA without one of its parts: an MLP, joint training, one loss alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_reference import Reference, smooth_l1, symmetric_info_nce
from methods.m3_jepa.m3_jepa_samples import (
    WAYS,
    at_step,
    batch_of,
    gradients,
    make,
    our_step,
    our_vectors,
    pairs,
)

import zoo

TOY = {"hidden": 16, "num_experts": 12, "top_k": 2, "dropout": 0.0}
CHANCE = 1 / 128


class Lookup(zoo.M3JEPA):
    """M3-JEPA whose encoders are tables: items are rows of random token states."""

    def encode(self, batch: Any, modality: str) -> Any:
        from zoo.methods.m3_jepa.predictor import lay_out

        return lay_out(batch.states[modality])


@functools.cache
def toy_run(seed: int, steps: int = 300, **options: Any) -> SimpleNamespace:
    """Train on 128 unrelated pairs, 32 per step; return the recall and loss of these pairs.

    A picture and a text of two tokens each, all numbers random: what belongs together can only be
    learned by heart, so capacity and the number of steps are what counts. Nothing is held out.
    """
    torch.manual_seed(seed)
    module = Lookup(
        text={"name": "tiny-bert", "adapt_blocks": 0},
        image={"name": "tiny-vit", "adapt_blocks": 0},
        **{**TOY, **options},
    )
    module.configure_model()
    chance = torch.Generator().manual_seed(seed)
    data = {m: torch.randn(128, 2, 32, generator=chance) for m in ("image", "text")}
    everything = SimpleNamespace(states=data)
    start = {n: p.detach().clone() for n, p in module.predictor.named_parameters()}
    with torch.no_grad():
        first = sum(
            float(module.losses(our_vectors(module, everything, way))["regression"].mean)
            for way in WAYS
        )
    adam = torch.optim.AdamW(module.predictor.parameters(), lr=5e-3, weight_decay=0.0)
    module.train()
    for step in range(steps):
        warm, late = min(1.0, (step + 1) / (0.1 * steps)), math.cos(math.pi * step / steps)
        adam.param_groups[0]["lr"] = 5e-3 * warm * (0.5 + 0.5 * late)
        rows = torch.randperm(128, generator=chance)[:32]
        states = {m: x[rows] for m, x in data.items()}
        groups = [str(row) for row in rows.tolist()]
        batch = SimpleNamespace(states=states, normalizers={0: 32.0}, groups=groups)
        loss = at_step(module, step).training_step(batch, 0)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.predictor.parameters(), 1.0)
        adam.step()
    module.eval()
    found: dict[str, list[float]] = {"contrastive": [], "regression": [], "loss": []}
    with torch.no_grad():
        for way in WAYS:
            views = our_vectors(module, everything, way)
            found["loss"].append(float(module.losses(views)["regression"].mean))
            for name, (a, b) in {
                "contrastive": (views.source, views.target),
                "regression": (views.predicted, views.wanted),
            }.items():
                scores = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
                hits = scores.argmax(1) == torch.arange(128)
                found[name].append(hits.float().mean().item())
    moved = {
        n for n, p in module.predictor.named_parameters() if not torch.equal(p.detach(), start[n])
    }
    return SimpleNamespace(
        contrastive=sum(found["contrastive"]) / 2,
        regression=sum(found["regression"]) / 2,
        loss=sum(found["loss"]) / first,
        moved=moved,
        names=set(start),
    )


def mean_of(what: str, seeds: Sequence[int], *args: Any, **options: Any) -> float:
    return sum(getattr(toy_run(seed, *args, **options), what) for seed in seeds) / len(seeds)


SEEDS = [(0, 1), pytest.param((2, 3, 4, 5, 6), marks=pytest.mark.slow)]


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_the_mixture_learns_more_than_an_mlp_of_its_cost(seeds: Sequence[int]) -> None:
    """MoE >= MLP in R@1 of the pairs learned, at the same cost of a token.

    The set asks for capacity, which is what experts add at that cost. On pairs that a rule of few
    parameters relates, an MLP does as well or better.
    """
    ours, mlp = mean_of("contrastive", seeds), mean_of("contrastive", seeds, mixture="mlp")
    assert mlp > 10 * CHANCE, "a control that did not learn is unfair"
    assert ours > mlp + 0.03, (ours, mlp)


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_alternating_learns_more_than_the_joint_sum_at_equal_cost(seeds: Sequence[int]) -> None:
    """AGD >= joint sum in R@1, both with 300 forward and backward passes of a direction.

    A joint step costs two of them, so the joint run has half the steps.
    """
    ours = mean_of("contrastive", seeds)
    joint = mean_of("contrastive", seeds, 150, alternate=False)
    assert joint > 10 * CHANCE, "a control that did not learn is unfair"
    assert ours > joint + 0.02, (ours, joint)


@pytest.mark.slow
@pytest.mark.xfail(reason="at equal steps joint training sees every direction twice as often")
@pytest.mark.fidelity("m3_jepa", 8)
def test_alternating_against_the_joint_sum_at_equal_steps() -> None:
    """The paper's direction AGD >= joint does not hold here if steps are what is held equal."""
    seeds = (0, 1, 2)
    ours = mean_of("contrastive", seeds)
    assert ours >= mean_of("contrastive", seeds, alternate=False)


@pytest.mark.fidelity("m3_jepa", 8)
@pytest.mark.fidelity("m3_jepa", 9)
@pytest.mark.parametrize("seeds", SEEDS, ids=["two", "five"])
def test_half_and_half_is_the_only_weight_that_serves_both_views(seeds: Sequence[int]) -> None:
    """alpha = 0.5 discriminates as alpha = 0 does and predicts; alpha = 1 and 0 each lose one.

    Contrastive R@1: alpha = 1 stays at chance, alpha = 0 is no better than 0.5 by more than seeds
    differ. L_reg, relative to its start: falls with 0.5, stays up with 0.
    """
    half, none, full = (
        SimpleNamespace(
            **{w: mean_of(w, seeds, alpha=a) for w in ("contrastive", "regression", "loss")}
        )
        for a in (0.5, 0.0, 1.0)
    )
    assert full.contrastive < 4 * CHANCE < 0.3 < half.contrastive
    assert half.contrastive > none.contrastive - 0.1
    assert none.regression < 3 * CHANCE
    assert half.loss < 0.5 * none.loss
    assert full.loss < 0.5 * none.loss


@pytest.mark.fidelity("m3_jepa", 9)
def test_a_loss_without_weight_trains_nothing_of_its_own() -> None:
    """alpha = 0: regression heads and branch stay as they were; alpha = 1: the contrastive ones."""
    for alpha, branch, kinds in ((0.0, 0, ("regression",)), (1.0, 1, ("contrastive", "targets"))):
        alone = tuple(f"{kind}." for kind in kinds) + (
            f"norms.{branch}.",
            f"branch_vectors.{branch}",
        )
        run = toy_run(0, alpha=alpha)
        stayed = {n for n in run.names if n.startswith(alone)}
        assert len(stayed) == (4 + 3 if alpha == 0 else 4 + 4 + 3)
        assert run.moved == run.names - stayed


@pytest.mark.fidelity("m3_jepa", 9)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_loss_without_weight_has_no_gradient(towers: tuple[str, str], alpha: float) -> None:
    """On real encoders: all gradients are those of the other loss alone, by the transcription."""
    module = make(towers, spread=5.0, alpha=alpha)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        vectors = Reference(module).vectors(batch, way, 4, masked=True)
        if alpha:
            alone = smooth_l1(vectors["predicted"], vectors["wanted"])
        else:
            alone = symmetric_info_nce(vectors["source"], vectors["target"], 0.03)
        _, ours = our_step(module, batch, step)
        for name, want in gradients(alone, module).items():
            if want is None:
                assert ours[name] is None or not ours[name].any(), name
            else:
                scale = want.abs().max().item()
                torch.testing.assert_close(ours[name], want, rtol=1e-4, atol=1e-5 * scale + 1e-9)
