"""Tail probabilities of Student's t, and Holm's correction; scipy would cost 60 MB of memory.

Sources: Abramowitz and Stegun 26.7.3-4 (exact, integer degrees of freedom) and 26.7.8 (normal
approximation, used from 500 on, where tails down to 1e-6 are within 1 %); Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_EXACT_BELOW = 500


def student_two_sided(t: float, df: int) -> float:
    """P(|T| >= |t|) with df >= 1 degrees of freedom."""
    t = abs(t)
    if math.isinf(t):
        return 0.0
    if df >= _EXACT_BELOW:
        return math.erfc(t * (1 - 1 / (4 * df)) / math.sqrt(1 + t * t / (2 * df)) / math.sqrt(2))
    theta = math.atan(t / math.sqrt(df))
    sin, cos = math.sin(theta), math.cos(theta)
    odd = df % 2
    term = cos if odd else 1.0
    total = 0.0
    for k in range(1 if odd else 0, df - 1, 2):  # powers of cos: 1, 3, .. or 0, 2, .. to df - 2
        total += term
        term *= cos * cos * (k + 1) / (k + 2)
    inside = 2 / math.pi * (theta + sin * total) if odd else sin * total
    return max(0.0, 1.0 - inside)


def student_quantile(level: float, df: int) -> float:
    """t with P(|T| >= t) = level, by bisection; 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    low, high = 0.0, 1.0
    while student_two_sided(high, df) > level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, df) > level else (low, middle)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number: reject where the adjusted one is at most the level, and
    the chance of any false rejection stays below the level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
