"""Experts change only beyond noise.

On the 71 models of the Berkeley leaderboard's item files of 2024-08-11, two random halves of the
items disagree on the expert in 41 % (5 candidates) to 89 % (71) of the categories. A bot that
follows every such change searches and publishes for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from merge.bootstrap import Resampler
from merge.outcomes import Outcomes
from merge.selection import Selection
from merge.splits import Split
from merge.tails import holm


def keep_incumbents(
    fresh: Selection,
    incumbents: Mapping[str, str],
    outcomes: Mapping[str, Outcomes],
    *,
    clusters: Mapping[str, Sequence[str]],
    level: float = 0.05,
    seed: int = 0,
) -> Selection:
    """The fresh selection, with every incumbent expert that was not beaten beyond noise.

    incumbents: category -> model, of the selection in force; one without outcomes (withdrawn, not
    scored) is replaced. outcomes: model -> outcomes on the select split, in table order; clusters:
    category -> cluster id per item. An expert is replaced where the paired difference in its
    category is positive and, corrected by Holm for all challenged categories, significant at
    `level`. Each incumbent kept is a note. Raises Leak for items of another split.
    """
    for name, o in outcomes.items():
        o.require(Split.SELECT, f"a selection ({name})")
    challenged = [
        category
        for category, model in fresh.experts.items()
        if incumbents.get(category, model) != model and incumbents[category] in outcomes
    ]
    if not challenged:
        return fresh
    resampler = Resampler(clusters, seed=seed)
    differences = {
        c: resampler.category_differences(
            resampler.resample(outcomes[fresh.experts[c]]),
            resampler.resample(outcomes[incumbents[c]]),
            level=level,
        )[c]
        for c in challenged
    }
    corrected = holm([d.p for d in differences.values()])
    experts, notes = dict(fresh.experts), list(fresh.notes)
    for (c, d), p in zip(differences.items(), corrected, strict=True):
        if d.mean > 0 and p <= level:
            continue
        experts[c] = incumbents[c]
        notes.append(
            f"{c!r} keeps {incumbents[c]}: {fresh.experts[c]} is {100 * d.mean:+.1f} points ahead"
            f" on {d.n_items} items, which is noise (p = {p:.2g})"
        )
    if experts == fresh.experts:
        return fresh
    unmoved = set(fresh.members) - set(fresh.experts.values())  # members for another reason
    chosen = unmoved | set(experts.values())
    members = tuple(model for model in outcomes if model in chosen)
    return replace(fresh, experts=experts, members=members, notes=tuple(notes))
