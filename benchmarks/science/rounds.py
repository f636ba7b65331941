"""A small suite with known truth: who is published after one round, and who after two."""

from __future__ import annotations

import numpy as np

from merge.crossfit import decided_by, exchange
from merge.gate import Verdict, judge, look_level
from merge.outcomes import Outcomes
from merge.search import make_search
from merge.simplex import Weights, corner
from merge.splits import Split, Splits, split_clusters

MEMBERS, CATEGORIES, ITEMS = 3, 3, 60
CLUSTERS = {f"c{k}": [f"{k}-{i}" for i in range(ITEMS)] for k in range(CATEGORIES)}


def rounds(cycles: int = 300) -> None:
    print(f"{CATEGORIES} x {ITEMS} items, {MEMBERS} members of equal skill, first look, "
          f"seeds 0 to {cycles - 1}")  # fmt: skip
    print(f"{'mixing':>8}{'one round %':>14}{'two rounds %':>14}{'mean gain':>12}")
    for mixing in (0.0, 0.5, 1.0):
        found = [_cycle(seed, mixing) for seed in range(cycles)]
        one, two = (100 * np.mean([pair[i].publish for pair in found]) for i in (0, 1))
        gain = 100 * np.mean([both.deciding["best member"].mean for _, both in found])
        print(f"{mixing:>8}{one:>14.1f}{two:>14.1f}{gain:>+12.2f}")


def _cycle(seed: int, mixing: float) -> tuple[Verdict, Verdict]:
    """The verdict of report items alone, and that of both rounds. mixing: what averaging adds to
    every item's latent margin."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1, (CATEGORIES, ITEMS, 1))
    margins = difficulty + rng.normal(0, 0.6, (CATEGORIES, ITEMS, MEMBERS))

    def answers(weights: Weights, splits: Splits, split: Split) -> Outcomes:
        w = np.array([float(v) for v in weights])
        solved = margins @ w + mixing * (1 - w @ w) > 0
        places = {c: splits.positions(ids, split) for c, ids in CLUSTERS.items()}
        return Outcomes(split, {c: solved[k][at] for k, (c, at) in enumerate(places.items())})

    def play(splits: Splits) -> dict[str, Outcomes]:
        members = [corner(MEMBERS, i) for i in range(MEMBERS)]
        alone = [answers(w, splits, Split.TUNE) for w in members]
        search = make_search("grid", MEMBERS, known=alone)
        while (weights := search.ask()) is not None:
            search.tell(weights, answers(weights, splits, Split.TUNE))
        best = members[int(np.argmax([outcomes.macro() for outcomes in alone]))]
        told = {"soup": search.best().weights, "best": best}
        return {role: answers(w, splits, Split.REPORT) for role, w in told.items()}

    fit = exchange(split_clusters(CLUSTERS, seed=seed))
    played = [play(splits) for splits in fit.rounds]
    first = fit.rounds[0]
    here = {c: [i for i in k if first.assignment[i] is Split.REPORT] for c, k in CLUSTERS.items()}
    (soup, ids), (best, _) = (
        fit.pool([found[role] for found in played], CLUSTERS) for role in ("soup", "best")
    )
    rivals = None, None, None
    own = judge(played[0]["soup"], {"m": played[0]["best"]}, *rivals, best_member="m",
                clusters=here, splits=first, level=look_level(1))  # fmt: skip
    pooled = judge(soup, {"m": best}, *rivals, best_member="m", clusters=ids, splits=fit,
                   level=look_level(1))  # fmt: skip
    return own, decided_by(pooled, own)
