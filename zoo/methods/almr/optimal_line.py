"""From the objective on a grid of ratios and learning rates to the optimal line and r*.

    (4)  J(r, eta) = J*(r) + c(r) (ln eta - ln eta*(r))^2      a parabola per ratio r
    (5)  ln eta*(r) = a + b f(r),   f(r) = ln r, r or logit r  the optimal line
    (6)  r* = argmin over the ratios of the grid of J(r, exp(a + b f(r)))

(4) is fitted to the points within a factor of 4 of the best learning rate; it is rejected where
these are fewer than 3 learning rates, where c(r) <= 0, or where the vertex lies outside the grid.
Runs whose J is not finite have no part in it. f is the form with the smallest leave-one-out error.
The controls r = 0 and r = 1 have no part in any fit: ln r and logit r are undefined there.

Shapes: N runs at one ratio, R ratios, B draws of a bootstrap. Learning rates as natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.methods.almr.resampling import adjusted, draws_of_noise, interval

Array = NDArray[np.float64]
NEAR = math.log(4.0)  # a parabola holds near its vertex alone
TOO_FEW = "fewer than 3 learning rates within a factor of 4 of the best one"
FORMS: dict[str, Callable[[Array], Array]] = {
    "log": np.log,
    "linear": lambda r: r,
    "logit": lambda r: np.log(r / (1.0 - r)),
}


@dataclass(frozen=True)
class Point:
    """A run of the grid.

    Attributes:
        ratio: r, share of added-language tokens, 0 to 1.
        lr: eta, peak learning rate.
        value: J, nats per token.
    """

    ratio: float
    lr: float
    value: float


@dataclass(frozen=True)
class Parabola:
    """Equation (4) at one ratio.

    Attributes:
        ratio: r.
        log_lr: ln eta of the runs that the fit used, `(N,)`.
        values: J of those runs, `(N,)`.
        coefficients: Of (ln eta)^2, ln eta and 1, `(3,)`; NaN where there are too few runs.
        rejected: Why the vertex is no optimum; empty where it is one.
    """

    ratio: float
    log_lr: Array
    values: Array
    coefficients: Array
    rejected: str = ""

    @property
    def curvature(self) -> float:
        """c(r)."""
        return float(self.coefficients[0])

    @property
    def vertex(self) -> float:
        """Ln eta*(r)."""
        return float(-self.coefficients[1] / (2.0 * self.coefficients[0]))

    @property
    def best(self) -> float:
        """J*(r)."""
        return float(np.polyval(self.coefficients, self.vertex))

    def at(self, log_lr: float) -> float:
        """Return J at a learning rate."""
        return float(np.polyval(self.coefficients, log_lr))


def fit_parabola(points: Sequence[Point]) -> Parabola:
    """Fit equation (4) to the runs of one ratio; each seed at a learning rate is a run."""
    ratio = points[0].ratio
    finite = [p for p in points if math.isfinite(p.value)]
    log_lr = np.log([p.lr for p in finite])
    values = np.array([p.value for p in finite])
    grid = np.unique(log_lr)
    means = [values[log_lr == x].mean() for x in grid]
    best = grid[np.argmin(means)] if means else math.nan
    near = np.abs(log_lr - best) <= NEAR + 1e-9
    x, y = log_lr[near], values[near]
    if np.unique(x).size < 3:
        return Parabola(ratio, x, y, np.full(3, math.nan), TOO_FEW)
    fit = Parabola(ratio, x, y, np.polyfit(x, y, 2))
    rejected = ""
    if fit.curvature <= 0.0:
        rejected = "the loss is not convex in ln eta"
    elif not grid[0] <= fit.vertex <= grid[-1]:
        rejected = "the vertex lies outside the grid of learning rates"
    return Parabola(ratio, x, y, fit.coefficients, rejected)


@dataclass(frozen=True)
class Line:
    """Equation (5).

    Attributes:
        form: f: `log`, `linear` or `logit`.
        a: Intercept, ln of a learning rate.
        b: Slope; its sign is a finding.
        left_out: Leave-one-out error of every form: root mean square in ln eta.
    """

    form: str
    a: float
    b: float
    left_out: dict[str, float]

    def log_lr(self, ratio: float) -> float:
        """Return ln eta*(r)."""
        return self.a + self.b * float(FORMS[self.form](np.array(ratio)))

    def lr(self, ratio: float) -> float:
        """Return eta*(r)."""
        return math.exp(self.log_lr(ratio))


def fit_line(parabolas: Sequence[Parabola], form: str | None = None) -> Line:
    """Fit equation (5) to the vertices that were not rejected.

    Args:
        parabolas: One a ratio, 0 < r < 1.
        form: f; None for the one with the smallest leave-one-out error.

    Raises:
        InputError: Fewer than three vertices: no line of two coefficients can be tested.
    """
    kept = [p for p in parabolas if not p.rejected]
    if len(kept) < 3:
        why = "; ".join(f"{p.ratio:g}: {p.rejected}" for p in parabolas if p.rejected)
        raise InputError(
            f"the optimal line needs 3 ratios with a vertex, there are {len(kept)}"
            + f" (rejected: {why})" * bool(why)
        )
    ratios = np.array([p.ratio for p in kept])
    vertices = np.array([p.vertex for p in kept])
    errors = {name: _left_out_error(f(ratios), vertices) for name, f in FORMS.items()}
    form = form or min(errors, key=lambda name: errors[name])
    b, a = np.polyfit(FORMS[form](ratios), vertices, 1)
    return Line(form, float(a), float(b), errors)


def _left_out_error(x_R: Array, y_R: Array) -> float:
    """Return the root mean square error at points that the line was not fitted to."""
    errors = []
    for i in range(x_R.size):
        line = np.polyfit(np.delete(x_R, i), np.delete(y_R, i), 1)
        errors.append(float(y_R[i] - np.polyval(line, x_R[i])))
    return math.sqrt(float(np.mean(np.square(errors))))


def choose_ratio(parabolas: Sequence[Parabola], line: Line) -> float:
    """Return r* of equation (6)."""
    kept = [p for p in parabolas if not p.rejected]
    return min(kept, key=lambda p: p.at(line.log_lr(p.ratio))).ratio


@dataclass(frozen=True)
class Optimum:
    """What the grid says.

    Attributes:
        parabolas: One a ratio, rejected ones too.
        line: The optimal line.
        ratio: r*.
        lr: eta*(r*).
        intervals: 95 % intervals of `a`, `b` and of ln eta* at each ratio (`log_lr@0.33`); empty
            where no parabola has more points than coefficients. They hold the noise of J, not the
            choice of the form.
    """

    parabolas: tuple[Parabola, ...]
    line: Line
    ratio: float
    lr: float
    intervals: dict[str, tuple[float, float]]


def find_optimum(
    points: Sequence[Point], form: str | None = None, draws: int = 1000, seed: int = 0
) -> Optimum:
    """Fit equations (4) to (6) and bootstrap the line.

    Args:
        points: The grid; controls at r = 0 and r = 1 are left out.
        form: f of the line; None chooses.
        draws: B.
        seed: Of the bootstrap.
    """
    inside = [p for p in points if 0.0 < p.ratio < 1.0]
    ratios = sorted({p.ratio for p in inside})
    parabolas = tuple(fit_parabola([p for p in inside if p.ratio == r]) for r in ratios)
    line = fit_line(parabolas, form)
    ratio = choose_ratio(parabolas, line)
    kept = [p for p in parabolas if not p.rejected]
    intervals = _bootstrap(kept, line, draws, seed)
    return Optimum(parabolas, line, ratio, line.lr(ratio), intervals)


def _bootstrap(
    parabolas: Sequence[Parabola], line: Line, draws: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals from new noise on the fitted parabolas."""
    parts = [adjusted(np.vander(p.log_lr, 3), p.values) for p in parabolas]
    spare = sum(p.log_lr.size - 3 for p in parabolas)
    if spare == 0:
        return {}
    rng = np.random.default_rng(seed)
    sizes = [p.log_lr.size for p in parabolas]
    noise_NB = draws_of_noise(np.concatenate(parts), spare, sum(sizes), draws, rng)
    vertices = []
    for p, noise in zip(parabolas, np.split(noise_NB, np.cumsum(sizes)[:-1]), strict=True):
        fitted = np.polyval(p.coefficients, p.log_lr)
        c_B, d_B, _ = np.polyfit(p.log_lr, fitted[:, None] + noise, 2)
        vertices.append(np.where(c_B > 0.0, -d_B / (2.0 * c_B), np.nan))
    vertices_RB = np.array(vertices)
    vertices_RB = vertices_RB[:, np.isfinite(vertices_RB).all(0)]
    x_R = FORMS[line.form](np.array([p.ratio for p in parabolas]))
    b_B, a_B = np.polyfit(x_R, vertices_RB, 1)
    lines = {f"log_lr@{p.ratio:g}": a_B + b_B * x for p, x in zip(parabolas, x_R, strict=True)}
    return {name: interval(values) for name, values in {"a": a_B, "b": b_B, **lines}.items()}
