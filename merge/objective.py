"""What a soup is good for: one number from a vector of category scores.

The paper sums the categories unweighted in its pseudo-code and reports official averages in its
tables (arXiv 2511.13254, Algorithm 1 step 4); here both are choices, beside the worst category
and a floor per category. Objectives work on stored scores, so a change costs no new evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes


class Goal(StrEnum):
    MEAN = "mean"  # unweighted mean over categories
    WEIGHTED = "weighted"  # a benchmark's official aggregate
    WORST = "worst"  # the lowest category


@dataclass(frozen=True)
class Objective:
    """goal over categories; floor: no category may lie more than this below the best member's
    (share of 1, e.g. 0.02 is two points; None for no floor). Weights are for Goal.WEIGHTED, one
    per category, none negative; they are normalised to sum 1."""

    goal: Goal = Goal.MEAN
    weights: Mapping[str, float] | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        if (self.goal is Goal.WEIGHTED) != (self.weights is not None):
            raise ValueError("weights belong to the weighted goal, and it needs them")
        if self.weights is not None:
            for category, weight in self.weights.items():
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"weight of category {category!r} is {weight}")
            if sum(self.weights.values()) <= 0:
                raise ValueError("no category has a weight")
        if self.floor is not None and not self.floor >= 0:
            raise ValueError(f"a floor is a fall of at least 0, not {self.floor}")

    def value(self, scores: NDArray[np.float64], categories: Sequence[str]) -> NDArray[np.float64]:
        """scores [..., C] in the order of `categories` -> [...]. Raises ValueError where the
        weights do not name exactly these categories."""
        if self.goal is Goal.WORST:
            return np.asarray(scores.min(axis=-1))
        if self.weights is None:
            return np.asarray(scores.mean(axis=-1))
        if set(self.weights) != set(categories):
            odd = sorted(set(self.weights) ^ set(categories))
            raise ValueError(f"weights and categories differ in {', '.join(odd)}")
        return np.asarray(scores @ self._shares(categories))

    def of(self, outcomes: Outcomes) -> float:
        """The value of one model's outcomes."""
        return float(self.value(outcomes.scores(), outcomes.categories))

    def stderr(self, outcomes: Outcomes) -> float:
        """Standard error of `of`, items taken as independent: sqrt(sum_c (w_c e_c)^2), or that of
        the worst category. A category of one item counts as uncertain as one can be."""
        found = [outcomes.score(category) for category in outcomes.categories]
        errors = np.array([score.stderr if score.n > 1 else 0.5 for score in found])
        if self.goal is Goal.WORST:
            return float(errors[int(np.argmin([score.value for score in found]))])
        return float(np.linalg.norm(self._shares(outcomes.categories) * errors))

    def _shares(self, categories: Sequence[str]) -> NDArray[np.float64]:
        """[C] weights of the categories in a mean, sum 1."""
        if self.weights is None:
            return np.full(len(categories), 1 / len(categories))
        w = np.array([self.weights[c] for c in categories], np.float64)
        return np.asarray(w / w.sum())

    def shortfall(
        self, scores: NDArray[np.float64], reference: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How far the worst category [..., C] lies beyond the floor below reference [C]; 0 where
        the floor holds."""
        if self.floor is None:
            return np.zeros(scores.shape[:-1])
        beyond = reference - scores - self.floor
        return np.asarray(np.maximum(beyond.max(axis=-1), 0.0))
