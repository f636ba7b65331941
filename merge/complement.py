"""Selection by what members add to each other, item by item.

Correlations between columns need many models: at n = 5 a correlation moves by 0.22 between two
halves of the items, and its interval around 0 is the whole range. Item outcomes carry more. Member
m is credited on item i of category c with

    p_mi = (x_mi + A s_mc) / (1 + A),      s_mc = (n_c score_mc + K score_m) / (n_c + K)

its outcome, shrunk to its rate in the category, which is shrunk to its overall rate: one lucky item
is worth little, a category in which m is good is worth all of it. A set of members is worth

    V(S) = sum_i omega_i max_{m in S} p_mi

and members are added greedily while the gain clears its own noise. V is monotone and submodular, so
greedy is within 1 - 1/e of the best set of its size (Nemhauser et al. 1978). omega_i follows the
objective, with small categories shrunk to the mean gain over all items.

Not promised: that the soup keeps what its members know. Only the search finds that out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes, require_paired
from merge.selection import Selection
from merge.splits import Split

Floats = NDArray[np.float64]

ITEM_PRIOR = 3.0
"""A: an item's outcome counts as one observation against this many at the category's rate. Two
re-runs of one model differ on a few percent of the items; that must not look like a new skill."""
CATEGORY_PRIOR = 20.0
"""K: a category's rate counts as its items against this many at the overall rate."""
LEAST_GAIN = 0.01
"""A member that adds less than this (share of 1) is not worth a dimension of the search."""
Z = 2.0
"""Standard errors that a gain must clear."""
NEAR = 0.1
"""Relative weight distance below which two models count as one."""


