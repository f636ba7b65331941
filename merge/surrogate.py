"""Weight search by surrogate and racing, over the whole simplex: the default.

The uniform soup is evaluated completely. Then, in rounds, new vectors are asked the items on which
their outcome is most in doubt (`merge.forecasts`), and the most promising of all are completed;
each completed soup makes the outcomes of its neighbours less doubtful, so later rounds see sharper.
Which vector is tried next is decided by a Gaussian process on the scores (`merge.kriging`). Corners
and faces belong to the space: members are known before the search starts and cost nothing, so the
answer is never worse than the best member on the tune split. The paper's grid (arXiv 2511.13254)
spends 36 to 126 complete evaluations and has neither.

Not promised: the optimum. A landscape with a narrow peak away from everything tried is missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from merge.forecasts import Forecasts
from merge.kriging import Prior, Surface, fit
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.simplex import Weights, grid, uniform
from merge.trials import Found, Trials, Wanted

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  # [n, members] weights in units of 1 / PARTS

PROBE = 0.2
"""Share of the items behind the first look at a vector."""
FINALS = 0.5
"""Share of the budget that completes the best vectors; the rest is for first looks."""
ROUNDS = 4
PARTS = 20
LATTICE_UP_TO = 4
"""Members up to which every vector in units of 1 / PARTS is a candidate."""
POOL = 1500
"""Candidates drawn where there are more members."""
CURIOSITY = (2.0, 0.3)
"""Standard deviations added to the prediction: at the first trial and at the last."""


def allowance(n: int) -> float:
    """Complete evaluations for n members: a fifth of the paper's grid up to three members, a tenth
    above (7, 8, 12, 12 for 3 to 6), but two a member at least."""
    vectors = math.comb(9, n - 1) + (10 % n > 0)
    return float(max(2 * n, vectors // (5 if n <= 3 else 10)))


class SurrogateSearch:
    """known: the members' own outcomes on the tune split, in member order.

    budget: complete evaluations to spend, by default `allowance`. Deterministic by seed given the
    answers; speaks `merge.trials.Search`.
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
        self.budget = allowance(self.n) if budget is None else float(budget)
        self.trials = Trials(self.n, objective or Objective(), known)
        self._reference = known[int(np.argmax([self.trials.value(o) for o in known]))].scores()
        self._categories = known[0].categories
        self._full = sum(known[0].sizes.values())
        self._probe = max(1, int(PROBE * self._full))  # in items
        self._order = np.random.default_rng([seed, 0x5E7]).permutation(self._full)
        self._prior = Prior.of(known)
        self._shares = self._importance()
        self.rounds = _rounds(self.budget)
        self.pool = _pool(self.n, seed)
        self._forecasts: Forecasts | None = None  # from everything complete so far
        self._estimates: dict[Weights, tuple[Floats, Floats]] = {}  # by them, of the others
        self._surface: Surface | None = None  # of everything told so far
        self._asked: tuple[Weights, int] | None = None  # with the items it shall have

    def ask(self) -> Weights | None:
        if self._asked is None:
            self._asked = self._choose()
        return self._asked[0] if self._asked is not None else None

    def wanted(self, weights: Weights) -> Wanted | None:
        items = self._asked[1] if self._asked and self._asked[0] == weights else self._full
        if items == self._full:
            return self.trials.missing(weights)
        told, point = self.trials.get(weights), _floats([weights])[0]
        return self._foretold().doubtful(point, told, items, self._shares)

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)
        self._surface = self._asked = None
        self._estimates.pop(weights, None)
        if self.trials.done(weights):
            self._forecasts = None
            self._estimates.clear()

    def best(self) -> Found:
        """The best of the completely evaluated vectors and the members."""
        return self.trials.best([*self.trials.told, *self.trials.known])

    def _choose(self) -> tuple[Weights, int] | None:
        """The next vector and the items it shall have; None when places or budget are used up."""
        if not self.trials.done(uniform(self.n)):
            return uniform(self.n), self._full
        evaluated = {w: outcomes.n_evaluated for w, outcomes in self.trials.told.items()}
        for weights, items in evaluated.items():
            if items < self._probe:
                return weights, self._probe  # begun, but not finished: an interrupted trial
        waiting = [w for w, items in evaluated.items() if items < self._full]
        for probes, finals in self.rounds:
            if len(evaluated) < probes and (chosen := self._propose()) is not None:
                return self._affordable(chosen, self._probe)
            if len(evaluated) - len(waiting) < finals and waiting:
                values, _ = self._predict(_floats(waiting))
                return self._affordable(waiting[int(values.argmax())], self._full)
        return None

    def _affordable(self, weights: Weights, items: int) -> tuple[Weights, int] | None:
        spent = sum(outcomes.n_evaluated for outcomes in self.trials.told.values())
        told = self.trials.told.get(weights)
        cost = items - (told.n_evaluated if told is not None else 0)
        return (weights, items) if spent + cost <= self.budget * self._full else None

    def _propose(self) -> Weights | None:
        """A new vector: the most promising by prediction plus curiosity, which fades. None where
        every candidate was tried."""
        counts = self._candidates()
        values, spread = self._predict(counts / PARTS)
        progress = len(self.trials.told) / self.rounds[-1][0]
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
        scores, spread = self._surface.predict(points, self._shares)
        fall = goal.shortfall(scores, self._reference)
        return goal.value(scores, self._categories) - 10 * fall, spread

    def _fit(self) -> Surface:
        """Complete vectors by their scores, the others by what is foretold of them."""
        foretold = self._foretold()
        partial = {w: o for w, o in self.trials.told.items() if not o.complete}
        if not partial:
            return foretold.surface
        points = _floats(list(partial))
        for point, (weights, outcomes) in zip(points, partial.items(), strict=True):
            if weights not in self._estimates:
                self._estimates[weights] = foretold.estimate(point, outcomes)
        found = [self._estimates[weights] for weights in partial]
        scores, variances = (np.stack(part) for part in zip(*found, strict=True))  # [m, C] each
        return fit(
            self._prior,
            np.concatenate([foretold.points, points]),
            np.concatenate([foretold.scores, scores]),
            np.concatenate([np.zeros_like(foretold.scores), variances]),
            shape=(foretold.surface.length, foretold.surface.amplitude),
        )

    def _foretold(self) -> Forecasts:
        if self._forecasts is None:
            complete = {**self.trials.known}
            complete |= {w: o for w, o in self.trials.told.items() if o.complete}
            points = _floats(list(complete))
            self._forecasts = Forecasts(self._prior, points, list(complete.values()), self._order)
        return self._forecasts

    def _importance(self) -> Floats:
        """Weights [C] of the categories in the objective; equal for the worst category. With a
        floor every category counts."""
        goal, names = self.trials.objective, self._categories
        raw = np.array([1.0 if goal.weights is None else goal.weights[c] for c in names])
        return np.asarray(np.maximum(raw / raw.sum(), 0.05 / len(raw)))

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


def _rounds(budget: float) -> list[tuple[int, int]]:
    """How many vectors shall have been looked at and how many completed after each round, the
    uniform one among them."""
    finals = max(1, int(FINALS * (budget - 1) / (1 - PROBE) + 1e-9))
    probes = max(2, int((budget - 1 - finals * (1 - PROBE)) / PROBE + 1e-9))
    done = [k / ROUNDS for k in range(1, ROUNDS + 1)]
    return [(1 + round(probes * share), 1 + round(finals * share)) for share in done]


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
