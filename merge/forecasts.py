"""Which items a soup solves, told from soups that were evaluated completely.

Item k of category c, at weights w, with the complete vectors v_1 .. v_m (corners among them):

    chance_k(w) = score_c(w) + sum_i a_i(w) (x_k(v_i) - score_c(v_i)),     a = R^-1 r(w)

kriging of the outcomes x about the category's score, which `merge.kriging` predicts; R and r hold
its `echo` between the vectors, and the chance is kept within LEAST and 1 - LEAST. Most chances are
near 0 or 1: neighbouring soups agree on nine items of ten. So a soup is asked the most doubtful
items only, and its score comes from their outcomes and the chances of the others:

    score_c(w) = ( sum_seen x_k + sum_unseen (chance_k + delta doubt_k) ) / n_c
    delta      = sum_seen (x_k - chance_k) / ( sum_seen doubt_k + 1 / SHIFT^2 )
    doubt_k    = chance_k (1 - chance_k)

delta is one Newton step of a logistic regression with a shift per category: where the seen items
went better than foretold, so will the unseen ones, in proportion to their doubt. The information
about delta is the doubt seen, so the most doubtful items are the best to ask.

Not promised: calibrated chances, nor variances with clusters; items are taken as independent here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from merge.kriging import JITTER, Prior, Surface, echo, fit
from merge.outcomes import Outcomes

Floats = NDArray[np.float64]

LEAST = 0.02
SHIFT = 1.0
"""Expected size of delta, in log-odds."""


class Forecasts:
    """complete: outcomes at points [m, members], the corners among them, every item evaluated.
    order: the items [N] of all categories, of equally doubtful ones the first is asked first."""

    def __init__(
        self, prior: Prior, points: Floats, complete: Sequence[Outcomes], order: NDArray[np.intp]
    ) -> None:
        self.prior, self.points, self.order = prior, points, order
        self.sizes = complete[0].sizes
        self._category = np.repeat(np.arange(len(self.sizes)), list(self.sizes.values()))  # [N]
        self.scores = np.stack([outcomes.scores() for outcomes in complete])  # [m, C]
        bits = np.stack([_flat(outcomes) for outcomes in complete])
        self._peculiar = bits - self.scores[:, self._category]  # [m, N]
        self._inverse = np.linalg.inv(echo(points, points) + JITTER * np.eye(len(points)))

    @cached_property
    def surface(self) -> Surface:
        """Fitted to the complete vectors alone."""
        return fit(self.prior, self.points, self.scores, np.zeros_like(self.scores))

    def chances(self, point: Floats) -> Floats:
        """point [members] -> [N]; rounded, so that equal items stay equal however sums are done."""
        nearness = self._inverse @ echo(self.points, point[None])[:, 0]  # [m]
        expected = self.surface.scores(point[None])[0]
        chance = expected[self._category] + nearness @ self._peculiar
        return np.asarray(np.clip(chance, LEAST, 1 - LEAST).round(9))

    def estimate(self, point: Floats, outcomes: Outcomes) -> tuple[Floats, Floats]:
        """Scores [C] of a partly evaluated vector and the variances [C] of these estimates."""
        chance, bits = self.chances(point), _flat(outcomes)
        doubt, seen = chance * (1 - chance), bits >= 0
        known = self._sums(doubt * seen) + 1 / SHIFT**2
        open_ = self._sums(doubt * ~seen)
        delta = self._sums((bits - chance) * seen) / known
        items = self.prior.items
        scores = (self._sums(np.where(seen, bits, chance)) + delta * open_) / items
        return scores, (open_ + open_**2 / known) / items**2

    def doubtful(
        self, point: Floats, outcomes: Outcomes | None, items: int, shares: Floats
    ) -> dict[str, NDArray[np.intp]]:
        """The most doubtful positions, so many that `items` have been evaluated with them. shares
        [C]: how much the objective depends on each category; doubt counts by its effect."""
        chance = self.chances(point)
        effect = (shares / self.prior.items)[self._category] ** 2 * chance * (1 - chance)
        if outcomes is not None:
            effect[_flat(outcomes) >= 0] = -1.0
            items -= outcomes.n_evaluated
        picked = self.order[np.argsort(-effect[self.order], kind="stable")[: max(items, 0)]]
        chosen = np.zeros(len(effect), bool)
        chosen[picked] = True
        ends = np.cumsum(list(self.sizes.values()))[:-1]
        parts = map(np.flatnonzero, np.split(chosen, ends))
        return dict(zip(self.sizes, parts, strict=True))

    def _sums(self, values: Floats) -> Floats:
        """[N] -> [C]."""
        return np.bincount(self._category, values, len(self.sizes)).astype(np.float64)


def _flat(outcomes: Outcomes) -> Floats:
    """[N] over all categories, in order."""
    return np.concatenate(list(outcomes.values.values())).astype(np.float64)
