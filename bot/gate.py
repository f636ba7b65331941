"""The gate as the settings of a base have it: limits, objective, level; whether items are few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.sections import CrossFitting
from bot.world import Base
from merge.gate import (
    TOO_BLUNT,
    Guard,
    Verdict,
    judge,
    look_level,
    smallest_detectable_gain,
)
from merge.outcomes import Outcomes
from merge.splits import Split


def level_of(base: Base, k: int) -> float:
    """Of the k-th look at the same report items."""
    return look_level(k, base.section.alpha)


def is_cross_fitted(base: Base, k: int) -> bool:
    """Whether the k-th look is: as the settings say, or where report items alone could only show
    gains above `TOO_BLUNT`. Nothing that was measured has a say in it."""
    match base.section.cross_fitting:
        case CrossFitting.ALWAYS:
            return True
        case CrossFitting.NEVER:
            return False
        case CrossFitting.AUTO:
            return _shown(base, k, base.benchmark.sizes(Split.REPORT)) >= TOO_BLUNT


def detectable_gain(base: Base, k: int) -> float:
    """The smallest gain that the k-th look shows four times in five, a tenth of the items
    differing."""
    sizes = base.benchmark.sizes(Split.REPORT)
    if is_cross_fitted(base, k):
        tune = base.benchmark.sizes(Split.TUNE)
        sizes = {category: n + tune[category] for category, n in sizes.items()}
    return _shown(base, k, sizes)


def _shown(base: Base, k: int, sizes: Mapping[str, int]) -> float:
    return smallest_detectable_gain(sizes, level=level_of(base, k))


def decide(
    base: Base,
    roles: Mapping[str, Outcomes],
    members: Mapping[str, Outcomes],
    *,
    best_member: str,
    clusters: Mapping[str, Sequence[str]],
    splits: Guard,
    level: float,
    tune_value: float | None = None,
) -> Verdict:
    """roles: "soup", and where they are there "base", "incumbent", "uniform" and "greedy"."""
    return judge(
        roles["soup"],
        members,
        *(roles.get(role) for role in ("base", "incumbent", "uniform")),
        greedy=roles.get("greedy"),
        best_member=best_member,
        clusters=clusters,
        splits=splits,
        level=level,
        margin=base.section.margin,
        floor=base.section.floor,
        objective=base.section.aim,
        tune_value=tune_value,
        seed=base.section.seed,
    )
