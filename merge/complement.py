"""Selection by what members add to each other, item by item, on held-out items.

Correlations between columns need many models: at n = 5 a correlation moves by 0.22 between two
halves of the items, and its interval around 0 is the whole range. Item outcomes carry more. A set S
of members is worth, over items i of category c in fold f,

    V(S) = sum_i omega_i [ (1 - a) x_{e,i}  +  a max_{m in S} x_mi ],
    e    = argmax_{m in S} s_mc without fold f                            (the held-out expert)
    s_mc = (n_c score_mc + K score_m) / (n_c + K)                  (shrunk to the overall rate)

x_mi is 1 where m solves i. The first part is what S would score if each category were answered by
the member that is best there on *other* items: a lucky expert gains nothing. The second, with a
small weight, is the share of items that at least one member solves. Members are added greedily
while the gain clears its own noise (by cluster). omega_i follows the objective, with small
categories shrunk to the mean gain over all items.

Not promised: that the soup keeps what its members know. Only the search finds that out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge.objective import Goal, Objective
from merge.outcomes import Outcomes, require_paired
from merge.selection import Selection
from merge.splits import Split

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

COVERAGE = 0.2
"""a: two re-runs of one model that differ on 5 % of the items cover 2.5 % more together; at this
weight that stays below LEAST_GAIN."""
CATEGORY_PRIOR = 20.0
"""K: a category's rate counts as its items against this many at the overall rate."""
LEAST_GAIN = 0.01
"""A member that adds less than this (share of 1) is not worth a dimension of the search."""
Z = 2.0
"""Standard errors that a gain must clear."""
FOLDS = 5
NEAR = 0.25
"""Relative weight distance below which two models count as one: a cosine of 0.97 between the
differences from the base of two equally long fine-tunes. Siblings trained alike lie near 1."""


@dataclass(frozen=True, eq=False)
class _Items:
    """All items of all categories in one row."""

    models: tuple[str, ...]
    solved: Floats  # [models, items]
    rates: Floats  # [folds, models, C], each without its fold
    omega: Floats  # [items]
    column: Indices  # [items] category
    cluster: Indices  # [items]

    @property
    def fold(self) -> Indices:
        return self.cluster % FOLDS

    def worth(self, members: Sequence[int]) -> Floats:
        """What each item adds to V(members), [items]."""
        best = np.asarray(members)[self.rates[:, members].argmax(axis=1)]  # [folds, C]
        held_out = self.solved[best[self.fold, self.column], np.arange(len(self.column))]
        covered = self.solved[members].max(axis=0)
        return np.asarray(self.omega * ((1 - COVERAGE) * held_out + COVERAGE * covered))

    def clears(self, gains: Floats, least: float) -> bool:
        """Whether a sum of weighted items [items] exceeds `least` by Z standard errors."""
        sums = np.bincount(self.cluster, weights=gains)
        n = len(sums)
        error = math.sqrt(n / (n - 1) * float(((sums - sums.mean()) ** 2).sum())) if n > 1 else 1.0
        return float(gains.sum()) > least + Z * error


def complementary(
    outcomes: Mapping[str, Outcomes],
    *,
    clusters: Mapping[str, Sequence[str]] | None = None,
    distance: Callable[[str, str], float] | None = None,
    incumbents: Sequence[str] = (),
    importance: Mapping[str, float] | None = None,
    max_members: int = 5,
) -> Selection:
    """Members that complement each other on select items.

    outcomes: candidate -> outcomes on the select split, in table order (ties go to the first).
    clusters: category -> cluster per item; without it every item stands alone.
    distance: relative weight distance of two candidates; whoever is nearer than `NEAR` to a member
    is left out. incumbents: members in force; a challenger takes the
    place of one only where it adds more beyond noise. importance: weight per category, equal by
    default. Raises Leak for items of another split, ValueError for unpaired outcomes, cluster ids
    that do not fit them and importances that do not name these categories.

    `experts` names for each category the member with the highest shrunk rate there; a member may be
    the expert of none. Correlations are not used and stay empty.
    """
    if not outcomes or max_members < 1:
        raise ValueError("a selection needs at least one candidate and one place")
    for name, o in outcomes.items():
        o.require(Split.SELECT, f"a selection ({name})")
        o.require_complete("a selection")
    require_paired(list(outcomes.values()))
    items = _items(outcomes, clusters, importance)
    names, notes = items.models, []

    chosen: list[int] = []
    left = list(range(len(names)))
    while len(chosen) < max_members:
        best = _next(items, chosen, left, incumbents)
        if best is None:
            notes.append(f"no further model adds {100 * LEAST_GAIN:g} points beyond noise")
            break
        chosen.append(best)
        left.remove(best)
        if distance is not None:
            copies = [m for m in left if distance(names[best], names[m]) < NEAR]
            notes += [
                f"{names[m]} is left out: nearly the weights of {names[best]}" for m in copies
            ]
            left = [m for m in left if m not in copies]
    if len(chosen) == 1:
        notes.append(f"nothing complements {items.models[chosen[0]]}: there is nothing to soup")

    chosen.sort()
    categories = next(iter(outcomes.values())).categories
    best_of = items.rates[:, chosen].mean(axis=0).argmax(axis=0)  # [C] into chosen
    return Selection(
        method="complementary",
        correlations={},
        weak_pairs=(),
        experts={c: items.models[chosen[b]] for c, b in zip(categories, best_of, strict=True)},
        members=tuple(items.models[m] for m in chosen),
        notes=tuple(notes),
    )


