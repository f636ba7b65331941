"""Cross-fitting: where items are few, every item reports once, for a soup that never saw it.

The clusters are dealt into k folds. Round j reports on fold j and selects and tunes on the others,
so there are k selections, k searches and k soups; the pooled out-of-fold outcomes judge the
*procedure* that made them. What is published then is the soup made from all of it, with the pooled
figures as what such a soup can be expected to do.

    def play(splits):                    # one round: select, search, then report
        ...
        return {"soup": soup, "best member": best, "uniform": even}

    verdict = judge_procedure(cross_fit(clusters, seed=0), clusters, play, level=look_level(1))

Where models were selected once and selection is not to be repeated, `exchange` makes two rounds:
tune and report items change places, select items stay what they are. The first round's soup is then
the one to publish, and tune and report items together stand behind the decision.

Not promised: that the pooled rounds are independent; they share most of their select and tune
items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from merge.gate import BEST, Verdict, falls, judge
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.splits import Leak, Split, Splits, split_clusters, stratified_order

_EXCHANGED = {Split.SELECT: Split.SELECT, Split.TUNE: Split.REPORT, Split.REPORT: Split.TUNE}


@dataclass(frozen=True)
class CrossFit:
    """rounds: one `Splits` per fold; no cluster reports in more than one of them."""

    rounds: tuple[Splits, ...]

    def require(self, split: Split, clusters: Iterable[str], where: str) -> None:
        """Raises Leak unless report items are asked for, and of clusters that report in a round."""
        reporting = {c for splits in self.rounds for c in splits.clusters(Split.REPORT)}
        for cluster in clusters:
            if split is not Split.REPORT or cluster not in reporting:
                raise Leak(split, f"cluster {cluster!r} out of cross-fitting", where)

    def pool(
        self,
        parts: Sequence[Outcomes],
        clusters: Mapping[str, Sequence[str]],
    ) -> tuple[Outcomes, dict[str, list[str]]]:
        """All out-of-fold outcomes as one, and their clusters, for `merge.gate.judge`.

        parts: per round, the report outcomes of that round's model. clusters: category -> cluster
        per item of the whole benchmark; the items of a round are those of its report clusters, in
        that order. Categories without an item in a round are absent from its part. Raises Leak for
        outcomes of another split, ValueError where a part does not fit its round.
        """
        if len(parts) != len(self.rounds):
            raise ValueError(f"{len(parts)} outcomes for {len(self.rounds)} rounds")
        bits: dict[str, list[np.ndarray]] = {c: [] for c in clusters}
        ids: dict[str, list[str]] = {c: [] for c in clusters}
        for splits, part in zip(self.rounds, parts, strict=True):
            part.require(Split.REPORT, "cross-fitting")
            for category, all_ids in clusters.items():
                here = [all_ids[i] for i in splits.positions(all_ids, Split.REPORT)]
                found = part.values.get(category, np.zeros(0, np.int8))
                if len(found) != len(here):
                    raise ValueError(f"{category!r}: {len(found)} outcomes for {len(here)} items")
                bits[category].append(found)
                ids[category].extend(here)
        return Outcomes(Split.REPORT, {c: np.concatenate(b) for c, b in bits.items()}), ids


def judge_procedure(
    fit: CrossFit,
    clusters: Mapping[str, Sequence[str]],
    play: Callable[[Splits], Mapping[str, Outcomes]],
    *,
    level: float,
    margin: float = 0.0,
    floor: float | None = None,
    objective: Objective | None = None,
    seed: int = 0,
) -> Verdict:
    """Play every round and judge what came of it, every item once.

    play: from the splits of one round to report outcomes (of that round's report items) by role:
    "soup" and "best member", and if wanted "base", "incumbent", "uniform" and "greedy". It must
    select and tune on the other items only; the outcomes carry their split. The other arguments are
    those of `merge.gate.judge`. Raises KeyError where a role is missing in a round.
    """
    rounds = [play(splits) for splits in fit.rounds]
    pooled = {role: fit.pool([found[role] for found in rounds], clusters) for role in rounds[0]}
    outcomes = {role: found for role, (found, _) in pooled.items()}
    return judge(
        outcomes["soup"],
        {"best member": outcomes["best member"]},
        *(outcomes.get(role) for role in ("base", "incumbent", "uniform")),
        greedy=outcomes.get("greedy"),
        best_member="best member",
        clusters=pooled["soup"][1],
        splits=fit,
        level=level,
        margin=margin,
        floor=floor,
        objective=objective,
        seed=seed,
    )


def exchange(splits: Splits) -> CrossFit:
    """Two rounds: `splits` as they are, and with tune and report items in each other's place."""
    select, tune, report = splits.shares
    there = {cluster: _EXCHANGED[split] for cluster, split in splits.assignment.items()}
    return CrossFit((splits, Splits(splits.seed, (select, report, tune), there)))


def exchanged(outcomes: Outcomes) -> Outcomes:
    """Outcomes of the first round's items under the name that they have in the second of
    `exchange`. Raises Leak for select items, which have no part in either."""
    if outcomes.split is Split.SELECT:
        raise Leak(Split.TUNE, "outcomes of the select split", "an exchange")
    return Outcomes(_EXCHANGED[outcomes.split], outcomes.values)


def decided_by(pooled: Verdict, own: Verdict) -> Verdict:
    """The verdict on one soup where the pooled rounds decide: they must pass, and the soup itself,
    on its own report items, must gain more than the margin and keep the floor."""
    reasons = [*pooled.reasons, *falls(own.floor, own.categories)]
    if own.differences[BEST].mean <= own.margin:
        reasons.append("the soup itself does not gain on its own report items")
    return replace(own, publish=not reasons, reasons=tuple(reasons), pooled=pooled)


def cross_fit(
    clusters: Iterable[str] | Mapping[str, Iterable[str]],
    *,
    seed: int,
    folds: int = 5,
    select_share: float = 4 / 7,
) -> CrossFit:
    """`folds` rounds. Folds are stratified as in `split_clusters`; the clusters that do not report
    are dealt to select and tune, `select_share` of them to select, anew in each round."""
    if folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, not {folds}")
    given = clusters if isinstance(clusters, Mapping) else {"": clusters}
    groups = {c: list(ids) for c, ids in given.items()}
    fold_of = {k: i % folds for i, k in enumerate(stratified_order(groups, seed))}
    rounds = []
    for fold in range(folds):
        rest = {c: [k for k in ids if fold_of[k] != fold] for c, ids in groups.items()}
        inner = split_clusters(rest, seed=seed + fold, shares=(select_share, 1 - select_share, 0.0))
        reporting = {k: Split.REPORT for k, f in fold_of.items() if f == fold}
        share = 1 / folds
        shares = ((1 - share) * select_share, (1 - share) * (1 - select_share), share)
        rounds.append(Splits(seed, shares, {**inner.assignment, **reporting}))
    return CrossFit(tuple(rounds))
