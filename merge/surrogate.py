"""Weight search by surrogate and racing, over the whole simplex: the default.

A fixed number of complete evaluations is spent on three nested subsets of the items (a ninth, a
third, all): many vectors get a ninth, the promising ones a third, the best few everything. Which
vector is tried next is decided by a Gaussian process (`merge.kriging`) on estimates that use the
members' own outcomes item by item (`merge.subsets`). Corners and faces belong to the space: members
are known before the search starts and cost nothing, so the answer is never worse than the best
member on the tune split. The paper's grid (arXiv 2511.13254) spends 36 to 126 complete evaluations
and has neither.

Not promised: the optimum. A landscape with a narrow peak away from everything tried is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from merge.kriging import fit
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.racing import lacks, unseen
from merge.simplex import Weights, grid, uniform
from merge.subsets import Subsets
from merge.trials import Found, Trials, Wanted

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  # [n, members] weights in units of 1 / PARTS

RUNGS = (1 / 9, 1 / 3, 1.0)
SHARES = (0.4, 0.3)
"""Of the budget, for the first and second rung; the rest completes the best vectors."""
PARTS = 20
CANDIDATES = 1500
"""Vectors among which the next is chosen where the whole lattice is larger than this."""
CURIOSITY = (2.0, 0.3)
"""Standard deviations added to the prediction: at the first trial and at the last."""


class SurrogateSearch:
    """known: the members' own outcomes on the tune split, in member order.

    budget: complete evaluations to spend, twice the number of members by default. Deterministic by
    seed given the answers; speaks `merge.trials.Search`.
    """

    def __init__(
        self,
        known: Sequence[Outcomes],
        *,
        objective: Objective | None = None,
        budget: float | None = None,
        seed: int = 0,
    ) -> None:
        if len(known) < 2:
            raise ValueError("a search over mixtures needs the outcomes of at least two members")
        self.n = len(known)
        self.seed = seed
        self.budget = float(2 * self.n if budget is None else budget)
        self.trials = Trials(self.n, objective or Objective(), known)
        importance = self.trials.objective.weights
        self.subsets = Subsets(known[0].sizes, known, seed=seed, importance=importance)
        self.rungs = [self.subsets.draw(fraction) for fraction in RUNGS]
        self.places = _places(self.budget)
        self._lattice = _lattice(self.n)
        self._asked: tuple[Weights, int] | None = None  # with the rung it is asked for
        self._estimates: dict[tuple[Weights, int], tuple[Floats, Floats]] = {}

    def ask(self) -> Weights | None:
        if self._asked is None:
            self._asked = self._choose()
        return self._asked[0] if self._asked is not None else None

    def wanted(self, weights: Weights) -> Wanted:
        rung = self._asked[1] if self._asked and self._asked[0] == weights else len(RUNGS) - 1
        return unseen(self.trials.get(weights), self.rungs[rung])

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)
        self._asked = None

    def best(self) -> Found:
        """The best of the completely evaluated vectors and the members."""
        return self.trials.best([*self.trials.told, *self.trials.known])

    def _choose(self) -> tuple[Weights, int] | None:
        """The next vector and the rung it lacks; None when places or budget are used up."""
        told = self.trials.told
        for weights in told:  # begun, but not finished at its rung: an interrupted trial
            if lacks(told[weights], self.rungs[0]):
                return weights, 0
        spent = sum(o.n_evaluated for o in told.values()) / self.subsets.full
        for rung, places in enumerate(self.places):
            here = [w for w, o in told.items() if not lacks(o, self.rungs[rung])]
            if len(here) >= places:
                continue
            chosen = self._propose() if rung == 0 else self._promote(rung, here)
            if chosen is None:
                continue
            cost = sum(map(len, unseen(told.get(chosen), self.rungs[rung]).values()))
            if spent + cost / self.subsets.full > self.budget:
                return None
            return chosen, rung
        return None

    def _promote(self, rung: int, here: Sequence[Weights]) -> Weights | None:
        """Of the vectors on the rung below, the one with the best prediction."""
        below = [w for w, o in self.trials.told.items() if not lacks(o, self.rungs[rung - 1])]
        waiting = [w for w in below if w not in here]
        if not waiting:
            return None
        values, _ = self._predict(_floats(waiting))
        return waiting[int(values.argmax())]

    def _propose(self) -> Weights:
        """A new vector: the uniform one first, then the most promising by prediction plus
        curiosity, which fades."""
        told = self.trials.told
        if not told:
            return uniform(self.n)
        counts = self._candidates()
        values, spread = self._predict(counts / PARTS)
        progress = min(1.0, len(told) / self.places[0])
        values = values + spread * (CURIOSITY[0] + progress * (CURIOSITY[1] - CURIOSITY[0]))
        for i in np.argsort(-values, kind="stable"):
            weights = tuple(Fraction(int(k), PARTS) for k in counts[i])
            if weights not in told and weights not in self.trials.known:
                return weights
        raise AssertionError("every candidate was tried; the lattice is larger than any budget")

    def _predict(self, points: Floats) -> tuple[Floats, Floats]:
        """The objective [n] (less the fall below the floor) and its standard deviation [n]."""
        told = list(self.trials.told.items())
        x = _floats([w for w, _ in told])
        pairs = [self._estimate(w, o) for w, o in told]
        scores, variances = (np.stack(part) for part in zip(*pairs, strict=True))  # [m, C] each
        corners = self.subsets.member_scores.T  # [members, C]
        goal, names = self.trials.objective, self.subsets.categories
        departures = scores - x @ corners
        shares = self._importance()
        surface = fit(x, departures, departures @ shares, variances @ shares**2)
        departure, spread = surface.predict(points)
        predicted = points @ corners + departure
        values = goal.value(predicted, names)
        reference = self.trials.best_member()
        assert reference is not None
        return values - 10 * goal.shortfall(predicted, reference.scores()), spread

    def _importance(self) -> Floats:
        """Weights [C] of the categories in the objective; equal for the worst category."""
        weights, names = self.trials.objective.weights, self.subsets.categories
        raw = np.array([1.0 if weights is None else weights[c] for c in names])
        return np.asarray(raw / raw.sum())

    def _estimate(self, weights: Weights, outcomes: Outcomes) -> tuple[Floats, Floats]:
        key = weights, outcomes.n_evaluated
        if key not in self._estimates:
            self._estimates[key] = self.subsets.estimate(outcomes, _floats([weights])[0])
        return self._estimates[key]

    def _candidates(self) -> Counts:
        """The whole lattice where it is small; otherwise seeded draws from faces of every size,
        and the neighbours of the best so far."""
        if self._lattice is not None:
            return self._lattice
        rng = np.random.default_rng([self.seed, len(self.trials.told)])
        drawn = np.stack([_random_point(rng, self.n) for _ in range(CANDIDATES)])
        told = [w for w in self.trials.told if all(PARTS % v.denominator == 0 for v in w)]
        if not told:
            return drawn
        values, _ = self._predict(_floats(told))
        best = [told[i] for i in np.argsort(-values, kind="stable")[:3]]
        near = [_neighbours(np.array([int(v * PARTS) for v in w], np.int64)) for w in best]
        return np.concatenate([*near, drawn])


def _places(budget: float) -> tuple[int, int, int]:
    """How many vectors reach each rung within the budget."""
    first = max(2, int(SHARES[0] * budget / RUNGS[0]))
    second = max(1, int(SHARES[1] * budget / (RUNGS[1] - RUNGS[0])))
    spent = first * RUNGS[0] + second * (RUNGS[1] - RUNGS[0])
    return first, second, max(1, int((budget - spent) / (1 - RUNGS[1])))


def _lattice(n: int) -> Counts | None:
    """All weights in units of 1 / PARTS, zeros included, for up to four members: 21, 231, 1771."""
    if n > 4:
        return None
    return np.array([[int(v * PARTS) for v in w] for w in grid(n, PARTS, least=0)], np.int64)


def _random_point(rng: np.random.Generator, n: int) -> Counts:
    """A uniform point of the lattice inside a random face."""
    size = int(rng.integers(2, n + 1))
    face = rng.permutation(n)[:size]
    cuts = np.sort(rng.integers(0, PARTS + 1, size=size - 1))
    point = np.zeros(n, np.int64)
    point[face] = np.diff(np.concatenate([[0], cuts, [PARTS]]))
    return point


def _neighbours(point: Counts) -> Counts:
    """Every point that moves one or three units from one member to another."""
    moves = []
    for i in np.flatnonzero(point):
        for j in range(len(point)):
            for step in (1, 3):
                if i != j and point[i] >= step:
                    moved = point.copy()
                    moved[i] -= step
                    moved[j] += step
                    moves.append(moved)
    return np.stack(moves)


def _floats(weights: Sequence[Weights]) -> Floats:
    return np.array([[float(v) for v in w] for w in weights])
