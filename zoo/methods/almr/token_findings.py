"""Laws of tokens from the validations of runs whose learning rate is constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zoo.errors import InputError
from zoo.methods.almr.findings import Findings, Run
from zoo.methods.almr.mixture_laws import fit_joint_law, fit_token_law


def token_lines(found: Findings, tokens_per_step: int, parameters: int | None) -> list[str]:
    """Return lines on L(D) at r* and on the joint law of each corpus.

    Args:
        found: The study; its runs have a constant learning rate.
        tokens_per_step: Of an optimiser step.
        parameters: N; None for 1 million, which changes nothing where N has no term.
    """
    runs = _nearest(found.runs, found.optimum.ratio, found.optimum.line.log_lr(found.optimum.ratio))
    inside = [
        run
        for r in (fit.ratio for fit in found.optimum.parabolas)
        for run in _nearest(found.runs, r, found.optimum.line.log_lr(r))
    ]
    lines = []
    for name in ("added", "original"):
        try:
            lines.append(_token_law(runs, name, tokens_per_step, found.optimum.ratio))
        except InputError as error:
            lines.append(f"L_{name}(D): not fitted ({error}).")
        try:
            lines.append(_joint_law(inside, name, tokens_per_step, parameters or 1_000_000))
        except InputError as error:
            lines.append(f"Joint law of L_{name}: not fitted ({error}).")
    return lines


def _nearest(runs: Sequence[Run], ratio: float, log_lr: float) -> list[Run]:
    """Return the runs of a ratio at the learning rate that is nearest to one."""
    own = [run for run in runs if run.ratio == ratio]
    lr = min((run.lr for run in own), key=lambda lr: abs(math.log(lr) - log_lr))
    return [run for run in own if run.lr == lr]


def _points(runs: Sequence[Run], name: str, tokens_per_step: int) -> np.ndarray:
    """Return ratio, tokens and loss of each validation, `(3, N)`."""
    rows = [(run.ratio, step * tokens_per_step, v) for run in runs for step, v in run.curves[name]]
    return np.array(rows, dtype=float).reshape(-1, 3).T


def _token_law(runs: Sequence[Run], name: str, tokens_per_step: int, ratio: float) -> str:
    _, tokens, losses = _points(runs, name, tokens_per_step)
    level, size, exponent = fit_token_law(tokens, losses).coefficients
    return f"L_{name}(D) = {level:.3f} + {size:.3g} D^{exponent:.3f} at r = {ratio:g}."


def _joint_law(runs: Sequence[Run], name: str, tokens_per_step: int, parameters: int) -> str:
    ratios, tokens, losses = _points(runs, name, tokens_per_step)
    shares = ratios if name == "added" else 1.0 - ratios
    law = fit_joint_law(np.full_like(shares, parameters), tokens, shares, losses)
    level, _, _, b, eta, beta, c, eps, gamma = law.coefficients
    return (
        f"Joint law: L_{name}(D, s) = {level:.3f} + {b:.3g} s^{eta:.3g} / d^{beta:.3g} + "
        f"{c:.3g} / (s + {eps:.3g})^{gamma:.3g}, d = D / {law.unit:.3g}, s = share of its "
        f"tokens; root mean square error {law.error:.2g}."
    )