def relative_distance(cosine: float, one: float, other: float) -> float:
    """|a - b| / max(|a|, |b|) of two fine-tunes' differences a, b from one base, from the cosine
    between them and their norms; 0 where both are 0."""
    longest = max(one, other)
    square = one * one + other * other - 2 * min(cosine, 1.0) * one * other
    return math.sqrt(max(square, 0.0)) / longest if longest > 0 else 0.0


def disagreement(first: Selection, second: Selection) -> tuple[str, ...]:
    """Where two selections differ, one sentence each; empty where they chose the same members."""
    sentences = []
    for one, other in ((first, second), (second, first)):
        only = [model for model in one.members if model not in other.members]
        if only:
            sentences.append(f"chosen by {one.method} but not by {other.method}: {', '.join(only)}")
    return tuple(sentences)


def _items(
    outcomes: Mapping[str, Outcomes],
    clusters: Mapping[str, Sequence[str]] | None,
    importance: Mapping[str, float] | None,
) -> _Items:
    sizes = next(iter(outcomes.values())).sizes
    n = np.array(list(sizes.values()), np.float64)
    column = np.repeat(np.arange(len(n)), n.astype(int))
    if clusters is None:
        cluster = np.arange(len(column))
    else:
        for c, size in sizes.items():
            if len(clusters.get(c, ())) != size:
                raise ValueError(f"{c!r}: {len(clusters.get(c, ()))} cluster ids, {size} items")
        ids = [i for c in sizes for i in clusters[c]]
        cluster = np.unique(np.array(ids), return_inverse=True)[1]
    solved = np.stack([np.concatenate(list(o.values.values())) for o in outcomes.values()])
    solved = solved.astype(np.float64)
    rates = [_shrunk_rates(solved, column, cluster % FOLDS != fold) for fold in range(FOLDS)]
    if importance is not None:  # wrong weights are refused as an objective's are
        Objective(Goal.WEIGHTED, importance).value(np.ones(len(sizes)), list(sizes))
    matters = np.array([1.0 if importance is None else importance[c] for c in sizes])
    matters = matters / matters.sum()
    trust = n / (n + CATEGORY_PRIOR)
    matters = matters * trust + (matters * (1 - trust)).sum() * n / n.sum()  # [C], sums to 1
    return _Items(tuple(outcomes), solved, np.stack(rates), (matters / n)[column], column, cluster)


def _shrunk_rates(solved: Floats, column: Indices, used: NDArray[np.bool_]) -> Floats:
    """s_mc over the items used, [models, C]."""
    one_hot = np.eye(column.max() + 1)[column] * used[:, None]  # [items, C]
    n = one_hot.sum(axis=0)
    right = solved @ one_hot  # [models, C]
    overall = (right.sum(axis=1) / max(n.sum(), 1.0))[:, None]
    return np.asarray((right + CATEGORY_PRIOR * overall) / (n + CATEGORY_PRIOR))


def _next(
    items: _Items, chosen: Sequence[int], models: Sequence[int], incumbents: Sequence[str]
) -> int | None:
    """The model that adds most to those chosen, if its gain clears LEAST_GAIN (the first model need
    not). Where an incumbent would do as well, it is preferred unless it adds less beyond noise."""
    before = items.worth(chosen) if chosen else np.zeros(len(items.omega))
    gains = {m: items.worth([*chosen, m]) - before for m in models}
    worthy = [m for m, g in gains.items() if not chosen or items.clears(g, LEAST_GAIN)]
    if not worthy:
        return None
    best = max(worthy, key=lambda m: gains[m].sum())
    held = [m for m in worthy if items.models[m] in incumbents]
    if not held:
        return best
    incumbent = max(held, key=lambda m: gains[m].sum())
    return best if items.clears(gains[best] - gains[incumbent], 0.0) else incumbent
