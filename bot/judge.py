"""Judge: the written soup against its best member and the incumbent, on items nothing has seen.

The look at the report split is recorded before the first item is evaluated. The k-th decision of a
base on one split uses level 6 alpha / (pi^2 k^2), so that all looks together stay below alpha. When
what a further look could still show has become too little, new items are asked for.

Two more soups of the same members are measured in the same look, live and never published: the even
average, and the greedy soup of the tune items. They show what the searched weights are worth; the
decision does not rest on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bot.children import Meter, child
from bot.evaluate import score
from bot.members import abandoned, fetch_members
from bot.steps import Step
from bot.table import outcomes_of, outcomes_of_soup
from bot.trial import ask, read, trial_job
from bot.world import Base, World
from db import outcomes as o
from db.rows import CandidateRow, SearchRow, SoupRow
from merge.gate import TOO_BLUNT, Verdict, look_level, smallest_detectable_gain
from merge.gate import judge as decide
from merge.outcomes import Outcomes
from merge.simplex import corner, uniform
from merge.splits import Split


def judge(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    soup = world.reader.soup(step.subject)
    yield from _take_look(world, base, soup)
    meter = Meter(base, step)
    search = world.reader.search(soup.search_id)
    members = world.reader.candidates(search.members)
    reference = world.reader.base_candidate(base.id)
    folder = world.shelf.soup(soup.recipe_digest)
    folders = yield from fetch_members(world, [*members, reference])
    if folders is None:
        yield abandoned(soup.id)
        return
    yield from score(world, base, Split.REPORT, folder, soup_id=soup.id)
    for candidate, weights in zip((*members, reference), folders, strict=True):
        yield from score(world, base, Split.REPORT, weights, candidate_id=candidate.id)
    yield from _score_incumbent(world, base)
    plain = _plain_soups(world, base, soup, search, folders[:-1])
    verdict = _decide(world, base, soup, search, reference, plain)
    yield meter.spent()
    yield o.Judged(soup.id, verdict.publish, verdict.to_json(), _sentence(verdict))
    yield from _ask_for_items(world, base)


def _take_look(world: World, base: Base, soup: SoupRow) -> Iterator[o.Outcome]:
    digest = base.benchmark.splits.digest
    if world.reader.look_of(soup.id, digest) is None:
        k = world.reader.looks_taken(base.id, digest) + 1
        yield o.LookTaken(base.id, soup.id, digest, k, look_level(k, base.section.alpha))


def _ask_for_items(world: World, base: Base) -> Iterator[o.Noted]:
    """Said once it is so, and again with every further look."""
    digest, sizes = base.benchmark.splits.digest, base.benchmark.sizes(Split.REPORT)
    k = world.reader.looks_taken(base.id, digest) + 1
    gain = smallest_detectable_gain(sizes, level=look_level(k, base.section.alpha))
    if gain >= TOO_BLUNT:
        text = (
            f"the report items are used up: look {k} would show gains above {100 * gain:.0f} "
            f"points only; give {base.benchmark.suite.name} new items"
        )
        yield o.Noted(base.id, base.repo, "items-used-up", text)


def _decide(
    world: World,
    base: Base,
    soup: SoupRow,
    search: SearchRow,
    reference: CandidateRow,
    plain: dict[str, Outcomes],
) -> Verdict:
    best, look = search.best, world.reader.look_of(soup.id, base.benchmark.splits.digest)
    assert best is not None and look is not None
    rows = outcomes_of(world, base, Split.REPORT, [*search.members, reference.id])
    pins = {c.id: c.pin for c in world.reader.candidates(search.members)}
    return decide(
        outcomes_of_soup(world, base, Split.REPORT, soup.id),
        {pin: rows[i] for i, pin in pins.items()},
        rows[reference.id],
        _incumbent(world, base),
        plain["uniform"],
        greedy=plain["greedy"],
        best_member=pins[best["best_member"]],
        clusters=base.benchmark.clusters(Split.REPORT),
        splits=base.benchmark.splits,
        level=look.level,
        margin=base.section.margin,
        floor=base.section.floor,
        objective=base.section.aim,
        tune_value=best["value"],
        seed=base.section.seed,
    )


# -- what it is compared with --------------------------------------------------------------------


def _incumbent(world: World, base: Base) -> Outcomes | None:
    row = world.reader.incumbent(base.id)
    return outcomes_of_soup(world, base, Split.REPORT, row.id) if row else None


def _score_incumbent(world: World, base: Base) -> Iterator[o.Outcome]:
    """The published soup was judged on these items, unless the benchmark has changed since."""
    row = world.reader.incumbent(base.id)
    if row is not None and row.benchmark_id != base.benchmark.id:
        folder = world.shelf.soup(row.recipe_digest)
        if not folder.exists():
            published = world.reader.publications(base.section.target)
            sha = next(p.commit_sha for p in published if p.soup_id == row.id and p.commit_sha)
            folder = world.shelf.model(base.section.target, sha)
        yield from score(world, base, Split.REPORT, folder, soup_id=row.id)


def _plain_soups(
    world: World, base: Base, soup: SoupRow, search: SearchRow, members: Sequence[Path]
) -> dict[str, Outcomes]:
    """The even average and the greedy soup, by role. Never stored; one that is a member alone, or
    is the soup itself, has its outcomes already."""
    assert search.best is not None
    n, alone = len(members), outcomes_of(world, base, Split.REPORT, search.members)
    greedy = read(search.best["greedy_weights"])
    known = {corner(n, i): alone[member] for i, member in enumerate(search.members)}
    known[read(search.best["weights"])] = outcomes_of_soup(world, base, Split.REPORT, soup.id)
    roles = {"uniform": uniform(n), "greedy": greedy}
    if set(roles.values()) - known.keys():
        with child(world.executor, trial_job(world, base, members, Split.REPORT)) as server:
            server.receive()  # ready
            for weights in set(roles.values()) - known.keys():
                known[weights] = ask(server, weights, base, Split.REPORT)
    return {role: known[weights] for role, weights in roles.items()}


def _sentence(verdict: Verdict) -> str:
    difference = verdict.differences["best member"]
    gain = (
        f"{100 * difference.mean:+.2f} points against the best member "
        f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}, n = {difference.n_items})"
    )
    if verdict.publish:
        return f"passed: {gain}"
    return f"not published: {gain}; " + "; ".join(verdict.reasons)
