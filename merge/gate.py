"""The gate: is the soup better than what people already have, beyond noise, on unseen items?

Published when, on the report split, the lower bound of soup minus best member, and of soup minus
incumbent, lies above the operator's margin, and no category falls by more than the floor. The
published method reports the best of its trials on the items it tuned on (arXiv 2511.13254, section
"Limitations"); here only report outcomes are accepted, and looking costs: the k-th decision on one
report split has level alpha_k, and all of them together stay below alpha.

Not promised: that the best member was chosen without the report split. The caller chooses it from
select and tune scores; a best member chosen here would be one more selection on report items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Protocol

from merge.bootstrap import Difference, Floats, Resampled, Resampler
from merge.objective import Objective
from merge.outcomes import Outcomes, Score
from merge.splits import Split
from merge.tails import holm

TOO_BLUNT = 0.1
"""A report split whose next look could only show larger gains than this is used up."""
ROLES = ("soup", "base", "incumbent", "uniform", "greedy")
RIVALS = ("incumbent", "uniform", "greedy", "base")
BEST = "best member"
"""What the soup is compared with: the decision rests on the best member and the incumbent."""


class Guard(Protocol):
    """Knows the split of every cluster: `Splits`, or `CrossFit` for pooled outcomes."""

    def require(self, split: Split, clusters: Iterable[str], where: str) -> None: ...


def look_level(k: int, alpha: float = 0.05) -> float:
    """alpha_k = 6 alpha / (pi^2 k^2) for the k-th look, k >= 1; over all k they sum to alpha."""
    if k < 1:
        raise ValueError(f"looks are counted from 1, not {k}")
    return 6 * alpha / (math.pi * k) ** 2


@dataclass(frozen=True)
class Verdict:
    """Every figure that a card needs, in shares of 1, on the report split.

    reasons: one sentence per requirement that failed; empty where publish is true.
    differences: soup minus "best member" and those given of "incumbent", "uniform", "greedy",
    "base". categories: soup minus best member per category, corrected by Holm.
    overall, scores: role or member name -> objective, and -> category -> score.
    optimism: the soup's objective on the tune split minus that on the report split.
    pooled: where items are few, the verdict over cross-fitted rounds; then it decided
    (`merge.crossfit.decided_by`).
    """

    publish: bool
    reasons: tuple[str, ...]
    best_member: str
    level: float
    margin: float
    floor: float | None
    differences: Mapping[str, Difference]
    categories: Mapping[str, Difference]
    overall: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Score]]
    optimism: float | None
    pooled: Verdict | None = None

    @property
    def deciding(self) -> Mapping[str, Difference]:
        """The differences that the decision rests on."""
        return (self.pooled or self).differences

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "reasons": list(self.reasons),
            "pooled": None if self.pooled is None else self.pooled.to_json(),
        }


def judge(
    soup: Outcomes,
    members: Mapping[str, Outcomes],
    base: Outcomes | None,
    incumbent: Outcomes | None,
    uniform: Outcomes | None,
    *,
    best_member: str,
    clusters: Mapping[str, Sequence[str]],
    splits: Guard,
    level: float,
    margin: float = 0.0,
    floor: float | None = None,
    greedy: Outcomes | None = None,
    objective: Objective | None = None,
    tune_value: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Decide on publication.

    members: name -> outcomes; best_member: the name of the best one by select or tune scores.
    clusters: category -> cluster id per item; splits: who knows that these are report clusters.
    level: of this look, see `look_level`; the intervals have confidence 1 - level.
    margin: the gain below which publishing is not worth it. floor: the fall of a category, against
    the best member, above which the soup is refused; None for no limit.
    tune_value: the soup's objective on the tune split, for the optimism.

    Raises Leak for outcomes or clusters of another split, ValueError for outcomes that are not
    paired or not complete and for a margin or floor that is no number, KeyError for an unknown best
    member.
    """
    _require_numbers(margin=margin, floor=floor)
    roles = dict(zip(ROLES, (soup, base, incumbent, uniform, greedy), strict=True))
    everyone = _everyone(roles, members)
    _require_report(everyone, clusters, splits)
    panel = _Panel.of(everyone, clusters, objective or Objective(), level, seed)
    differences = panel.differences(best_member)
    categories = panel.by_category(best_member)
    reasons = (*_not_above(margin, differences), *falls(floor, categories))
    overall = panel.overall()
    return Verdict(
        publish=not reasons,
        reasons=reasons,
        best_member=best_member,
        level=level,
        margin=margin,
        floor=floor,
        differences=differences,
        categories=categories,
        overall=overall,
        scores=panel.scores(),
        optimism=None if tune_value is None else tune_value - overall["soup"],
    )


