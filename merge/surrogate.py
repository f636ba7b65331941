"""Weight search by surrogate and racing, over the whole simplex: the default.

The uniform soup is evaluated completely and becomes the anchor. The rest of a fixed number of
complete evaluations is spent on three nested subsets of the items (a sixth, a half, all): many
vectors get a sixth, the promising ones half, the best few everything. Which vector is tried next is
decided by a Gaussian process (`merge.kriging`) on estimates that use the outcomes of members and
anchor item by item (`merge.subsets`). Corners and faces belong to the space: members
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

from merge.kriging import Surface, fit
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.racing import lacks, unseen
from merge.simplex import Weights, grid, uniform
from merge.subsets import Subsets
from merge.trials import Found, Trials, Wanted

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  # [n, members] weights in units of 1 / PARTS

RUNGS = (1 / 6, 1 / 2, 1.0)
SHARES = (0.3, 0.3)
"""Of the budget, for the first and second rung; the rest completes the best vectors."""
PARTS = 20
LATTICE_UP_TO = 4
"""Members up to which every vector in units of 1 / PARTS is a candidate."""
POOL = 1500
"""Candidates drawn where there are more members."""
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
        self._reference = known[int(np.argmax([self.trials.value(o) for o in known]))].scores()
        self._categories = known[0].categories
        self._corners = np.stack([outcomes.scores() for outcomes in known])  # [members, C]
        self.subsets: Subsets | None = None  # until the anchor is told
        self.rungs: list[Wanted] = []
        self.places = _places(self.budget)
        self.pool = _pool(self.n, seed)
        self._level: dict[Weights, int] = {}  # rungs finished, per vector told
        self._estimates: dict[Weights, tuple[Floats, Floats]] = {}
        self._surface: Surface | None = None  # of everything told so far
        self._asked: tuple[Weights, int] | None = None  # with the rung it is asked for

    def ask(self) -> Weights | None:
        if self._asked is None:
            self._asked = self._choose()
        return self._asked[0] if self._asked is not None else None

    def wanted(self, weights: Weights) -> Wanted | None:
        if self.subsets is None:
            return self.trials.missing(weights)
        rung = self._asked[1] if self._asked and self._asked[0] == weights else len(RUNGS) - 1
        return unseen(self.trials.get(weights), self.rungs[rung])

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)
        self._surface = self._asked = None
        if self.subsets is not None:
            self._digest(weights)
        elif self.trials.done(uniform(self.n)):
            self._drop_anchor()

    def _drop_anchor(self) -> None:
        known = list(self.trials.known.values())
        self.subsets = Subsets(
            known[0].sizes,
            known,
            anchor=self.trials.told[uniform(self.n)],
            seed=self.seed,
            importance=self.trials.objective.weights,
        )
        self.rungs = [self.subsets.draw(fraction) for fraction in RUNGS]
        for weights in self.trials.told:
            self._digest(weights)

    def _digest(self, weights: Weights) -> None:
        """How far a vector has come, and what its scores are as far as can be told. The nearer it
        lies to the middle, the more the anchor says about it and the less the members do."""
        assert self.subsets is not None
        outcomes = self.trials.told[weights]
        self._level[weights] = sum(not lacks(outcomes, items) for items in self.rungs)
        point = _floats([weights])[0]
        middle = (1 - point @ point) / (1 - 1 / self.n)  # 0 at a corner, 1 at the anchor
        mixture = np.append((1 - middle) * point, middle)
        self._estimates[weights] = self.subsets.estimate(outcomes, mixture)

    def best(self) -> Found:
        """The best of the completely evaluated vectors and the members."""
        return self.trials.best([*self.trials.told, *self.trials.known])

    def _choose(self) -> tuple[Weights, int] | None:
        """The next vector and the rung it lacks; None when places or budget are used up."""
        if self.subsets is None:
            return uniform(self.n), len(RUNGS) - 1
        for weights, level in self._level.items():
            if level == 0:
                return weights, 0  # begun, but not finished: an interrupted trial
        for rung, places in enumerate(self.places):
            if sum(level > rung for level in self._level.values()) >= places:
                continue
            chosen = self._promote(rung) if rung else self._propose()
            if chosen is not None:
                return (chosen, rung) if self._affordable(chosen, rung) else None
        return None

    def _affordable(self, weights: Weights, rung: int) -> bool:
        spent = sum(outcomes.n_evaluated for outcomes in self.trials.told.values())
        cost = sum(map(len, unseen(self.trials.told.get(weights), self.rungs[rung]).values()))
        return spent + cost <= self.budget * sum(self.trials.told[uniform(self.n)].sizes.values())

    def _promote(self, rung: int) -> Weights | None:
        """Of the vectors that stopped at the rung below, the one with the best prediction."""
        waiting = [weights for weights, level in self._level.items() if level == rung]
        if not waiting:
            return None
        values, _ = self._predict(_floats(waiting))
        return waiting[int(values.argmax())]

    def _propose(self) -> Weights | None:
        """A new vector: the most promising by prediction plus curiosity, which fades. None where
        every candidate was tried."""
        counts = self._candidates()
        values, spread = self._predict(counts / PARTS)
        progress = len(self.trials.told) / self.places[0]
        values = values + spread * (CURIOSITY[0] + progress * (CURIOSITY[1] - CURIOSITY[0]))
        for i in np.argsort(-values, kind="stable"):
            weights = tuple(Fraction(int(k), PARTS) for k in counts[i])
            if weights not in self.trials.told and weights not in self.trials.known:
                return weights
        return None

    def _predict(self, points: Floats) -> tuple[Floats, Floats]:
        """The objective [n] (less the fall below the floor) and its standard deviation [n]."""
        if self._surface is None:
            self._surface = self._fit()
        goal = self.trials.objective
        departures, spread = self._surface.predict(points)
        scores = points @ self._corners + departures  # [n, C]
        fall = goal.shortfall(scores, self._reference)
        return goal.value(scores, self._categories) - 10 * fall, spread

    def _fit(self) -> Surface:
        points = _floats(list(self._estimates))  # [m, members]
        pairs = list(self._estimates.values())
        scores, variances = (np.stack(part) for part in zip(*pairs, strict=True))  # [m, C] each
        departures = scores - points @ self._corners
        shares = self._importance()
        return fit(points, departures, departures @ shares, variances @ shares**2)

    def _importance(self) -> Floats:
        """Weights [C] of the categories in the objective; equal for the worst category."""
        weights, names = self.trials.objective.weights, self._categories
        raw = np.array([1.0 if weights is None else weights[c] for c in names])
        return np.asarray(raw / raw.sum())

    def _candidates(self) -> Counts:
        """The pool, and where it is not the whole lattice, the neighbours of the best so far."""
        if self.n <= LATTICE_UP_TO:
            return self.pool
        told = [w for w in self.trials.told if all(PARTS % v.denominator == 0 for v in w)]
        if not told:
            return self.pool
        values, _ = self._predict(_floats(told))
        best = [told[i] for i in np.argsort(-values, kind="stable")[:3]]
        near = [_neighbours(np.array([int(v * PARTS) for v in w], np.int64)) for w in best]
        return np.concatenate([*near, self.pool])


def _places(budget: float) -> tuple[int, int, int]:
    """How many vectors reach each rung within the budget, the anchor among them."""
    budget -= 1
    first = max(2, int(SHARES[0] * budget / RUNGS[0]))
    second = max(1, int(SHARES[1] * budget / (RUNGS[1] - RUNGS[0])))
    spent = first * RUNGS[0] + second * (RUNGS[1] - RUNGS[0])
    third = max(1, int((budget - spent) / (1 - RUNGS[1])))
    return first + 1, second + 1, third + 1


def _pool(n: int, seed: int) -> Counts:
    """Weights in units of 1 / PARTS, zeros included: all of them for few members (21, 231, 1771),
    otherwise seeded draws from faces of every size."""
    if n <= LATTICE_UP_TO:
        return np.array([[int(v * PARTS) for v in w] for w in grid(n, PARTS, least=0)], np.int64)
    rng = np.random.default_rng([seed, 0xFACE])
    size = rng.integers(2, n + 1, size=(POOL, 1))
    rank = rng.random((POOL, n)).argsort(axis=1).argsort(axis=1)
    raw = rng.exponential(size=(POOL, n)) * (rank < size)  # uniform on the face
    exact = PARTS * raw / raw.sum(axis=1, keepdims=True)
    counts = np.floor(exact).astype(np.int64)
    short = PARTS - counts.sum(axis=1, keepdims=True)  # rounded up where the remainder is largest
    remainder = (counts - exact).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.unique(counts + (remainder < short), axis=0)


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
