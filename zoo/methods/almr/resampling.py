"""Bootstrap of fits: new noise, as large as the residuals say, on the fitted values.

Residuals of a fit with p coefficients are smaller than the noise was; they are divided by
sqrt(1 - leverage). Their common scale is itself drawn, s sqrt(m / chi2_m) with m spare points, so
that the intervals of a fit with few spare points are as wide as Student's t asks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def adjusted(design_NP: Array, values_N: Array) -> Array:
    """Return residuals of a least-squares fit over sqrt(1 - leverage), `(M,)`.

    Points that the fit meets exactly whatever their value (leverage 1) are left out.

    Args:
        design_NP: Columns of the linear fit; of a curve, its derivatives by the coefficients.
        values_N: What was fitted; of a curve, its residuals.
    """
    q_NP, _ = np.linalg.qr(design_NP)
    free_N = 1.0 - np.square(q_NP).sum(1)
    residuals_N = values_N - q_NP @ (q_NP.T @ values_N)
    kept = free_N > 1e-9
    return residuals_N[kept] / np.sqrt(free_N[kept])


def draws_of_noise(
    residuals: Array, spare: int, size: int, draws: int, rng: np.random.Generator
) -> Array:
    """Return new noise, `(size, draws)`.

    Args:
        residuals: Adjusted ones, pooled over fits whose noise is of one size.
        spare: m, points minus coefficients, of all fits.
        size: Points that need noise.
        draws: Columns.
        rng: Source of randomness.
    """
    centred = residuals - residuals.mean()
    scale_B = np.sqrt(spare / rng.chisquare(spare, draws))
    return rng.choice(centred, (size, draws)) * scale_B


def interval(values_B: Array, share: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds a share of the draws."""
    low, high = np.quantile(values_B, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return float(low), float(high)