@dataclass(frozen=True, eq=False)
class _Items:
    """All items of all categories in one row. credit: [models, items]; omega, cluster: [items]."""

    models: tuple[str, ...]
    credit: Floats
    omega: Floats
    cluster: NDArray[np.intp]

    def gain(self, covered: Floats, m: int) -> Floats:
        """What model m adds per item, [items], weighted; covered is the credit so far."""
        return np.asarray(self.omega * np.maximum(self.credit[m] - covered, 0.0))

    def error(self, gains: Floats) -> float:
        """Standard error of a sum of weighted items, by cluster."""
        sums = np.bincount(self.cluster, weights=gains)
        n = len(sums)
        return math.sqrt(n / (n - 1) * float(((sums - sums.mean()) ** 2).sum())) if n > 1 else 1.0


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
    distance: relative weight distance of two candidates; of a pair nearer than `NEAR` only the one
    that is worth more alone is considered. incumbents: members in force; a challenger takes the
    place of one only where it adds more beyond noise. importance: weight per category, equal by
    default. Raises Leak for items of another split, ValueError for unpaired outcomes.

    `experts` names for each category the member with the highest shrunk rate there; a member may be
    the expert of none. Correlations are not used and stay empty.
    """
    if not outcomes or max_members < 1:
        raise ValueError("a selection needs at least one candidate and one place")
    for name, o in outcomes.items():
        o.require(Split.SELECT, f"a selection ({name})")
        o.require_complete("a selection")
    require_paired(list(outcomes.values()))
    rates = _shrunk_rates(list(outcomes.values()))  # [models, C]
    items = _items(outcomes, rates, clusters, importance)
    worth = items.credit @ items.omega
    open_models, notes = _without_copies(items.models, worth, distance)

    chosen = [_first(items, open_models, incumbents)]
    covered = items.credit[chosen[0]]
    while len(chosen) < max_members:
        rest = [m for m in open_models if m not in chosen]
        best = _next(items, covered, rest, incumbents)
        if best is None:
            notes.append(f"no further model adds {100 * LEAST_GAIN:g} points beyond noise")
            break
        chosen.append(best)
        covered = np.maximum(covered, items.credit[best])
    if len(chosen) == 1:
        notes.append(f"nothing complements {items.models[chosen[0]]}: there is nothing to soup")

    chosen.sort()
    categories = next(iter(outcomes.values())).categories
    best_of = rates[chosen].argmax(axis=0)  # [C] into chosen
    return Selection(
        method="complementary",
        correlations={},
        weak_pairs=(),
        experts={c: items.models[chosen[b]] for c, b in zip(categories, best_of, strict=True)},
        members=tuple(items.models[m] for m in chosen),
        notes=tuple(notes),
    )


def disagreement(first: Selection, second: Selection) -> tuple[str, ...]:
    """Where two selections differ, one sentence each; empty where they chose the same members."""
    sentences = []
    for one, other in ((first, second), (second, first)):
        only = [model for model in one.members if model not in other.members]
        if only:
            sentences.append(f"chosen by {one.method} but not by {other.method}: {', '.join(only)}")
    return tuple(sentences)


def _shrunk_rates(outcomes: Sequence[Outcomes]) -> Floats:
    """s_mc, [models, C]."""
    n = np.array([len(bits) for bits in outcomes[0].values.values()], np.float64)  # [C]
    scores = np.stack([o.scores() for o in outcomes])  # [models, C]
    overall = (scores @ n / n.sum())[:, None]
    return np.asarray((n * scores + CATEGORY_PRIOR * overall) / (n + CATEGORY_PRIOR))


def _items(
    outcomes: Mapping[str, Outcomes],
    rates: Floats,
    clusters: Mapping[str, Sequence[str]] | None,
    importance: Mapping[str, float] | None,
) -> _Items:
    sizes = next(iter(outcomes.values())).sizes
    n = np.array(list(sizes.values()), np.float64)
    matters = np.array([1.0 if importance is None else importance[c] for c in sizes])
    matters = matters / matters.sum()
    trust = n / (n + CATEGORY_PRIOR)
    matters = matters * trust + (matters * (1 - trust)).sum() * n / n.sum()  # [C], sums to 1
    column = np.repeat(np.arange(len(n)), n.astype(int))  # [items] category of each
    bits = np.stack([np.concatenate(list(o.values.values())) for o in outcomes.values()])
    credit = (bits + ITEM_PRIOR * rates[:, column]) / (1 + ITEM_PRIOR)
    if clusters is None:
        cluster = np.arange(len(column))
    else:
        ids = [i for c in sizes for i in clusters[c]]
        cluster = np.unique(np.array(ids), return_inverse=True)[1]
    if len(cluster) != len(column):
        raise ValueError(f"{len(cluster)} cluster ids for {len(column)} items")
    return _Items(tuple(outcomes), credit, (matters / n)[column], cluster)


def _without_copies(
    models: Sequence[str], worth: Floats, distance: Callable[[str, str], float] | None
) -> tuple[list[int], list[str]]:
    """Models, the most valuable first, without those near one before them."""
    order = [int(m) for m in np.argsort(-worth, kind="stable")]
    if distance is None:
        return sorted(order), []
    kept: list[int] = []
    notes = []
    for m in order:
        twin = next((k for k in kept if distance(models[k], models[m]) < NEAR), None)
        if twin is None:
            kept.append(m)
        else:
            notes.append(f"{models[m]} is left out: nearly the weights of {models[twin]}")
    return sorted(kept), notes


def _first(items: _Items, models: Sequence[int], incumbents: Sequence[str]) -> int:
    """The model that is worth most alone; an incumbent unless it is beaten beyond noise."""
    worth = items.credit @ items.omega
    best = max(models, key=lambda m: worth[m])
    held = [m for m in models if items.models[m] in incumbents]
    if not held:
        return best
    incumbent = max(held, key=lambda m: worth[m])
    lead = items.omega * (items.credit[best] - items.credit[incumbent])
    return best if lead.sum() > Z * items.error(lead) else incumbent


def _next(
    items: _Items, covered: Floats, models: Sequence[int], incumbents: Sequence[str]
) -> int | None:
    """The model that adds most, if its gain clears LEAST_GAIN by Z standard errors. Where an
    incumbent would do so too, it is preferred unless it adds less beyond noise."""
    gains = {m: items.gain(covered, m) for m in models}
    worthy = [m for m, g in gains.items() if g.sum() - Z * items.error(g) > LEAST_GAIN]
    if not worthy:
        return None
    best = max(worthy, key=lambda m: gains[m].sum())
    held = [m for m in worthy if items.models[m] in incumbents]
    if not held:
        return best
    incumbent = max(held, key=lambda m: gains[m].sum())
    lead = gains[best] - gains[incumbent]
    return best if lead.sum() > Z * items.error(lead) else incumbent
