"""SoCE's selection of category experts (arXiv 2511.13254, Algorithm 1, steps 1-3).

    rho_ij = Pearson correlation over models of the scores in categories i and j       (step 1)
    L      = { i : there is a j with rho_ij < tau }                                     (step 2)
    M*_i   = argmax over candidates of the score in category i, for i in L              (step 3)
    E      = the distinct experts; the soup is searched over E              (section 3, figures)

The paper leaves open: tau, the population, the sign, ties, repeated experts, missing scores. Each
is a named option here; the default is the one simple reading under which both published selections
on the Berkeley leaderboard come out (correlations over all scored models, signed, tau = 0.1,
ties by table order).

Not promised: that these experts are good. With few models the correlations are mostly noise, and
the score of a winner is inflated; `notes` says so, `merge.complement` is the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from merge.complement import complementary, disagreement, relative_distance
from merge.incumbents import keep_incumbents
from merge.scores import BadTable, ScoreTable
from merge.selection import Selection

__all__ = [
    "Method",
    "NoWeakPair",
    "Population",
    "Selection",
    "Ties",
    "complementary",
    "default_method",
    "disagreement",
    "keep_incumbents",
    "relative_distance",
    "soce",
]

SMALL_POPULATION = 30
"""Below this many scored models the 95 % interval of a correlation near 0 is wider than +-0.36."""
GRID_LIMIT = 10
"""The paper's grid (weights 0.1 to 0.9) has no point for more experts than this."""


class Method(StrEnum):
    SOCE = "soce"  # the paper's
    COMPLEMENTARY = "complementary"  # by item outcomes: `merge.complement`


def default_method(n_models: int) -> Method:
    """Correlations where there are models to take them over, item outcomes otherwise."""
    return Method.SOCE if n_models >= SMALL_POPULATION else Method.COMPLEMENTARY


class Population(StrEnum):
    """Whose scores the correlations are taken over."""

    ALL = "all"  # every model in the table (caption of Figure 1: the whole leaderboard)
    CANDIDATES = "candidates"  # only the pool (Algorithm 1 read literally: "across all models" M)


class Ties(StrEnum):
    """Who is the expert where several candidates share the highest score. The paper is silent."""

    TABLE_ORDER = "table-order"  # the first in the table
    OVERALL = "overall"  # the highest mean over categories, then the first in the table
    KEEP = "keep"  # the first in the table is named; all of them become members


class NoWeakPair(StrEnum):
    """What to do where L is empty. The paper is silent."""

    NOTHING = "nothing"  # as printed: no category qualifies, no expert, no soup
    ALL = "all"  # take the expert of every category


def soce(
    table: ScoreTable,
    *,
    candidates: Sequence[str] | None = None,
    tau: float = 0.1,
    absolute: bool = False,
    population: Population = Population.ALL,
    ties: Ties = Ties.TABLE_ORDER,
    no_weak_pair: NoWeakPair = NoWeakPair.NOTHING,
    min_models: int = 2,
) -> Selection:
    """Category experts as Algorithm 1 selects them.

    candidates: the pool that experts come from; all models by default.
    tau: a pair is weak where r < tau, strictly. The paper gives no value.
    absolute: compare |r| (the pseudo-code) instead of r (the prose: "weak or negative").
    min_models: r is undefined over fewer models with both scores.

    A missing score takes no part: correlations are pairwise complete, and a model without a score
    in a category cannot be its expert. A correlation over a constant column is undefined and never
    weak. Raises BadTable for unknown or repeated candidates, an empty pool or table, and for a tau
    that is no number.
    """
    everyone = np.arange(len(table.models))
    pool = everyone if candidates is None else table.rows_of(candidates)
    if math.isnan(tau):
        raise BadTable("tau is not a number")
    if not len(pool) or not table.categories:
        raise BadTable("a selection needs at least one candidate and one category")
    scored = everyone if Population(population) is Population.ALL else pool
    rho = correlate(table.values[scored], min_models=min_models)
    pairs = _weak_pairs(rho, tau, absolute)
    qualified = sorted({i for pair in pairs for i in pair})
    if not pairs and NoWeakPair(no_weak_pair) is NoWeakPair.ALL:
        qualified = list(range(len(table.categories)))
    best = {i: _argmax(table.values, pool, i, Ties(ties)) for i in qualified}
    taken = None if Ties(ties) is Ties.KEEP else 1  # how many of the tied become members
    members = sorted({m for tied in best.values() for m in tied[:taken]})
    names = table.categories
    return Selection(
        method="soce",
        correlations={
            a: {b: None if np.isnan(rho[i, j]) else float(rho[i, j]) for j, b in enumerate(names)}
            for i, a in enumerate(names)
        },
        weak_pairs=tuple((names[i], names[j], float(rho[i, j])) for i, j in pairs),
        experts={names[i]: table.models[tied[0]] for i, tied in best.items() if tied},
        members=tuple(table.models[m] for m in members),
        notes=tuple(_notes(table, scored, rho, pairs, best, len(members), tau, no_weak_pair)),
    )


