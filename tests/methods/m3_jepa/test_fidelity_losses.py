"""M3-JEPA's two losses: values and gradients by the transcription, weights and options."""

from __future__ import annotations

import math

import pytest
import torch
from methods.m3_jepa.m3_jepa_reference import Reference, smooth_l1, symmetric_info_nce
from methods.m3_jepa.m3_jepa_samples import (
    PAIRS_OF_TOWERS,
    T2I,
    WAYS,
    assert_same_gradients,
    at_step,
    batch_of,
    gradients,
    make,
    our_step,
    our_vectors,
    pairs,
)

# -- the equations: values and gradients -------------------------------------------------------


@pytest.mark.fidelity("m3_jepa", 3)
@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("step", [0, 1])
def test_values_and_gradients_are_the_transcriptions(
    towers: tuple[str, str], step: int, masked: bool
) -> None:
    """p, both means, c_src, c_tgt, L_reg, L_cl, L and all its gradients, in each direction."""
    module, way = make(towers, spread=5.0, mask_padding=masked), WAYS[step]
    batch = batch_of(module, pairs(5))
    expected = Reference(module).vectors(batch, way, 4, masked=masked)
    found = our_vectors(module, batch, way)
    for name, want in expected.items():
        torch.testing.assert_close(getattr(found, name), want, rtol=1e-5, atol=1e-5)
    l_reg = smooth_l1(expected["predicted"], expected["wanted"])
    l_cl = symmetric_info_nce(expected["source"], expected["target"], 0.03)
    terms = module.losses(found)
    torch.testing.assert_close(terms["regression"].mean, l_reg.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["contrastive"].mean, l_cl.detach(), rtol=1e-5, atol=1e-5)
    loss, ours = our_step(module, batch, step)
    torch.testing.assert_close(loss, (l_reg / 2 + l_cl / 2).detach(), rtol=1e-5, atol=1e-5)
    assert_same_gradients(ours, gradients(l_reg / 2 + l_cl / 2, module))
    moved = {n for n, g in ours.items() if n.startswith("towers.") and g is not None and g.any()}
    assert {n.split(".")[1] for n in moved} == {"text", "image"}  # no detach: both sides learn


@pytest.mark.parametrize("masked", [True, False])
def test_padding_counts_only_if_it_is_not_masked(towers: tuple[str, str], masked: bool) -> None:
    """Masked: a short text has the vectors that it has alone. Unmasked, as released: it has not."""
    module = make(towers, spread=5.0, mask_padding=masked)
    records = sorted(pairs(6), key=lambda record: len(record.texts[0]))
    together, alone = (batch_of(module, some) for some in (records, records[:1]))
    with torch.no_grad():
        for way in WAYS:
            batched = our_vectors(module, together, way).rows([0])
            single = our_vectors(module, alone, way)
            names = ("predicted", "source") if way == T2I else ("wanted", "target")
            for name in names:
                same = torch.allclose(
                    getattr(batched, name), getattr(single, name), rtol=1e-4, atol=1e-5
                )
                assert same == masked, name


# -- 6: the loss -------------------------------------------------------------------------------


@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("count", [8, 64, 128])
def test_unrelated_vectors_cost_ln_b(count: int) -> None:
    """L_cl of unrelated random vectors is ln B, and half the variance of the scores above it.

    Cosines of width 2048 have a deviation of 1 / sqrt(2048), which tau = 0.03 makes 0.74.
    """
    from zoo.methods.m3_jepa.contrastive import info_nce

    source, target = torch.randn(2, count, 2048)
    found = info_nce(source, target, 0.03)
    expected = symmetric_info_nce(source, target, 0.03)
    torch.testing.assert_close(found.mean(), expected, rtol=1e-5, atol=1e-5)
    assert abs(found.mean().item() - math.log(count) - 0.74**2 / 2) < 0.3
    assert info_nce(source, source, 0.03).mean() < 1e-3
    torch.testing.assert_close(info_nce(5 * source, target / 3, 0.03), found)


