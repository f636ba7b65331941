"""Judge: the written soup against its best member and the incumbent, on items nothing has seen.

The look at the report split is recorded before the first item is evaluated. The k-th decision of a
base on one split uses level 6 alpha / (pi^2 k^2), so that all looks together stay below alpha.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bot.children import Meter, child
from bot.evaluate import score
from bot.members import abandoned, fetch_members
from bot.plan import Step
from bot.search import ask, trial_job
from bot.table import outcomes_of, outcomes_of_soup
from bot.world import Base, World
from db import outcomes as o
from db.reader import CandidateRow, SoupRow
from merge.gate import Verdict, look_level
from merge.gate import judge as decide
from merge.outcomes import Outcomes
from merge.simplex import uniform
from merge.splits import Split


def judge(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    soup = world.reader.soup(step.subject)
    yield from _take_look(world, base, soup)
    meter = Meter(base, step)
    members = world.reader.candidates(world.reader.search(soup.search_id).members)
    reference = world.reader.base_candidate(base.id)
    folder = world.shelf.soup(soup.recipe_digest)
    folders = yield from fetch_members(world, [*members, reference])
    if folders is None:
        yield abandoned(soup.id)
        return
    yield from score(world, base, Split.REPORT, folder, soup_id=soup.id)
    for candidate, weights in zip((*members, reference), folders, strict=True):
        yield from score(world, base, Split.REPORT, weights, candidate_id=candidate.id)
    even = _uniform(world, base, folders[:-1])
    verdict = _decide(world, base, soup, members, reference, even)
    yield meter.spent()
    yield o.Judged(soup.id, verdict.publish, verdict.to_json(), _sentence(verdict))


def _take_look(world: World, base: Base, soup: SoupRow) -> Iterator[o.Outcome]:
    digest = base.benchmark.splits.digest
    if world.reader.look_of(soup.id, digest) is None:
        k = world.reader.looks_taken(base.id, digest) + 1
        yield o.LookTaken(base.id, soup.id, digest, k, look_level(k, base.section.alpha))


def _decide(
    world: World,
    base: Base,
    soup: SoupRow,
    members: list[CandidateRow],
    reference: CandidateRow,
    even: Outcomes,
) -> Verdict:
    best = world.reader.search(soup.search_id).best
    look = world.reader.look_of(soup.id, base.benchmark.splits.digest)
    assert best is not None and look is not None
    rows = outcomes_of(world, base, Split.REPORT, [c.id for c in (*members, reference)])
    pins = {c.id: c.pin for c in members}
    return decide(
        outcomes_of_soup(world, base, Split.REPORT, soup.id),
        {pins[c.id]: rows[c.id] for c in members},
        rows[reference.id],
        _incumbent(world, base),
        even,
        best_member=pins[best["best_member"]],
        clusters=base.benchmark.clusters(Split.REPORT),
        splits=base.benchmark.splits,
        level=look.level,
        margin=base.section.margin,
        floor=base.section.floor,
        tune_value=best["value"],
        seed=base.section.seed,
    )


def _incumbent(world: World, base: Base) -> Outcomes | None:
    """The published soup, judged on the same items when it was published."""
    row = world.reader.incumbent(base.id)
    if row is None or row.benchmark_id != base.benchmark.id:
        return None
    return outcomes_of_soup(world, base, Split.REPORT, row.id)


def _uniform(world: World, base: Base, members: list[Path]) -> Outcomes:
    """The even average of the same members: what the weights are worth. Never stored."""
    job = trial_job(world, base, members, Split.REPORT)
    with child(world.executor, job) as server:
        server.receive()  # ready
        return ask(server, uniform(len(members)), base, Split.REPORT)


def _sentence(verdict: Verdict) -> str:
    difference = verdict.differences["best member"]
    gain = (
        f"{100 * difference.mean:+.2f} points against the best member "
        f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}, n = {difference.n_items})"
    )
    if verdict.publish:
        return f"passed: {gain}"
    return f"not published: {gain}; " + "; ".join(verdict.reasons)
