"""Nested subsets of items that estimate a soup's scores cheaply.

Items are grouped by category and by how many members solve them (none, some, all). Items on which
all of these agree tell little about a soup, so few of them are drawn, but some: soups do solve
items that every member fails. Within a group the order is random, seeded, and the same for every
weight vector: vectors are compared on the same items, and a larger subset holds the smaller.

    score_c(w) = sum_j v_j score_c(j)  +  sum_h W_h mean_{i in h, seen} d_i,
    d_i        = x_i(w) - sum_j v_j x_ij          (h: groups of category c, W_h: their shares)

A stratified difference estimator: j runs over the members, and only the departure from their
mixture v has to be sampled. Without known outcomes d_i = x_i and the groups are the categories.

Not promised: variances with clusters; items are taken as independent here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes

Floats = NDArray[np.float64]

SPREAD = {"any": 0.45, "none": 0.2, "some": 0.4, "all": 0.15}
"""Expected standard deviation of d_i per group; only guides how many items are drawn, and stands
in for a variance until a few items are seen."""
PRIOR_ITEMS = 4
"""Weight of that expectation against the observed variance, in items."""


@dataclass(frozen=True, eq=False)
class Group:
    """positions: item indices in the order in which they are drawn."""

    category: int
    positions: NDArray[np.intp]
    spread: float


class Subsets:
    """sizes: category -> number of items. known: members' outcomes, or empty. importance: how much
    the objective depends on each category (equal by default)."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        known: Sequence[Outcomes] = (),
        *,
        seed: int = 0,
        importance: Mapping[str, float] | None = None,
    ) -> None:
        self.categories = tuple(sizes)
        self.sizes = dict(sizes)
        self.full = sum(sizes.values())
        self.known = {
            c: np.array([o.values[c] for o in known], np.float64).reshape(-1, sizes[c])
            for c in self.categories
        }  # category -> [members, items]
        rng = np.random.default_rng([seed, 0x5E7])
        self.groups = [
            Group(k, rng.permutation(positions), spread)
            for k, c in enumerate(self.categories)
            for spread, positions in _kinds(self.known[c])
            if len(positions)
        ]
        matters = np.array([1.0 if importance is None else importance[c] for c in self.categories])
        matters = np.maximum(matters / matters.sum(), 0.05 / len(matters))  # for floors: all count
        shares = [len(g.positions) / self.sizes[self.categories[g.category]] for g in self.groups]
        self._share = np.array(shares)  # [H] of its category
        self._need = np.array(
            [s * g.spread * matters[g.category] for s, g in zip(shares, self.groups, strict=True)]
        )
        self.known_scores = np.array([self.known[c].mean(axis=1) for c in self.categories])

    def draw(self, fraction: float) -> dict[str, NDArray[np.intp]]:
        """About this fraction of all items: category -> positions, ascending. The subset of a
        smaller fraction is contained. Allocation is Neyman's: proportional to share times spread,
        capped by the group, at least two items each."""
        capacity = np.array([len(g.positions) for g in self.groups])
        if fraction >= 1:
            counts = capacity
        else:
            low, high = 0.0, float((capacity / self._need).max())
            for _ in range(50):
                middle = (low + high) / 2
                over = self._counts(middle, capacity).sum() > fraction * self.full
                low, high = (low, middle) if over else (middle, high)
            counts = self._counts(low, capacity)
        drawn: dict[str, list[NDArray[np.intp]]] = {c: [] for c in self.categories}
        for group, count in zip(self.groups, counts, strict=True):
            drawn[self.categories[group.category]].append(group.positions[:count])
        return {c: np.sort(np.concatenate(parts)) for c, parts in drawn.items()}

    def _counts(self, scale: float, capacity: NDArray[np.intp]) -> NDArray[np.intp]:
        wished = np.maximum(np.ceil(scale * self._need), 2).astype(np.intp)
        return np.minimum(wished, capacity)

    def estimate(self, outcomes: Outcomes, mixture: Floats) -> tuple[Floats, Floats]:
        """Category scores [C] over all items and the variances [C] of these estimates, from the
        items evaluated. mixture: [members] v, summing to 1 (empty where nothing is
        known). A completely evaluated vector has its exact scores and variance 0."""
        scores = self.known_scores @ mixture if len(mixture) else np.zeros(len(self.categories))
        variances = np.zeros(len(self.categories))
        departures = {
            c: np.where(bits >= 0, bits - mixture @ self.known[c], np.nan)
            if len(mixture)
            else np.where(bits >= 0, bits, np.nan)
            for c, bits in outcomes.values.items()
        }
        for group, share in zip(self.groups, self._share, strict=True):
            d = departures[self.categories[group.category]]
            seen = d[group.positions]
            seen = seen[~np.isnan(seen)]
            n, size = len(seen), len(group.positions)
            if n == 0:  # not drawn at all: assume the category's departure
                rest = d[~np.isnan(d)]
                mean, variance = (rest.mean() if len(rest) else 0.0), group.spread**2
            else:
                mean = seen.mean()
                squares = ((seen - mean) ** 2).sum() + PRIOR_ITEMS * group.spread**2
                variance = squares / (n - 1 + PRIOR_ITEMS) / n * (1 - n / size)
            scores[group.category] += share * mean
            variances[group.category] += share**2 * variance
        return scores, variances


def _kinds(known: Floats) -> list[tuple[float, NDArray[np.intp]]]:
    """Groups of the items [n] of one category: expected spread and positions."""
    if not len(known):
        return [(SPREAD["any"], np.arange(known.shape[1]))]
    solved = known.mean(axis=0)
    kinds = {"none": solved == 0, "some": (solved > 0) & (solved < 1), "all": solved == 1}
    return [(SPREAD[kind], np.flatnonzero(where)) for kind, where in kinds.items()]
