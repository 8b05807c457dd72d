"""Laws of tokens and of the ratio on losses whose coefficients are known."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.methods.almr import mixture_laws
from zoo.methods.almr.mixture_laws import critical_ratio, fit_joint_law, fit_token_law
from zoo.methods.almr.token_findings import token_lines

RATIOS = np.array([0.1, 0.2, 0.33, 0.5, 0.67, 0.8])
BASE, TOLERANCE = 2.5, 0.08


def original_loss(ratio: np.ndarray) -> np.ndarray:
    """E + A r^k with E = 2.48, A = 0.3, k = 1.5: the limit 2.58 is met at (0.1 / 0.3)^(1 / 1.5)."""
    return 2.48 + 0.3 * ratio**1.5


CRITICAL = (0.1 / 0.3) ** (1 / 1.5)  # 0.4807


@pytest.mark.fidelity("almr", 5)
def test_the_critical_ratio_comes_back() -> None:
    """Controls, whose losses follow no law, have no part in it."""
    ratios = np.concatenate([[0.0], RATIOS, [1.0]])
    losses = np.concatenate([[9.0], original_loss(RATIOS), [0.0]])
    found = critical_ratio(ratios, losses, BASE + TOLERANCE, draws=5)
    assert found.ratio == pytest.approx(CRITICAL, abs=1e-6)
    assert found.law.coefficients == pytest.approx([2.48, 0.3, 1.5], abs=1e-5)


@pytest.mark.fidelity("almr", 5)
def test_the_critical_ratio_lies_within_its_interval() -> None:
    """Of 100 noisy sets of losses, at least 90 times."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        ratios = np.repeat(RATIOS, 2)  # two seeds
        losses = original_loss(ratios) + 0.004 * rng.normal(size=ratios.size)
        found = critical_ratio(ratios, losses, BASE + TOLERANCE, draws=60, seed=seed)
        assert found.interval is not None
        hits += found.interval[0] <= CRITICAL <= found.interval[1]
    assert 90 <= hits <= 99


@pytest.mark.parametrize(("limit", "ratio"), [(9.0, 1.0), (2.0, 0.0)])
def test_every_ratio_or_none_is_tolerated(limit: float, ratio: float) -> None:
    assert critical_ratio(RATIOS, original_loss(RATIOS), limit, draws=5).ratio == ratio


def test_the_token_law_comes_back() -> None:
    """At the size that real corpora have: 10^6 to 10^12 tokens."""
    tokens = np.geomspace(1e6, 1e12, 9)
    level, size, exponent = fit_token_law(tokens, 1.7 + 400.0 * tokens**-0.3).coefficients
    assert (level, size, exponent) == pytest.approx((1.7, 400.0, -0.3), rel=1e-4)


@pytest.mark.parametrize(
    "losses",
    [
        lambda d: 5.0 + 0.1 * (d / 1e4) ** 0.5,  # rises
        lambda d: 5.0 - 0.1 * (d / 1e4) ** 1.5,  # falls ever faster
        lambda d: 8.0 * (d / 1e4) ** -0.5 - 3.0,  # falls below 0
    ],
)
def test_losses_without_a_level_have_no_token_law(losses) -> None:
    tokens = np.array([2e4, 4e4, 6e4, 9e4])
    with pytest.raises(InputError, match=r"token law: the losses do not fall to a level"):
        fit_token_law(tokens, losses(tokens))