def correlate(values: NDArray[np.float64], *, min_models: int = 2) -> NDArray[np.float64]:
    """Pearson r between the columns of values [M, C] over the rows that have both, [C, C].

    nan where fewer than min_models rows have both or where one of the two is constant over them.
    """
    n_categories = values.shape[1]
    rho = np.full((n_categories, n_categories), np.nan)
    present = ~np.isnan(values)
    for i in range(n_categories):
        for j in range(i, n_categories):
            both = present[:, i] & present[:, j]
            x, y = values[both, i], values[both, j]  # [n] each
            if len(x) >= max(min_models, 2) and np.ptp(x) > 0 and np.ptp(y) > 0:
                rho[i, j] = rho[j, i] = 1.0 if i == j else _pearson(x, y)
    return rho


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    dx, dy = dx / np.abs(dx).max(), dy / np.abs(dy).max()  # tiny spreads must not underflow
    return float(np.clip(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)), -1.0, 1.0))


def _weak_pairs(rho: NDArray[np.float64], tau: float, absolute: bool) -> list[tuple[int, int]]:
    strength = np.abs(rho) if absolute else rho
    weak = np.triu(strength < tau, k=1)  # nan compares false
    return [(int(i), int(j)) for i, j in np.argwhere(weak)]


def _argmax(
    values: NDArray[np.float64], pool: NDArray[np.intp], category: int, ties: Ties
) -> list[int]:
    """Rows of all candidates with the highest score, the expert first; empty without any score."""
    column = values[pool, category]
    if np.isnan(column).all():
        return []
    tied = pool[column == np.nanmax(column)]
    if ties is Ties.OVERALL:
        overall = np.nanmean(values[tied], axis=1)
        tied = tied[np.argsort(-overall, kind="stable")]
    return [int(m) for m in tied]


def _notes(
    table: ScoreTable,
    scored: NDArray[np.intp],
    rho: NDArray[np.float64],
    pairs: list[tuple[int, int]],
    best: Mapping[int, list[int]],
    n_members: int,
    tau: float,
    no_weak_pair: NoWeakPair,
) -> list[str]:
    names, notes = table.categories, list(table.notes)
    if len(scored) <= 3:
        notes.append(f"correlations over {len(scored)} models carry no information")
    undefined = [names[i] for i in range(len(names)) if np.isnan(rho[i, i])]
    if undefined:
        notes.append(f"constant or unscored, so never weakly correlated: {', '.join(undefined)}")
    missing = int(np.isnan(table.values[scored]).sum())
    if missing:
        notes.append(f"{missing} scores are missing; each correlation is over the models with both")
    if not pairs:
        taken = "the experts of all" if no_weak_pair is NoWeakPair.ALL else "the experts of no"
        notes.append(f"no pair is correlated below {tau:g}: {taken} categories are taken")
    for i, tied in best.items():
        if not tied:
            notes.append(f"no candidate has a score in {names[i]!r}: it has no expert")
        elif len(tied) > 1:
            equals = " = ".join(table.models[m] for m in tied)
            notes.append(f"tie in {names[i]!r}: {equals}; the first is the expert")
    if best and n_members == 1:
        notes.append("one model is the expert of every category: there is nothing to soup")
    if n_members > GRID_LIMIT:
        notes.append(f"{n_members} experts: the 0.1 grid has points for at most {GRID_LIMIT}")
    return notes
