"""Exact weight vectors: fractions, none negative, sum exactly 1.

Floats do not do here: 0.1 + 0.2 + 0.7 is not 1, and a soup is rebuilt bit for bit from its
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

Weights = tuple[Fraction, ...]


class BadWeights(ValueError):
    """A weight vector that is none; the message names the offending member."""


def parse_weights(texts: Sequence[str | int | Fraction]) -> Weights:
    """Weights from "3/10", "0.3" or exact numbers. Raises BadWeights (floats are refused)."""
    weights = []
    for i, text in enumerate(texts):
        if isinstance(text, float):
            raise BadWeights(f"weight {i} is the float {text}; write it as text, exactly")
        try:
            weights.append(Fraction(text))
        except (ValueError, ZeroDivisionError):
            raise BadWeights(f"weight {i} is {text!r}, not a fraction or a decimal") from None
    return check_weights(weights)


def check_weights(weights: Sequence[Fraction], n_members: int | None = None) -> Weights:
    """The same weights as a tuple. Raises BadWeights unless they are n_members fractions, none
    negative, that sum to 1."""
    if n_members is not None and len(weights) != n_members:
        raise BadWeights(f"{len(weights)} weights for {n_members} members")
    for i, weight in enumerate(weights):
        if not isinstance(weight, Fraction):
            raise BadWeights(f"weight {i} is {weight!r}, not a Fraction")
        if weight < 0:
            raise BadWeights(f"weight {i} is {weight}, below 0")
    if sum(weights) != 1:
        raise BadWeights(f"weights sum to {sum(weights)}, not to 1")
    return tuple(weights)


def uniform(n: int) -> Weights:
    return (Fraction(1, n),) * n


def corner(n: int, i: int) -> Weights:
    """All weight on member i."""
    return tuple(Fraction(int(i == j)) for j in range(n))


def grid(n: int, parts: int, least: int) -> Iterator[Weights]:
    """Every vector of n multiples of 1/parts, each at least least/parts, in lexicographic order.
    With least = 1 there are C(parts - 1, n - 1) of them."""
    for counts in _compositions(parts, n, least):
        yield tuple(Fraction(count, parts) for count in counts)


def _compositions(total: int, n: int, least: int) -> Iterator[tuple[int, ...]]:
    if n == 1:
        if total >= least:
            yield (total,)
        return
    for first in range(least, total - least * (n - 1) + 1):
        for rest in _compositions(total - first, n - 1, least):
            yield (first, *rest)
