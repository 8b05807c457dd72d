"""A study whose losses are known: the grid with both controls, and its best ratio by hand."""

from __future__ import annotations

import math

import numpy as np
from methods.almr.surfaces import LRS, RATIOS, A, B

from zoo.study import StudyCell, StudyResults

RATIO, LR, SEED = "data.ratio", "model.optimizer.lr", "seed_everything"
BASE = {"added": 4.0, "original": 2.5}
STEPS = (100, 200, 400, 800, 1600)


def losses(ratio: float, lr: float, steps: int = 1600) -> tuple[float, float]:
    """L_add falls and L_orig rises with the ratio; both best on ln eta = A + B ln r."""
    off = 0.0 if ratio in (0.0, 1.0) else 0.1 * (math.log(lr) - A - B * math.log(ratio)) ** 2
    fall = (steps / 1600.0) ** -0.4
    added = 4.0 if ratio == 0.0 else 2.8 + 0.6 * fall - 0.9 * ratio**0.5
    return added + off, 2.45 + 0.01 * fall + 0.4 * ratio**1.5 + off


def results(noise: float = 0.0, ratios: tuple[float, ...] = (0.0, *RATIOS, 1.0)) -> StudyResults:
    """The grid with both controls, and a second seed at the centre."""
    rng = np.random.default_rng(0)
    cells = []
    for ratio, lr, seed in [(r, lr, 0) for r in ratios for lr in LRS] + [(0.5, LRS[4], 1)]:
        curve = np.array([losses(ratio, lr, steps) for steps in STEPS])
        curve = curve + noise * rng.normal(size=curve.shape)
        curves = {
            name: list(zip(STEPS, column.tolist(), strict=True))
            for name, column in zip(BASE, curve.T, strict=True)
        }
        last = {name: pairs[-1][1] for name, pairs in curves.items()}
        cells.append(StudyCell({RATIO: ratio, LR: lr, SEED: seed}, last, curves))
    return StudyResults(tuple(cells), BASE)


def best_ratio() -> float:
    """r* by hand: the smallest J on the line among the grid's ratios."""
    on_line = {r: losses(r, math.exp(A + B * math.log(r))) for r in RATIOS}
    return min(on_line, key=lambda r: sum(on_line[r]))
