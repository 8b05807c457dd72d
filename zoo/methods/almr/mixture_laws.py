"""Laws of the loss over tokens and mixture ratio, fitted by SciPy.

    (7)  L(D) = L_inf + A D^-alpha                              tokens, at one ratio
    (8)  L_orig(r) = E + A r^k                                  ratio, at one budget of tokens
         r_c = largest r with L_orig(r) <= L_orig0 + delta      critical mixture ratio
    (9)  L(N, D, s) = E + A/N^alpha + B s^eta/D^beta + C/(s + eps)^gamma
         s = share of the corpus whose loss it is               D-CPT law

(7) holds between losses at the same phase of the learning rate: give it checkpoints of a constant
rate or of branches that were decayed anew, never the middle of a cosine. (9) needs several sizes
for its term in N; with one size that term is a part of E. (8) and (9) are forms of the literature,
written from memory; whether the paper fits one is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit, least_squares

from zoo.errors import InputError
from zoo.methods.almr.resampling import adjusted, draws_of_noise, interval

Array = NDArray[np.float64]
Form = Callable[..., Array]


@dataclass(frozen=True)
class Law:
    """A fitted curve y = f(x; coefficients).

    Attributes:
        form: f.
        x: Where it was fitted, `(N,)`.
        values: What it was fitted to, nats per token, `(N,)`.
        coefficients: Of f, in its order.
    """

    form: Form
    x: Array
    values: Array
    coefficients: Array

    def __call__(self, x: float | Array) -> Array:
        """Return the fitted loss."""
        return self.form(np.asarray(x, float), *self.coefficients)


def power(x: Array, level: float, size: float, exponent: float) -> Array:
    """Return level + size x^exponent: equation (8), and (7) with a negative exponent."""
    return level + size * np.power(x, exponent)


def _slopes(x: Array, level: float, size: float, exponent: float) -> Array:
    """Return the derivatives of `power` by its coefficients, `(N, 3)`."""
    grown = np.power(x, exponent)
    return np.stack([np.ones_like(x), grown, size * grown * np.log(x)], 1)


def _fit_power(x: Array, values: Array, exponent: float, what: str) -> Array:
    """Return the least-squares coefficients of `power` from a first guess of the exponent."""
    if np.unique(x).size < 4:
        raise InputError(f"{what}: 4 different points are needed, there are {np.unique(x).size}")
    size, level = np.polyfit(np.power(x, exponent), values, 1)
    return _refit(x, values, np.array([level, size, exponent]), what)


def _refit(x: Array, values: Array, start: Array, what: str) -> Array:
    try:
        found, _ = curve_fit(power, x, values, start, jac=_slopes, maxfev=2000)
    except RuntimeError as error:
        raise InputError(f"{what}: no curve of its form fits these losses: {error}") from error
    return np.asarray(found)


def fit_token_law(tokens: Array, losses: Array) -> Law:
    """Fit equation (7); the coefficients are L_inf, A and -alpha.

    Args:
        tokens: D, `(N,)`.
        losses: L(D) at the same phase of the learning rate, `(N,)`.

    Raises:
        InputError: Fewer than four points, no fit, or one that is no law: it must fall with D to a
            level of at least 0.
    """
    unit = float(np.exp(np.log(tokens).mean()))  # D is large: fit D / unit
    level, size, exponent = _fit_power(tokens / unit, losses, -0.5, "token law")
    if level < 0.0 or size < 0.0 or exponent >= 0.0:
        raise InputError(
            f"token law: the losses do not fall to a level: the best curve is {level:.3g} + "
            f"{size:.3g} d^{exponent:.3g}, d = D / {unit:.3g}"
        )
    size *= unit**-exponent
    return Law(power, tokens, losses, np.array([level, size, exponent]))


def fit_ratio_law(ratios: Array, losses: Array) -> Law:
    """Fit equation (8); controls at r = 0 and r = 1 are left out.

    Args:
        ratios: r, `(N,)`.
        losses: Original-domain loss at the end of the budget, on the optimal line, `(N,)`.

    Raises:
        InputError: Fewer than four ratios, or no fit.
    """
    inside = (ratios > 0.0) & (ratios < 1.0)
    x, y = ratios[inside], losses[inside]
    return Law(power, x, y, _fit_power(x, y, 1.0, "critical ratio"))


@dataclass(frozen=True)
class CriticalRatio:
    """r_c of equation (8).

    Attributes:
        ratio: r_c, 0 to 1; 1 where no ratio breaks the tolerance, 0 where every ratio does.
        interval: 95 % interval; None where there are no spare points.
        law: The fitted curve.
    """

    ratio: float
    interval: tuple[float, float] | None
    law: Law


def critical_ratio(
    ratios: Array, losses: Array, limit: float, draws: int = 400, seed: int = 0
) -> CriticalRatio:
    """Return the largest ratio whose original-domain loss stays within its tolerance.

    Args:
        ratios: r, `(N,)`.
        losses: L_orig at the end of the budget, `(N,)`.
        limit: L_orig0 + delta, nats per token.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    law = fit_ratio_law(ratios, losses)
    found = _solve(law.coefficients, limit)
    spare = law.x.size - 3
    if spare == 0:
        return CriticalRatio(found, None, law)
    fitted = law(law.x)
    residuals = adjusted(_slopes(law.x, *law.coefficients), law.values - fitted)
    rng = np.random.default_rng(seed)
    noise_NB = draws_of_noise(residuals, spare, law.x.size, draws, rng)
    drawn = []
    for noise in noise_NB.T:
        try:
            drawn.append(_solve(_refit(law.x, fitted + noise, law.coefficients, ""), limit))
        except InputError:  # noise without a curve: no draw
            continue
    return CriticalRatio(found, interval(np.array(drawn)) if drawn else None, law)


