"""What a study of ratio and learning rate says: the objective, and the fits of it.

    (2)  J(r, eta) = w (L_add - L_add0) + (1 - w) (L_orig - L_orig0)     0: the model before it
    (3)  or: minimise L_add subject to L_orig - L_orig0 <= delta

Other keys that were varied, such as the seed, make repeats of a cell. They size the noise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.errors import InputError, nearest
from zoo.methods.almr.mixture_laws import CriticalRatio, critical_ratio
from zoo.methods.almr.optimal_line import Optimum, Point, find_optimum
from zoo.study import StudyResults


@dataclass(frozen=True)
class Run:
    """A fit at one ratio and learning rate.

    Attributes:
        ratio: r, 0 to 1.
        lr: eta, peak learning rate.
        added: L_add, nats per token.
        original: L_orig, nats per token.
        curves: `added` and `original` at each validation: pairs of step and nats per token.
    """

    ratio: float
    lr: float
    added: float
    original: float
    curves: Mapping[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class AlongRatios:
    """How a loss changes along the ratios at one learning rate.

    Attributes:
        lr: eta.
        added: Share of the steps from a ratio to the next at which L_add falls.
        original: Share of the steps at which L_orig rises.
    """

    lr: float
    added: float
    original: float


@dataclass(frozen=True)
class Findings:
    """Everything that is reported.

    Attributes:
        runs: All fits.
        base: L_add0 and L_orig0 as a run at ratio 0 and learning rate 0.
        weight: w of equation (2).
        optimum: Line and r*.
        noise: Standard deviation of J between repeats of a cell; None without repeats.
        critical: Critical mixture ratio along the line; None where it could not be fitted.
        critical_problem: Why not.
        constrained: Best run under equation (3); None where none keeps to the tolerance.
        directions: One a learning rate.
        drift: Largest |L_add - L_add0| at r = 0; None without that control.
        forgetting: Largest L_orig - L_orig0 at r = 1; None without that control.
        diverged: Names of the cells that are left out.
    """

    runs: tuple[Run, ...]
    base: Run
    weight: float
    optimum: Optimum
    noise: float | None
    critical: CriticalRatio | None
    critical_problem: str
    constrained: Run | None
    directions: tuple[AlongRatios, ...]
    drift: float | None
    forgetting: float | None
    diverged: tuple[str, ...] = ()

    def objective(self, run: Run) -> float:
        """Return J of equation (2), nats per token."""
        return objective(run, self.base, self.weight)


def objective(run: Run, base: Run, weight: float) -> float:
    """Return J of equation (2); negative is better than the model before the study."""
    gained, lost = run.added - base.added, run.original - base.original
    return weight * gained + (1.0 - weight) * lost


def runs_of(
    results: StudyResults, ratio: str, lr: str, added: str, original: str
) -> tuple[list[Run], Run]:
    """Return the fits of a study, and the model before them.

    Args:
        results: What the study measured.
        ratio: Key of the ratio.
        lr: Key of the learning rate.
        added: Name of the measure L_add.
        original: Name of the measure L_orig.

    Raises:
        InputError: The study has no such key or measure, or did not measure the model before.
    """
    if not results.cells:
        raise InputError("the study has no finished cell")
    first = results.cells[0]
    wanted = ((ratio, first.settings), (lr, first.settings))
    for name, known in (*wanted, (added, first.measures), (original, first.measures)):
        if name not in known:
            raise InputError(f"report: the study has no {name!r}; {nearest(name, known)}")
    if not results.base:
        raise InputError("report: J needs the losses before training; set `base: true`")
    runs = []
    for cell in results.cells:
        r, eta = float(cell.settings[ratio]), float(cell.settings[lr])
        curves = {"added": cell.curves.get(added, []), "original": cell.curves.get(original, [])}
        runs.append(Run(r, eta, cell.measures[added], cell.measures[original], curves))
    return runs, Run(0.0, 0.0, results.base[added], results.base[original], {})


def find(
    runs: Sequence[Run],
    base: Run,
    weight: float = 0.5,
    tolerance: float = 0.05,
    form: str | None = None,
) -> Findings:
    """Fit everything.

    Args:
        runs: All fits, controls at r = 0 and r = 1 included.
        base: The model before them.
        weight: w of equation (2).
        tolerance: delta of equation (3), nats per token.
        form: f of the optimal line; None chooses.
    """
    points = [Point(run.ratio, run.lr, objective(run, base, weight)) for run in runs]
    optimum = find_optimum(points, form)
    limit = base.original + tolerance
    critical, problem = None, ""
    try:
        critical = critical_ratio(*_on_the_line(runs, optimum), limit)
    except InputError as error:
        problem = str(error)
    kept = [run for run in runs if run.original <= limit]
    drifts = [abs(run.added - base.added) for run in runs if run.ratio == 0.0]
    rises = [run.original - base.original for run in runs if run.ratio == 1.0]
    return Findings(
        runs=tuple(runs),
        base=base,
        weight=weight,
        optimum=optimum,
        noise=noise_of(points),
        critical=critical,
        critical_problem=problem,
        constrained=min(kept, key=lambda run: run.added, default=None),
        directions=tuple(directions(runs)),
        drift=max(drifts, default=None),
        forgetting=max(rises, default=None),
    )


def _on_the_line(runs: Sequence[Run], optimum: Optimum) -> tuple[np.ndarray, np.ndarray]:
    """Return each ratio, and L_orig of its run nearest to the line; repeats stay apart."""
    pairs = []
    for parabola in optimum.parabolas:
        own = [run for run in runs if run.ratio == parabola.ratio]
        wanted = optimum.line.log_lr(parabola.ratio)
        nearest_lr = min((run.lr for run in own), key=lambda lr: abs(math.log(lr) - wanted))
        pairs += [(run.ratio, run.original) for run in own if run.lr == nearest_lr]
    ratios, losses = zip(*pairs, strict=True)
    return np.array(ratios), np.array(losses)


def noise_of(points: Sequence[Point]) -> float | None:
    """Return the pooled standard deviation of J between repeats; None without repeats."""
    groups = defaultdict(list)
    for point in points:
        groups[point.ratio, point.lr].append(point.value)
    repeated = [np.array(values) for values in groups.values() if len(values) > 1]
    if not repeated:
        return None
    squares = sum(float(np.square(v - v.mean()).sum()) for v in repeated)
    return math.sqrt(squares / sum(v.size - 1 for v in repeated))


def directions(runs: Sequence[Run]) -> list[AlongRatios]:
    """Return, for each learning rate, how L_add and L_orig change from ratio to ratio."""
    found = []
    for lr in sorted({run.lr for run in runs}):
        own = [run for run in runs if run.lr == lr]
        ratios = sorted({run.ratio for run in own})
        if len(ratios) < 2:
            continue
        means = [
            [np.mean([getattr(run, name) for run in own if run.ratio == r]) for r in ratios]
            for name in ("added", "original")
        ]
        added, original = (np.diff(values) for values in means)
        found.append(AlongRatios(lr, float((added < 0).mean()), float((original > 0).mean())))
    return found


@dataclass(frozen=True)
class Probe:
    """A setting beside the predicted one.

    Attributes:
        name: `eta x 4`, `eta / 4`, `ratio 0.33`, ...
        difference: J of it minus J of the prediction, means over repeats, nats per token.
        noise: Standard error of that difference.
        worse: The prediction wins by more than two standard errors.
    """

    name: str
    difference: float
    noise: float
    worse: bool


def compare(
    predicted: Sequence[float], probes: Mapping[str, Sequence[float]], noise: float
) -> list[Probe]:
    """Compare the predicted setting with others beside the line.

    Args:
        predicted: J of each repeat at the predicted setting.
        probes: J of each repeat at another setting, by its name.
        noise: Standard deviation of J between repeats of a cell.
    """
    found = []
    for name, values in probes.items():
        difference = float(np.mean(values) - np.mean(predicted))
        error = noise * math.sqrt(1.0 / len(predicted) + 1.0 / len(values))
        found.append(Probe(name, difference, error, difference > 2.0 * error))
    return found


def transferred(lr: float, kappa: float) -> dict[str, float]:
    """Return the learning rate of a larger model, kappa eta*(r*), and the probes around it.

    Raises:
        InputError: kappa is not between 0 and 1.
    """
    if not 0.0 < kappa < 1.0:
        raise InputError(f"kappa: {kappa:g} is not between 0 and 1")
    return {"kappa / 2": kappa * lr / 2.0, "kappa": kappa * lr, "2 kappa": 2.0 * kappa * lr}
