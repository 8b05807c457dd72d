"""Surfaces of the loss over ratio and learning rate whose coefficients are known."""

from __future__ import annotations

import math

import numpy as np

from zoo.methods.almr.optimal_line import Point

RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8)
LRS = tuple(float(x) for x in np.geomspace(3e-5, 3e-3, 8))
A, B = math.log(4e-4), -0.25  # ln eta*(r) = A + B f(r)
FORMS = {"log": math.log, "linear": lambda r: r, "logit": lambda r: math.log(r / (1 - r))}


def loss(ratio: float, lr: float, form: str = "log") -> float:
    """J(r, eta), smallest at r = 0.5 and on the line; curvature between 0.05 and 0.1."""
    distance = math.log(lr) - (A + B * FORMS[form](ratio))
    return 2.0 + (ratio - 0.5) ** 2 + (0.05 + 0.05 * ratio) * distance**2


def grid(noise: float, seed: int = 0, form: str = "log") -> list[Point]:
    """The grid with noise on J, and the two controls, whose loss says nothing of the line."""
    rng = np.random.default_rng(seed)
    runs = [Point(r, lr, loss(r, lr, form) + noise * rng.normal()) for r in RATIOS for lr in LRS]
    return [*runs, *(Point(r, lr, 99.0) for r in (0.0, 1.0) for lr in LRS)]