def _require_numbers(**limits: float | None) -> None:
    for limit, value in limits.items():
        if value is not None and math.isnan(value):  # compared with, it would limit nothing
            raise ValueError(f"the {limit} is not a number")


def _everyone(
    roles: Mapping[str, Outcomes | None], members: Mapping[str, Outcomes]
) -> dict[str, Outcomes]:
    """By role or by name, those who are there."""
    if clash := set(roles) & set(members):
        raise ValueError(f"a member cannot be named {sorted(clash)[0]!r}")
    return {name: o for name, o in {**roles, **members}.items() if o is not None}


def _require_report(
    everyone: Mapping[str, Outcomes], clusters: Mapping[str, Sequence[str]], splits: Guard
) -> None:
    """By label and by cluster: a wrong label alone does not help."""
    for name, outcomes in everyone.items():
        outcomes.require(Split.REPORT, f"the gate ({name})")
    for ids in clusters.values():
        splits.require(Split.REPORT, ids, "the gate")


@dataclass(frozen=True)
class _Panel:
    """Everybody on the same items, in the same resamples."""

    resampler: Resampler
    models: Mapping[str, Resampled]
    goal: Objective
    level: float

    @classmethod
    def of(
        cls,
        everyone: Mapping[str, Outcomes],
        clusters: Mapping[str, Sequence[str]],
        goal: Objective,
        level: float,
        seed: int,
    ) -> _Panel:
        resampler = Resampler(clusters, seed=seed)
        models = {name: resampler.resample(outcomes) for name, outcomes in everyone.items()}
        return cls(resampler, models, goal, level)

    def value(self, scores: Floats) -> Floats:
        return self.goal.value(scores, self.resampler.categories)

    def overall(self) -> dict[str, float]:
        return {name: float(self.value(model.scores)) for name, model in self.models.items()}

    def scores(self) -> dict[str, dict[str, Score]]:
        return {n: self.resampler.category_scores(model) for n, model in self.models.items()}

    def differences(self, best_member: str) -> dict[str, Difference]:
        """Soup minus each rival, in the objective."""
        rivals = {BEST: self.models[best_member]}
        rivals |= {r: self.models[r] for r in RIVALS if r in self.models}
        return {
            name: self.resampler.difference(
                self.models["soup"], rival, self.value, level=self.level
            )
            for name, rival in rivals.items()
        }

    def by_category(self, best_member: str) -> dict[str, Difference]:
        """Soup minus best member, corrected for the number of categories."""
        found = self.resampler.category_differences(
            self.models["soup"], self.models[best_member], level=self.level
        )
        corrected = holm([d.p for d in found.values()])
        return {c: replace(d, holm=h) for (c, d), h in zip(found.items(), corrected, strict=True)}


def _not_above(margin: float, differences: Mapping[str, Difference]) -> Iterator[str]:
    for rival in (BEST, "incumbent"):
        d = differences.get(rival)
        if d is not None and not d.low > margin:
            yield (
                f"soup minus {rival}: {_points(d.mean)}, lower bound {_points(d.low)}"
                f" is not above the margin {_points(margin)}"
            )


def falls(floor: float | None, categories: Mapping[str, Difference]) -> Iterator[str]:
    """A sentence for each category that falls by more than the floor; None allows any fall."""
    for category, d in categories.items():
        if floor is not None and -d.mean > floor:
            yield f"{category!r} falls by {_points(-d.mean)}, more than the floor {_points(floor)}"


def smallest_detectable_gain(
    items: int | Mapping[str, int],
    *,
    level: float,
    power: float = 0.8,
    discordance: float = 0.1,
    design_effect: float = 1.0,
) -> float:
    """The true gain (share of 1) that a look at this level publishes with this probability.

    items: on the report split, in all or per category (then for the unweighted mean over them).
    discordance: share of items on which the two models differ. design_effect: variance with
    clusters over variance without (1: every item its own cluster). Solves

        gain = (z_{1-level/2} + z_power) * sqrt(v),   v = design_effect * (discordance - gain^2) / n

    Capped at 1 where no gain could be seen. Raises ValueError where a category has no items.
    """
    sizes = [items] if isinstance(items, int) else list(items.values())
    if not sizes or min(sizes) < 1:
        raise ValueError(f"items per category must be at least 1: {items}")
    per_item = design_effect * sum(1 / n for n in sizes) / len(sizes) ** 2
    z = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)
    return min(1.0, z * math.sqrt(per_item * discordance / (1 + z * z * per_item)))


def _points(share: float) -> str:
    return f"{100 * share:+.2f} points"
