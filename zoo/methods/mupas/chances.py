"""Who speaks next, as chances: equation (5), and whether anybody does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

SURE = 1e-12  # what is left to speak where silence is certain


def log_speaking(silence: float) -> float:
    """Return log(1 - P(SILENCE)) from log P(SILENCE), which is below 0."""
    return math.log(-math.expm1(min(silence, -SURE)))


def nobody_speaks(silences: Sequence[float]) -> bool:
    """Return whether it is likelier that nobody speaks than that any one person does (S2).

    Silences were learned with a weight of 1/(L - 1) each. Without it person i speaks with a chance
    of q_i = (1 - p_i) / (1 - p_i + (L - 1) p_i), and nobody with 1 - sum_i q_i.

    Args:
        silences: log p_i, p_i = P(SILENCE | s, u_<t, header_i), of each of the L >= 2 people.

    Example:
        >>> nobody_speaks([math.log(0.5)] * 3)  # who knows nothing: each of three as likely
        False
        >>> nobody_speaks([math.log(0.9)] * 3)
        True
    """
    speaking = []
    for silence in silences:
        p = math.exp(silence)
        speaking.append((1 - p) / (1 - p + (len(silences) - 1) * p))
    return 1 - sum(speaking) > max(speaking)


def chances_of(values: Mapping[str, float], silences: bool) -> dict[str, float]:
    """Return a distribution over names from log P(header), or from log P(SILENCE).

    Example:
        >>> chances_of({"Ann": -1.0, "Bob": -1.0}, silences=False)
        {'Ann': 0.5, 'Bob': 0.5}
    """
    scores = torch.tensor(list(values.values()), dtype=torch.float64)
    if silences:
        speaking = -torch.expm1(scores.clamp(max=0)) + SURE  # nobody at all: all alike
        shares = speaking / speaking.sum()
    else:
        shares = scores.softmax(0)
    return dict(zip(values, shares.tolist(), strict=True))
