"""Greedy soups (Model Soups, arXiv 2203.05482, Recipe 1): the baseline that every search must face.

Members are sorted by their own objective, best first. Each is added to the uniform soup of those
kept so far and stays if the held-out objective does not fall. With n members at most n - 1 soups
are evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.simplex import Weights, corner
from merge.trials import Found, Trials, Wanted


class GreedySearch:
    """known: the members' own outcomes, which fix the order. Speaks `merge.trials.Search`."""

    def __init__(self, known: Sequence[Outcomes], *, objective: Objective | None = None) -> None:
        if not known:
            raise ValueError("a greedy soup needs the members' own outcomes")
        self.trials = Trials(len(known), objective or Objective(), known)
        values = [self.trials.value(outcomes) for outcomes in known]
        self._order = sorted(range(len(known)), key=lambda i: -values[i])

    def ask(self) -> Weights | None:
        return self._walk()[0]

    def wanted(self, weights: Weights) -> Wanted | None:
        return self.trials.missing(weights)

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)

    def best(self) -> Found:
        """The greedy soup. Raises ValueError before its last trial was told."""
        open_trial, soup = self._walk()
        if open_trial is not None:
            raise ValueError("no weight vector has been evaluated completely: trials are open")
        return self.trials.best([soup])

    def _walk(self) -> tuple[Weights | None, Weights]:
        """(the first trial not yet told, the soup so far)."""
        kept = self._order[:1]
        soup = corner(self.trials.n_members, kept[0])
        for i in self._order[1:]:
            tried = self._uniform([*kept, i])
            if not self.trials.done(tried):
                return tried, soup
            if self._value(tried) >= self._value(soup):
                kept, soup = [*kept, i], tried
        return None, soup

    def _uniform(self, members: Sequence[int]) -> Weights:
        share = Fraction(1, len(members))
        return tuple(share if i in members else Fraction(0) for i in range(self.trials.n_members))

    def _value(self, weights: Weights) -> tuple[float, float]:
        outcomes = self.trials.get(weights)
        assert outcomes is not None
        return -self.trials.shortfall(outcomes), self.trials.value(outcomes)