def test_a_level_of_zero_is_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A law falls to a level of at least 0, by a size of at least 0."""
    found = np.array([0.0, 0.0, -0.5])
    monkeypatch.setattr(mixture_laws, "_fit_power", lambda *_: found)
    tokens = np.array([2e4, 4e4, 6e4, 9e4])
    assert fit_token_law(tokens, tokens).coefficients.tolist() == [0.0, 0.0, -0.5]


def test_the_joint_law_tells_losses_that_it_was_not_fitted_to() -> None:
    """A new ratio, budget and size; the D-CPT law as its equation says it."""

    def loss(n, d, s):
        return 1.5 + 3.0 / n**0.3 + 40.0 * s**0.4 / d**0.25 + 0.2 / (s + 0.1) ** 0.6

    cells = itertools.product((1e6, 4e6, 16e6), (1e6, 4e6, 1.6e7), 1.0 - RATIOS)
    n, d, s = (np.array(column) for column in zip(*cells, strict=True))
    law = fit_joint_law(n, d, s, loss(n / 1e6, d, s))
    assert law.error < 1e-3
    assert law(8e6, 8e6, 0.6) == pytest.approx(loss(8.0, 8e6, 0.6), abs=5e-3)
    one = n == 1e6  # one size: its term is a part of E
    law = fit_joint_law(n[one], d[one], s[one], loss(1.0, d[one], s[one]))
    assert law(1e6, 8e6, 0.6) == pytest.approx(loss(1.0, 8e6, 0.6), abs=5e-3)


def test_too_little_to_fit_is_an_error() -> None:
    two = np.array([1.0, 2.0])
    with pytest.raises(InputError, match="token law: 4 different points"):
        fit_token_law(two, two)
    with pytest.raises(InputError, match="critical ratio: 4 different points"):
        critical_ratio(two / 4, two, 1.0)
    with pytest.raises(InputError, match="2 losses for 7 coefficients"):
        fit_joint_law(two * 0 + 1, two, two / 4, two)


def test_the_error_of_the_joint_law_is_the_root_mean_square_of_what_is_left() -> None:
    rng = np.random.default_rng(0)
    n, d, s = np.full(18, 1e6), np.repeat([1e6, 4e6, 1.6e7], 6), np.tile(1.0 - RATIOS, 3)
    losses = 2.0 + 40.0 * s**0.4 / d**0.25 + 0.05 * rng.normal(size=18)
    law = fit_joint_law(n, d, s, losses)
    left = law(n, d, s) - losses
    assert law.error == pytest.approx(np.sqrt(np.mean(left**2)))
    assert 0.02 < law.error < 0.05


def test_controls_have_no_joint_law() -> None:
    """Their share of one of the two corpora is 0."""
    shares = np.append(np.tile(RATIOS, 2), 0.0)
    one = np.ones(shares.size)
    with pytest.raises(InputError, match="a share of 0; leave the controls out"):
        fit_joint_law(one, one, shares, one)


def test_what_cannot_be_fitted_is_said_of_each_corpus() -> None:
    run = SimpleNamespace(ratio=0.5, lr=1e-3, curves={"added": [(1, 2.0)], "original": [(1, 3.0)]})
    line, fits = SimpleNamespace(log_lr=lambda ratio: -7.0), [SimpleNamespace(ratio=0.5)]
    optimum = SimpleNamespace(ratio=0.5, line=line, parabolas=fits)
    lines = token_lines(SimpleNamespace(runs=[run], optimum=optimum), 100, None)
    assert [text.split(" not fitted")[0] for text in lines] == [
        start
        for name in ("added", "original")
        for start in (f"L_{name}(D):", f"Joint law of L_{name}:")
    ]


def test_the_token_law_is_of_the_rate_nearest_in_logarithm() -> None:
    """Rates 1e-3 and 1e-2, the line at e^-5 = 6.7e-3: the second, whose losses end at 2."""

    def run(lr: float, level: float) -> SimpleNamespace:
        curve = [(step, level + (100 * step) ** -0.5) for step in (1, 2, 4, 8, 16, 32)]
        return SimpleNamespace(ratio=0.5, lr=lr, curves={"added": curve, "original": curve})

    line, fits = SimpleNamespace(log_lr=lambda ratio: -5.0), [SimpleNamespace(ratio=0.5)]
    optimum = SimpleNamespace(ratio=0.5, line=line, parabolas=fits)
    lines = token_lines(
        SimpleNamespace(runs=[run(1e-3, 3.0), run(1e-2, 2.0)], optimum=optimum), 100, None
    )
    assert lines[0].startswith("L_added(D) = 2.000 + ")
