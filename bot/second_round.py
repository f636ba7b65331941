"""Where report items are few: the search once more with tune and report items in exchanged places.

The soup at hand was tuned on tune items and answers report items. A second search over the same
members tunes on report items, and its soup answers tune items. Both together are judged: every item
of the two splits counts once, for a soup that was chosen without it (`merge.crossfit.exchange`).
Selection saw neither split, so it is not repeated. The second soup is measured live and never
published.

Not promised: that the two rounds are independent; each is tuned on what the other reports on.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.evaluate import score
from bot.gate import decide
from bot.incumbent import Before, incumbent_outcomes, score_incumbent
from bot.study import Study
from bot.table import outcomes_of
from bot.trial import show
from bot.world import Base, World
from db import outcomes as o
from db.rows import CandidateRow, SearchRow
from merge.crossfit import exchange, exchanged
from merge.gate import BEST, Verdict
from merge.outcomes import Outcomes
from merge.search import Strategy
from merge.simplex import Weights, corner, uniform
from merge.splits import Split


@dataclass(frozen=True)
class Chosen:
    """What the second round decided on report items."""

    soup: Weights
    greedy: Weights
    best_member: int  # its place among the members

    def to_json(self) -> dict[str, object]:
        return {
            "weights": show(self.soup),
            "greedy_weights": show(self.greedy),
            "best_member": self.best_member,
        }


def play(
    world: World,
    base: Base,
    row: SearchRow,
    reference: CandidateRow,
    folders: Sequence[Path],
    known: Mapping[Weights, Outcomes],
    before: Before | None,
) -> Generator[o.Outcome, None, Chosen]:
    """Search on report items, then measure on tune items. folders: the members', then the base's.
    known: what soups of the members answered to report items.

    The search hears only of what it asks for: soups that the first round chose were chosen by the
    items that this one reports on.
    """
    study, members = Study(world, base, row, Split.REPORT), folders[:-1]
    told: dict[Weights, Outcomes] = {}
    with study.server(members) as server:
        for strategy in dict.fromkeys((row.strategy, Strategy.GREEDY)):
            told = yield from study.converse(strategy, told, known, server)
    values = [base.section.aim.of(outcomes) for outcomes in study.alone()]
    chosen = Chosen(
        soup=study.search(row.strategy, told).best().weights,
        greedy=study.search(Strategy.GREEDY, told).best().weights,
        best_member=values.index(max(values)),
    )
    vectors = [chosen.soup, chosen.greedy, uniform(study.n)]
    yield from Study(world, base, row).measure(vectors, members)
    yield from score(world, base, Split.TUNE, folders[-1], candidate_id=reference.id)
    yield from score_incumbent(world, base, before, Split.TUNE)
    return chosen


def judge_both(
    world: World,
    base: Base,
    row: SearchRow,
    reference: CandidateRow,
    chosen: Chosen,
    first: Mapping[str, Outcomes],
    before: Before | None,
    level: float,
) -> Verdict:
    """first: report outcomes of the round at hand by role, "best member" among them."""
    fit, clusters = exchange(base.benchmark.splits), base.benchmark.all_clusters
    second = _on_tune_items(world, base, row, reference, chosen)
    incumbent = incumbent_outcomes(world, base, before, Split.TUNE)
    if incumbent is not None:
        second["incumbent"] = incumbent
    pooled = {
        role: fit.pool([outcomes, exchanged(second[role])], clusters)
        for role, outcomes in first.items()
    }
    roles = {role: outcomes for role, (outcomes, _) in pooled.items()}
    best = {BEST: roles.pop(BEST)}
    return decide(
        base,
        roles,
        best,
        best_member=BEST,
        clusters=pooled["soup"][1],
        splits=fit,
        level=level,
    )


def _on_tune_items(
    world: World, base: Base, row: SearchRow, reference: CandidateRow, chosen: Chosen
) -> dict[str, Outcomes]:
    study = Study(world, base, row)
    known = study.known()
    return {
        "soup": known[chosen.soup],
        BEST: known[corner(study.n, chosen.best_member)],
        "base": outcomes_of(world, base, Split.TUNE, [reference.id])[reference.id],
        "uniform": known[uniform(study.n)],
        "greedy": known[chosen.greedy],
    }