@pytest.mark.fidelity("m3_jepa", 6)
def test_an_untrained_module_costs_about_ln_b(towers: tuple[str, str]) -> None:
    """At random initialisation the partner costs what any other item does, in either direction.

    Where scores are small against tau that is ln B; tau = 0.03 adds what their spread does.
    """
    module = make(towers, hidden=64)
    batch = batch_of(module, pairs(32))
    with torch.no_grad():
        for way in WAYS:
            views = our_vectors(module, batch, way)
            others = [views._replace(target=views.target.roll(i, 0)) for i in range(1, 32)]
            module.temperature = 0.03
            loss = module.losses(views)["contrastive"].mean.item()
            wrong = [module.losses(other)["contrastive"].mean.item() for other in others]
            assert min(wrong) - 0.5 < loss < max(wrong) + 0.5, (way, loss)
            assert math.log(32) - 0.3 < loss < 3 * math.log(32), (way, loss)
            module.temperature = 1.0
            loss = module.losses(views)["contrastive"].mean.item()
            assert abs(loss - math.log(32)) < 0.1, (way, loss)


@pytest.mark.fidelity("m3_jepa", 6)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_loss_is_the_weighted_sum(alpha: float) -> None:
    """L = alpha L_reg + (1 - alpha) L_cl; with 0.5 exactly half and half."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0, alpha=alpha)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        terms = module.losses(our_vectors(module, batch, way))
        l_reg, l_cl = terms["regression"].mean, terms["contrastive"].mean
        loss, _ = our_step(module, batch, step)
        assert loss.item() == pytest.approx((alpha * l_reg + (1 - alpha) * l_cl).item(), rel=1e-6)


@pytest.mark.fidelity("m3_jepa", 6)
def test_accumulated_batches_are_one_mean() -> None:
    """Two equal micro-batches of a step weigh as much as their mean; negatives stay their own."""
    module = make(PAIRS_OF_TOWERS[0], spread=5.0)
    records = pairs(8)
    both = [our_step(module, batch_of(module, records[i : i + 4]), 0)[1] for i in (0, 4)]
    halves = [batch_of(module, records[i : i + 4]) for i in (0, 4)]
    module.zero_grad(set_to_none=True)
    for half in halves:
        half.normalizers = {0: 8 / 2}  # pairs of the step by Lightning's own division
        (at_step(module, 0).training_step(half, 0) / 2).backward()
    found = {n: p.grad for n, p in module.named_parameters() if p.requires_grad}
    expected = {n: None if a is None else (a + both[1][n]) / 2 for n, a in both[0].items()}
    assert_same_gradients(found, expected)


# -- the options of section 6 ------------------------------------------------------------------


def test_squared_distance(towers: tuple[str, str]) -> None:
    """The option is ||p - t||^2 / D: the mean over the D numbers, as SmoothL1's.

    The summary of the paper writes no 1 / D; with D = 4096 that would drown the other loss.
    """
    module = make(towers, spread=5.0, regression_loss="mse", alpha=1.0)
    batch = batch_of(module, pairs(5))
    for step, way in enumerate(WAYS):
        vectors = Reference(module).vectors(batch, way, 4, masked=True)
        p, t = vectors["predicted"], vectors["wanted"]
        expected = (p - t).pow(2).sum(1).mean() / p.shape[1]
        loss, ours = our_step(module, batch, step)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
        for name, want in gradients(expected, module).items():
            if want is not None:
                torch.testing.assert_close(ours[name], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_detaching_stops_the_regression_at_the_target(
    towers: tuple[str, str], detach: bool
) -> None:
    """Alone, L_reg reaches the target's adapters only as released; L_cl reaches them always."""
    for alpha, reached in ((1.0, not detach), (0.0, True)):
        module = make(towers, spread=5.0, detach_target=detach, alpha=alpha)
        batch = batch_of(module, pairs(5))
        for step, way in enumerate(WAYS):
            _, found = our_step(module, batch, step)
            source, target = way.split("2")
            size = {
                m: sum(
                    g.abs().sum().item()
                    for n, g in found.items()
                    if n.startswith(f"towers.{m}.") and g is not None
                )
                for m in (source, target)
            }
            assert size[source] > 0
            assert (size[target] > 0) == reached, (alpha, way)
