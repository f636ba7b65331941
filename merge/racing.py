"""Racing: give many weight vectors few items, and the good ones more.

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) on nested, category-stratified
subsets that all vectors share. After each rung at most the best third goes on, and of these only
vectors whose paired interval against the leader still reaches 0. The winner is always evaluated
completely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.simplex import Weights
from merge.subsets import Subsets
from merge.trials import Found, Trials, Wanted

RUNGS = (0.06, 0.18, 0.54, 1.0)
"""Share of the items behind each vector that is still in the race."""
KEEP = 3
"""One in this many goes on to the next rung, but never fewer than FINALISTS."""
FINALISTS = 2
Z = 3.0
"""Standard errors by which a vector must trail the leader to be dropped early."""


class RaceSearch:
    """Find the best of `points`. sizes: items per category of the tune split, needed only where
    no member is known. Deterministic by seed; speaks `merge.trials.Search`."""

    def __init__(
        self,
        points: Sequence[Weights],
        *,
        objective: Objective | None = None,
        known: Sequence[Outcomes] = (),
        sizes: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        if not points:
            raise ValueError("a race needs at least one weight vector")
        if sizes is None and not known:
            raise ValueError("a race needs the number of items, or the members' outcomes")
        self.points = tuple(dict.fromkeys(points))
        self.trials = Trials(len(points[0]), objective or Objective(), known)
        items = dict(sizes) if sizes is not None else known[0].sizes
        importance = self.trials.objective.weights
        self.subsets = Subsets(items, known, seed=seed, importance=importance)
        self.rungs = [self.subsets.draw(fraction) for fraction in RUNGS]
        self._running = [list(self.points)]  # per rung reached, the vectors still in the race

    def ask(self) -> Weights | None:
        """The first vector, in order, that lacks items of the present rung."""
        while True:
            items = self.rungs[len(self._running) - 1]
            for weights in self._running[-1]:
                if lacks(self.trials.get(weights), items):
                    return weights
            if len(self._running) == len(self.rungs):
                return None
            self._running.append(self._survivors(self._running[-1], items))

    def wanted(self, weights: Weights) -> Wanted:
        return unseen(self.trials.get(weights), self.rungs[len(self._running) - 1])

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)

    def best(self) -> Found:
        return self.trials.best(self.points)

    def _survivors(self, running: list[Weights], items: Wanted) -> list[Weights]:
        """Judged on the items of this rung only, so that what was evaluated beyond them, or will
        be, does not change who survives."""
        parts = [outcomes.only(items) for w in running if (outcomes := self.trials.get(w))]
        scores = np.stack([self._estimate(w, p) for w, p in zip(running, parts, strict=True)])
        values = self.trials.objective.value(scores, self.subsets.categories)
        reference = self.trials.best_member
        if reference is not None:
            values = values - self.trials.objective.shortfall(scores, reference.scores())
        order = np.argsort(-values, kind="stable")
        keep = max(FINALISTS, math.ceil(len(running) / KEEP))
        leader = order[0]
        return [
            running[i]
            for i in order[:keep]
            if values[leader] - values[i] <= Z * _paired_error(parts[leader], parts[i])
        ]

    def _estimate(self, weights: Weights, part: Outcomes) -> NDArray[np.float64]:
        mixture = np.array([float(w) for w in weights]) if self.trials.known else np.zeros(0)
        return self.subsets.estimate(part, mixture)[0]


def _paired_error(first: Outcomes, second: Outcomes) -> float:
    """Standard error of the difference of the means over categories, on common items; half a
    discordant item is added per category, so that no few items look like certainty."""
    variance = 0.0
    for c, bits in first.values.items():
        seen = bits >= 0
        d = bits[seen] - second.values[c][seen].astype(float)
        variance += (d.var() + 0.5 / len(d)) / len(d)
    return math.sqrt(variance) / len(first.values)


def lacks(outcomes: Outcomes | None, items: Wanted) -> bool:
    return outcomes is None or any(
        bool((outcomes.values[c][p] < 0).any()) for c, p in items.items()
    )


def unseen(outcomes: Outcomes | None, items: Wanted) -> Wanted:
    """Of `items`, the positions that were not evaluated yet."""
    if outcomes is None:
        return items
    return {c: p[outcomes.values[c][p] < 0] for c, p in items.items()}
