"""What a search has been told, and the best of it: shared by all search strategies.

A strategy decides what to ask next; everything that is true of any search stands here: only tune
items are accepted, an item's outcome for a weight vector is kept once, members' own outcomes cost
nothing, and the winner is the best completely evaluated vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from merge.objective import Objective
from merge.outcomes import Outcomes, require_paired
from merge.simplex import Weights, check_weights, corner
from merge.splits import Split

Wanted = dict[str, NDArray[np.intp]]  # category -> positions of items to evaluate


@dataclass(frozen=True)
class Found:
    """The winner of a search. value: the objective on the tune split, which is optimistic.
    trials: weight vectors evaluated, in part or whole; evaluations: items evaluated for them;
    full: items of one complete evaluation. Members' known outcomes count in none of them."""

    weights: Weights
    value: float
    outcomes: Outcomes
    trials: int
    evaluations: int
    full: int
    notes: tuple[str, ...] = ()


class Search(Protocol):
    """A search as a conversation. The caller evaluates and stores; the search only thinks.

        while (weights := search.ask()) is not None:
            outcomes = evaluate(weights, search.wanted(weights))
            search.tell(weights, outcomes)
        found = search.best()

    `ask` repeats itself until told. Told the stored outcomes of an earlier run in their order, a
    search made with the same arguments goes on where that run was. A caller that evaluates more
    than was wanted is welcome; one that evaluates all items may ignore `wanted`.
    """

    def ask(self) -> Weights | None: ...

    def wanted(self, weights: Weights) -> Wanted | None:
        """Items of `weights` still to evaluate; None for all."""
        ...

    def tell(self, weights: Weights, outcomes: Outcomes) -> None: ...

    def best(self) -> Found: ...


class Trials:
    """Outcomes per weight vector. known: the members' own, in member order, or empty."""

    def __init__(self, n_members: int, objective: Objective, known: Sequence[Outcomes]) -> None:
        if n_members < 1 or (known and len(known) != n_members):
            raise ValueError(f"{n_members} members, but outcomes of {len(known)}")
        if objective.floor is not None and not known:
            raise ValueError("a floor against the best member needs the members' own outcomes")
        self.n_members, self.objective = n_members, objective
        self.told: dict[Weights, Outcomes] = {}
        self.known: dict[Weights, Outcomes] = {}
        for i, outcomes in enumerate(known):
            outcomes.require_complete(f"member {i}, known before the search,")
            self._check(outcomes)
            self.known[corner(n_members, i)] = outcomes
        self.best_member = max(known, key=self.value, default=None)
        """The known member with the highest objective, the first of equals."""

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        """Raises Leak for items of another split, BadWeights, or ValueError where the outcomes are
        not paired with the others or contradict what was told before."""
        check_weights(weights, self.n_members)
        self._check(outcomes)
        before = self.told.get(weights)
        self.told[weights] = outcomes if before is None else before.merged(outcomes)

    def _check(self, outcomes: Outcomes) -> None:
        outcomes.require(Split.TUNE, "a search")
        first = next(iter({**self.known, **self.told}.values()), outcomes)
        require_paired([first, outcomes])

    def get(self, weights: Weights) -> Outcomes | None:
        return self.known.get(weights) or self.told.get(weights)

    def done(self, weights: Weights) -> bool:
        """Evaluated on every item."""
        outcomes = self.get(weights)
        return outcomes is not None and outcomes.complete

    def missing(self, weights: Weights) -> Wanted | None:
        outcomes = self.get(weights)
        if outcomes is None:
            return None
        return {c: np.flatnonzero(bits < 0) for c, bits in outcomes.values.items()}

    def value(self, outcomes: Outcomes) -> float:
        return self.objective.of(outcomes)

    def shortfall(self, outcomes: Outcomes) -> float:
        if self.best_member is None:
            return 0.0
        return float(self.objective.shortfall(outcomes.scores(), self.best_member.scores()))

    def best(self, among: Sequence[Weights], notes: Sequence[str] = ()) -> Found:
        """The best completely evaluated vector: floor kept first, then the objective, then nearer
        to uniform, then lexicographic; so the order of answers does not matter. Raises ValueError
        where none is complete."""
        complete = [w for w in dict.fromkeys(among) if self.done(w)]
        if not complete:
            raise ValueError("no weight vector has been evaluated completely")
        ranks = {w: self._rank(w) for w in complete}
        winner = min(complete, key=lambda w: ranks[w])
        outcomes = self.get(winner)
        assert outcomes is not None
        notes = list(notes)
        if ranks[winner][0] > 0:
            notes.append("no vector keeps the floor; this one falls the least below it")
        return Found(
            weights=winner,
            value=self.value(outcomes),
            outcomes=outcomes,
            trials=len(self.told),
            evaluations=sum(o.n_evaluated for o in self.told.values()),
            full=sum(outcomes.sizes.values()),
            notes=tuple(notes),
        )

    def _rank(self, weights: Weights) -> tuple[float, float, Weights | object, Weights]:
        outcomes = self.get(weights)
        assert outcomes is not None
        spread = sum(w * w for w in weights)
        return self.shortfall(outcomes), -self.value(outcomes), spread, weights
