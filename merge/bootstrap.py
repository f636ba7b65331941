"""Paired cluster bootstrap: resample clusters, keep everything that hangs on them together.

All models answer the same items, so a difference is taken item by item before anything is
resampled; items of one cluster (a scenario told four times, a question in ten languages) are drawn
together, across categories too. Statistics follow "Adding error bars to evals" (arXiv 2411.00640)
and the warnings of "Don't use the CLT" (arXiv 2503.01747) for few items:

    interval = the wider of the percentile interval and mean -+ t_{K-1} * se, K clusters

and an interval that a sign-flip test could not support (fewer than log2(2/level) clusters differ)
includes 0. Where all clusters differ by the same, unlike ones up to a share of 1 - level^(1/K) are
allowed for.

Not promised: anything about items that the benchmark does not sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes, Score, require_paired
from merge.tails import student_quantile, student_two_sided

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # scores [..., C] -> [...]

REPLICATES = 2000
ALIKE = 1e-6
"""A standard error below this is rounding: every cluster differs by the same."""


@dataclass(frozen=True)
class Difference:
    """first minus second, in shares of 1.

    low, high: interval at confidence 1 - level. p: two-sided, uncorrected. holm: corrected for the
    number of comparisons made together, None where this one stood alone. gained, lost: items that
    only the first, only the second has right.
    """

    mean: float
    low: float
    high: float
    stderr: float
    level: float
    p: float
    n_items: int
    n_clusters: int
    gained: int
    lost: int
    holm: float | None = None


@dataclass(frozen=True, eq=False)
class Resampled:
    """One model's category scores [C], and in every resample [B, C]."""

    outcomes: Outcomes
    scores: Floats
    replicates: Floats


