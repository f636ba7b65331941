"""Judge: the written soup against its best member and the incumbent, on items nothing has seen.

The look at the report split is recorded before the first item is evaluated. The k-th decision of a
base on items that share a cluster uses level 6 alpha / (pi^2 k^2), so that all looks at an item
together stay below alpha, however a benchmark grows or is divided anew. When what a further look
could still show has become too little, new items are asked for.

Two more soups of the same members are measured in the same look, live and never published: the even
average, and the greedy soup of the tune items. They show what the searched weights are worth; the
decision does not rest on them. Where report items are few, it rests on two rounds
(`bot.second_round`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot import second_round
from bot.build import written
from bot.children import Meter
from bot.evaluate import score
from bot.gate import decide, detectable_gain, is_cross_fitted, level_of
from bot.incumbent import Before, incumbent_outcomes, score_incumbent, version_before
from bot.members import abandoned, fetch_members
from bot.steps import Step
from bot.study import Study
from bot.table import outcomes_of, outcomes_of_soup
from bot.trial import read
from bot.world import Base, World
from db import outcomes as o
from db.rows import CandidateRow, LookRow, SearchRow, SoupRow
from merge.crossfit import decided_by
from merge.gate import BEST, TOO_BLUNT, Verdict
from merge.outcomes import Outcomes
from merge.simplex import Weights, uniform
from merge.splits import Leak, Split


def judge(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    soup = world.reader.soup(step.subject)
    _require_same_items(base, soup)
    meter = Meter(base, step)
    search = world.reader.search(soup.search_id)
    members = world.reader.candidates(search.members)
    reference = world.reader.base_candidate(base.id)
    folders = yield from fetch_members(world, [*members, reference])
    if folders is None:  # before its look is spent
        yield abandoned(soup.id)
        return
    folder = yield from written(world, soup)
    before = version_before(world, base)
    look = yield from _take_look(world, base, soup)
    yield from score(world, base, Split.REPORT, folder, soup_id=soup.id)
    for candidate, weights in zip((*members, reference), folders, strict=True):
        yield from score(world, base, Split.REPORT, weights, candidate_id=candidate.id)
    yield from score_incumbent(world, base, before, Split.REPORT)
    case = Case(world, base, soup, search, members, reference, before, look)
    yield from case.study.measure([w for w in case.plain if w != case.weights], folders[:-1])
    verdict = case.verdict()
    told: dict[str, Any] = {"version_before": None if before is None else before.to_json()}
    if is_cross_fitted(base, look.k):
        parts = (world, base, search, reference)
        second = yield from second_round.play(*parts, folders, case.known, before)
        first = case.roles | {BEST: case.best}
        pooled = second_round.judge_both(*parts, second, first, before, look.level)
        verdict, told = decided_by(pooled, verdict), told | {"second_round": second.to_json()}
    yield meter.spent()
    yield o.Judged(soup.id, verdict.publish, verdict.to_json() | told, _sentence(verdict))
    yield from _ask_for_items(world, base)


def _require_same_items(base: Base, soup: SoupRow) -> None:
    """Other splits would make report items of what its search has seen. Raises Leak."""
    if soup.benchmark_id != base.benchmark.id:
        raise Leak(Split.REPORT, "a soup that was searched under other splits", "the gate")


def _take_look(world: World, base: Base, soup: SoupRow) -> Generator[o.LookTaken, None, LookRow]:
    digest = base.benchmark.splits.digest
    if world.reader.look_of(soup.id, digest) is None:
        k = world.reader.looks_taken(base.id, base.benchmark.id) + 1
        yield o.LookTaken(base.id, soup.id, digest, k, level_of(base, k))
    look = world.reader.look_of(soup.id, digest)
    assert look is not None
    return look


def _ask_for_items(world: World, base: Base) -> Iterator[o.Noted]:
    """Said once it is so, and again with every further look."""
    k = world.reader.looks_taken(base.id, base.benchmark.id) + 1
    gain = detectable_gain(base, k)
    if gain >= TOO_BLUNT:
        text = (
            f"the report items are used up: look {k} would show gains above {100 * gain:.0f} "
            f"points only; give {base.benchmark.suite.name} new items"
        )
        yield o.Noted(base.id, base.repo, "items-used-up", text)


@dataclass(frozen=True)
class Case:
    """What one look compares, on report items; everything is stored by now."""

    world: World
    base: Base
    soup: SoupRow
    search: SearchRow
    candidates: Sequence[CandidateRow]  # the members
    reference: CandidateRow
    before: Before | None
    look: LookRow

    @property
    def found(self) -> Mapping[str, Any]:
        assert self.search.best is not None
        return self.search.best

    @property
    def study(self) -> Study:
        return Study(self.world, self.base, self.search, Split.REPORT)

    @property
    def weights(self) -> Weights:
        return read(self.found["weights"])

    @property
    def plain(self) -> tuple[Weights, Weights]:
        """The even average and the greedy soup."""
        return uniform(self.study.n), read(self.found["greedy_weights"])

    @property
    def members(self) -> dict[str, Outcomes]:
        alone = self.study.alone()
        return {c.pin: outcomes for c, outcomes in zip(self.candidates, alone, strict=True)}

    @property
    def best_member(self) -> str:
        """Chosen on tune items, by the search."""
        return next(c.pin for c in self.candidates if c.id == self.found["best_member"])

    @property
    def best(self) -> Outcomes:
        return self.members[self.best_member]

    @property
    def known(self) -> dict[Weights, Outcomes]:
        """Of the members' soups, the written one among them."""
        soup = outcomes_of_soup(self.world, self.base, Split.REPORT, self.soup.id)
        return self.study.known() | {self.weights: soup}

    @property
    def roles(self) -> dict[str, Outcomes]:
        base = outcomes_of(self.world, self.base, Split.REPORT, [self.reference.id])
        even, greedy = (self.known[weights] for weights in self.plain)
        roles = {
            "soup": self.known[self.weights],
            "base": base[self.reference.id],
            "uniform": even,
            "greedy": greedy,
        }
        incumbent = incumbent_outcomes(self.world, self.base, self.before, Split.REPORT)
        return roles if incumbent is None else roles | {"incumbent": incumbent}

    def verdict(self) -> Verdict:
        return decide(
            self.base,
            self.roles,
            self.members,
            best_member=self.best_member,
            clusters=self.base.benchmark.clusters(Split.REPORT),
            splits=self.base.benchmark.splits,
            level=self.look.level,
            tune_value=self.found["value"],
        )


def _sentence(verdict: Verdict) -> str:
    difference = verdict.deciding[BEST]
    how = "" if verdict.pooled is None else ", cross-fitted"
    gain = (
        f"{100 * difference.mean:+.2f} points against the best member "
        f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}, "
        f"n = {difference.n_items}{how})"
    )
    if verdict.publish:
        return f"passed: {gain}"
    return f"not published: {gain}; " + "; ".join(verdict.reasons)