def _solve(coefficients: Array, limit: float) -> float:
    """Return the largest r in [0, 1] with level + size r^exponent <= limit; 0 if there is none."""
    level, size, exponent = coefficients
    if level + size <= limit:
        return 1.0
    share = (limit - level) / size
    if share <= 0.0:
        return 0.0
    root = math.exp(min(math.log(share) / exponent, 0.0))
    return root if size * exponent > 0.0 else 0.0  # a falling curve ends below: see above


def d_cpt(point: tuple[Array, Array, Array], coefficients: Array) -> Array:
    """Return equation (9).

    Args:
        point: N, D and s.
        coefficients: E, A, alpha, B, eta, beta, C, eps, gamma.
    """
    n, d, s = point
    level, a, alpha, b, eta, beta, c, eps, gamma = coefficients
    return level + a / n**alpha + b * s**eta / d**beta + c / (s + eps) ** gamma


@dataclass(frozen=True)
class JointLaw:
    """Equation (9) fitted to one corpus.

    Attributes:
        coefficients: E, A, alpha, B, eta, beta, C, eps, gamma; N in millions, D in units of `unit`.
        unit: Tokens in one unit of D.
        error: Root mean square of the residuals, nats per token.
    """

    coefficients: Array
    unit: float
    error: float

    def __call__(self, n: Any, d: Any, s: Any) -> Array:
        """Return the loss at N parameters, D tokens and a share s of the corpus."""
        point = (np.asarray(n, float) / 1e6, np.asarray(d, float) / self.unit, np.asarray(s, float))
        return d_cpt(point, self.coefficients)


def fit_joint_law(n: Array, d: Array, s: Array, losses: Array) -> JointLaw:
    """Fit equation (9) from several starts, all coefficients at least 0.

    Args:
        n: Parameters, `(N,)`.
        d: Tokens of the whole mixture, `(N,)`.
        s: Share of the corpus whose loss it is, `(N,)`; above 0.
        losses: `(N,)`.

    Raises:
        InputError: No more points than coefficients, or a share of 0.
    """
    several = np.unique(n).size > 1
    free = np.array([True, several, several, *[True] * 6])
    if losses.size <= free.sum():
        raise InputError(f"joint law: {losses.size} losses for {free.sum()} coefficients")
    if np.any(s <= 0.0):
        raise InputError("joint law: a share of 0; leave the controls out")
    unit = float(np.exp(np.log(d).mean()))
    point = (n / 1e6, d / unit, s)

    def whole(part: Array) -> Array:
        full = np.zeros(9)
        full[free] = part
        return full

    best = None
    for eta, gamma in ((0.5, 0.5), (1.0, 1.0), (0.2, 0.2)):
        start = np.array([losses.min(), 0.1, 0.3, 0.1, eta, 0.3, 0.1, 0.1, gamma])[free]
        found = least_squares(
            lambda part: d_cpt(point, whole(part)) - losses, start, bounds=(1e-6, np.inf)
        )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    error = math.sqrt(2.0 * best.cost / losses.size)
    return JointLaw(whole(best.x), unit, error)