class Resampler:
    """Bootstrap over the clusters of one list of items; the same resamples serve every model.

    clusters: category -> cluster id per item, in item order. The order of categories in every
    vector of scores is that of `clusters`.
    """

    def __init__(
        self, clusters: Mapping[str, Sequence[str]], *, seed: int = 0, replicates: int = REPLICATES
    ) -> None:
        names = {name: k for k, name in enumerate(sorted(set().union(*clusters.values())))}
        self.n_clusters = len(names)
        if self.n_clusters < 2:
            raise ValueError("a bootstrap needs at least two clusters")
        self.categories = tuple(clusters)
        self.of_item = {c: np.array([names[i] for i in ids]) for c, ids in clusters.items()}
        self.draws = _draws(self.n_clusters, replicates, seed)  # [B, K]
        self.sizes = self._sums({c: np.ones(len(ids)) for c, ids in clusters.items()})  # [K, C]
        self.drawn_sizes = self.draws @ self.sizes  # [B, C]

    def _sums(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Sums per cluster and category, [K, C]; whole numbers, so float32 is exact."""
        columns = [
            np.bincount(self.of_item[c], weights=values[c], minlength=self.n_clusters)
            for c in self.categories
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def resample(self, outcomes: Outcomes) -> Resampled:
        """A category of which a resample drew no item keeps its score there. Raises ValueError
        where the items are not those of the clusters, or some were not evaluated."""
        sizes = {c: len(ids) for c, ids in self.of_item.items()}
        if outcomes.sizes != sizes:
            raise ValueError(f"items and clusters differ: {outcomes.sizes} and {sizes}")
        outcomes.require_complete("a bootstrap")
        sums = self._sums(outcomes.values)
        scores = sums.sum(axis=0, dtype=np.float64) / self.sizes.sum(axis=0, dtype=np.float64)
        replicates = np.broadcast_to(scores, self.drawn_sizes.shape).copy()
        drawn = self.drawn_sizes > 0
        np.divide(self.draws @ sums, self.drawn_sizes, where=drawn, out=replicates)
        return Resampled(outcomes, scores, replicates)

    def category_scores(self, model: Resampled) -> dict[str, Score]:
        """Per category, with the standard error of its clusters."""
        return {
            c: Score(float(model.scores[i]), len(ids), self._stderr(model.replicates[:, i]))
            for i, (c, ids) in enumerate(self.of_item.items())
        }

    def _stderr(self, replicates: Floats) -> float:
        return float(replicates.std() * math.sqrt(self.n_clusters / (self.n_clusters - 1)))

    def difference(
        self, first: Resampled, second: Resampled, statistic: Statistic, *, level: float
    ) -> Difference:
        """statistic(first) - statistic(second), with its interval at confidence 1 - level."""
        mean = float(statistic(first.scores) - statistic(second.scores))
        replicates = statistic(first.replicates) - statistic(second.replicates)  # [B]
        return self._conclude(first, second, self.categories, mean, replicates, level)

    def category_differences(
        self, first: Resampled, second: Resampled, *, level: float
    ) -> dict[str, Difference]:
        """Per category, uncorrected."""
        replicates = first.replicates - second.replicates
        differences = {}
        for i, c in enumerate(self.categories):
            net = first.outcomes.values[c] - second.outcomes.values[c]
            mean = float(net.sum() / len(net))  # one rounding: a fall of exactly 0.05 is 0.05
            differences[c] = self._conclude(first, second, (c,), mean, replicates[:, i], level)
        return differences

    def _conclude(
        self,
        first: Resampled,
        second: Resampled,
        categories: Sequence[str],
        mean: float,
        replicates: Floats,
        level: float,
    ) -> Difference:
        require_paired([first.outcomes, second.outcomes])
        per_item = {c: first.outcomes.values[c] - second.outcomes.values[c] for c in categories}
        clusters = np.concatenate([self.of_item[c] for c in categories])
        moved = clusters[np.concatenate([d != 0 for d in per_item.values()])]
        n_clusters, n_moved = len(np.unique(clusters)), len(np.unique(moved))
        stderr = self._stderr(replicates)
        low, high, p = _interval(mean, stderr, replicates, n_clusters, n_moved, level)
        return Difference(
            mean=mean,
            low=low,
            high=high,
            stderr=stderr,
            level=level,
            p=p,
            n_items=len(clusters),
            n_clusters=n_clusters,
            gained=sum(int((d > 0).sum()) for d in per_item.values()),
            lost=sum(int((d < 0).sum()) for d in per_item.values()),
        )


def _interval(
    mean: float, stderr: float, replicates: Floats, n_clusters: int, moved: int, level: float
) -> tuple[float, float, float]:
    """(low, high, two-sided p)."""
    if n_clusters < 2:
        return -1.0, 1.0, 1.0
    if stderr < ALIKE:  # the share of clusters unlike these is at most this (rule of 3)
        bound = (1 - level ** (1 / n_clusters)) * (1 + abs(mean))
        low, high = max(mean - bound, -1.0), min(mean + bound, 1.0)
        return low, high, 2.0 ** (1 - moved) if moved else 1.0
    df = n_clusters - 1
    half = student_quantile(level, df) * stderr
    low, high = np.quantile(replicates, [level / 2, 1 - level / 2])
    low, high = min(float(low), mean - half), max(float(high), mean + half)
    p = student_two_sided(mean / stderr, df)
    sign_flip = 2.0 ** (1 - moved)  # the smallest p that a sign-flip test could reach
    if sign_flip > level:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high, min(1.0, max(p, sign_flip))


@lru_cache(maxsize=1)
def _draws(n_clusters: int, replicates: int, seed: int) -> NDArray[np.float32]:
    """[B, K] how often each replicate drew each cluster; rows sum to K."""
    rng = np.random.default_rng(seed)
    draws = np.empty((replicates, n_clusters), np.float32)
    for row in draws:
        row[:] = np.bincount(rng.integers(n_clusters, size=n_clusters), minlength=n_clusters)
    draws.setflags(write=False)
    return draws
