"""Weight search over the experts: the paper's grid, and the door to the other strategies.

SoCE (arXiv 2511.13254, Algorithm 1, step 4) tries every weight vector on the 0.1 grid, each weight
from 0.1 to 0.9, and the uniform vector as a special point:

    w* = argmax_w  sum_k Perf( sum_j w_j M*_j, C_k )

With l experts that is C(9, l-1) vectors, and one more where the uniform one is not among them.
The grid holds no single expert, so it cannot fall back to the best one; `corners` adds them.
`merge.trials.Search` tells how to talk to a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction

from merge.greedy import GreedySearch
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.racing import RaceSearch
from merge.simplex import BadWeights, Weights, check_weights, corner, grid, parse_weights, uniform
from merge.surrogate import SurrogateSearch
from merge.trials import Found, Search, Trials, Wanted

__all__ = [
    "BadWeights",
    "Found",
    "GridSearch",
    "Search",
    "Strategy",
    "Weights",
    "check_weights",
    "make_search",
    "parse_weights",
]


class Strategy(StrEnum):
    GRID = "grid"  # the paper's
    RACE = "race"  # the paper's grid and the corners, most of them on few items
    GREEDY = "greedy"  # model soups
    SURROGATE = "surrogate"  # a Gaussian process and racing over the whole simplex


def make_search(
    strategy: str,
    n_members: int,
    *,
    known: Sequence[Outcomes] = (),
    objective: Objective | None = None,
    seed: int = 0,
) -> Search:
    """A search by name. known: the members' own tune outcomes, in member order; all but the
    grid need them. Raises ValueError for an unknown strategy."""
    match Strategy(strategy):
        case Strategy.GRID:
            return GridSearch(n_members, objective=objective, known=known)
        case Strategy.RACE:
            points = GridSearch(n_members, corners=True).points
            return RaceSearch(points, objective=objective, known=known, seed=seed)
        case Strategy.GREEDY:
            return GreedySearch(known, objective=objective)
        case Strategy.SURROGATE:
            return SurrogateSearch(known, objective=objective, seed=seed)


class GridSearch:
    """Every vector of the grid, in lexicographic order, then uniform, then the corners.

    step: divides 1; the paper's is 1/10. uniform_point, corners: whether these are tried as well.
    known: the members' own outcomes, in member order; they make corners free and serve a floor.
    With more members than 1/step the grid is empty and only the extra points are tried.
    """

    def __init__(
        self,
        n_members: int,
        *,
        objective: Objective | None = None,
        known: Sequence[Outcomes] = (),
        step: Fraction = Fraction(1, 10),
        uniform_point: bool = True,
        corners: bool = False,
    ) -> None:
        if step <= 0 or step.numerator != 1:
            raise BadWeights(f"a step divides 1, {step} does not")
        self.trials = Trials(n_members, objective or Objective(), known)
        points = list(grid(n_members, step.denominator, least=1))
        self.notes = [] if points else [f"no grid for {n_members} members at step {step}"]
        if uniform_point:
            points.append(uniform(n_members))
        if corners:
            points.extend(corner(n_members, i) for i in range(n_members))
        self.points = tuple(dict.fromkeys(points))

    def ask(self) -> Weights | None:
        """The next vector, or None when all are done."""
        return next((w for w in self.points if not self.trials.done(w)), None)

    def wanted(self, weights: Weights) -> Wanted | None:
        return self.trials.missing(weights)

    def tell(self, weights: Weights, outcomes: Outcomes) -> None:
        self.trials.tell(weights, outcomes)

    def best(self) -> Found:
        return self.trials.best(self.points, self.notes)
