"""Search: soup weights over the experts, on tune items, as a conversation with a trial server.

The server keeps the live model and the mapped members, so no candidate touches the disk. Every
answer is yielded, and so stored, before the next question; a killed search is told its stored
trials again and goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from bot.children import Meter, child
from bot.errors import Broken
from bot.executors import Child
from bot.members import fetch_members
from bot.plan import Step
from bot.worker.jobs import Trials
from bot.world import Base, World
from db import outcomes as o
from db.reader import CandidateRow, SearchRow
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.recipe import Member, Recipe
from merge.search import Search, Weights, make_search, parse_weights
from merge.simplex import corner, uniform
from merge.splits import Split


def search(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    selection = world.reader.selection(step.subject)
    yield o.SearchOpened(
        base_id=base.id,
        selection_id=selection.id,
        benchmark_id=base.benchmark.id,
        strategy=base.section.strategy,
        members=selection.members,
    )
    row = world.reader.search_of(selection.id)
    assert row is not None
    members = world.reader.candidates(row.members)
    meter = Meter(base, step)
    folders = yield from fetch_members(world, members)
    if folders is None:
        return
    with child(world.executor, trial_job(world, base, folders, Split.TUNE)) as server:
        server.receive()  # ready
        yield from _converse(world, base, row, server)
    yield meter.spent()
    yield from _conclude(world, base, row, members)


def trial_job(world: World, base: Base, members: Sequence[Path], split: Split) -> Trials:
    """A server for soups of these members on one split."""
    return Trials(
        members=tuple(members),
        config=world.shelf.trusted(base.section),
        suite=base.benchmark.location,
        seed=base.section.seed,
        shares=base.section.shares,
        split=str(split),
    )


def _converse(world: World, base: Base, row: SearchRow, server: Child) -> Iterator[o.Outcome]:
    """Members first (the corners of the simplex), then whatever the strategy asks for."""
    told = {trial.weights: trial.outcomes for trial in world.reader.trials(row.id)}
    for i in range(len(row.members)):
        alone = corner(len(row.members), i)
        if _text(alone) not in told:
            yield _tried(row, alone, ask(server, alone, base, Split.TUNE))
    strategy = _resume(world, base, row)
    while (weights := strategy.ask()) is not None:
        answer = ask(server, weights, base, Split.TUNE)
        yield _tried(row, weights, answer)
        strategy.tell(weights, answer)


def _resume(world: World, base: Base, row: SearchRow) -> Search:
    """The search with everything told that is stored."""
    n = len(row.members)
    stored = {
        parse_weights(trial.weights.split()): Outcomes.from_bits(Split.TUNE, trial.outcomes)
        for trial in world.reader.trials(row.id)
    }
    corners = [corner(n, i) for i in range(n)]
    known = [stored[weights] for weights in corners]
    strategy = make_search(
        row.strategy,
        n,
        known=known,
        objective=Objective(floor=base.section.floor),  # what the gate would refuse is not sought
        seed=base.section.seed,
    )
    for weights, outcomes in stored.items():
        if weights not in corners:
            strategy.tell(weights, outcomes)
    return strategy


def ask(server: Child, weights: Weights, base: Base, split: Split) -> Outcomes:
    """One soup's outcomes. A child's answer is data of unknown quality and is checked.

    Raises:
        Broken: the answer is not one outcome for every item of the split.
    """
    trial = _text(weights)
    answer = server.ask({"trial": trial, "weights": [str(w) for w in weights]})
    bits = answer.get("outcomes")
    sizes = base.benchmark.sizes(split)
    if answer.get("trial") != trial or not isinstance(bits, Mapping) or set(bits) != set(sizes):
        raise Broken(f"trial {trial}: the answer is not about these items")
    outcomes = Outcomes.from_bits(split, {c: str(bits[c]) for c in sizes})
    if outcomes.sizes != sizes or not outcomes.complete:
        raise Broken(f"trial {trial}: items are missing in the answer")
    return outcomes


def _tried(row: SearchRow, weights: Weights, outcomes: Outcomes) -> o.Tried:
    return o.Tried(row.id, _text(weights), outcomes.to_bits())


def _text(weights: Weights) -> str:
    return " ".join(str(weight) for weight in weights)


# -- the winner --------------------------------------------------------------------------------


def _conclude(
    world: World, base: Base, row: SearchRow, members: Sequence[CandidateRow]
) -> Iterator[o.Outcome]:
    strategy = _resume(world, base, row)
    found = strategy.best()
    n = len(members)
    stored = {trial.weights: trial.outcomes for trial in world.reader.trials(row.id)}
    alone = [_value(stored[_text(corner(n, i))]) for i in range(n)]
    best_member = max(range(n), key=lambda i: alone[i])
    even = stored.get(_text(uniform(n)))
    scores = [found.outcomes.score(category) for category in found.outcomes.categories]
    best: dict[str, Any] = {
        "weights": _text(found.weights),
        "value": found.value,
        "stderr": math.hypot(*(e.stderr for e in scores)) / len(scores),
        "trials": found.trials,
        "best_member": members[best_member].id,  # chosen on tune items: the gate must not choose it
        "best_member_value": alone[best_member],
        "uniform_value": _value(even) if even else None,
        "notes": list(found.notes),
    }
    used = [(m, w) for m, w in zip(members, found.weights, strict=True) if w > 0]
    if len(used) > 1:
        yield _plan_soup(world, base, row, used)
    yield o.Searched(row.id, best)
    if len(used) < 2:
        text = f"the best soup on tune items is {used[0][0].pin} alone; nothing to publish"
        yield o.Noted(base.id, base.repo, "no-soup", text)


def _value(bits: Mapping[str, str]) -> float:
    return Outcomes.from_bits(Split.TUNE, bits).macro()


def _plan_soup(
    world: World, base: Base, row: SearchRow, used: Sequence[tuple[CandidateRow, Fraction]]
) -> o.SoupPlanned:
    reference = world.reader.base_candidate(base.id)
    assert reference.fingerprint is not None
    recipe = Recipe(
        base_repo=reference.repo,
        base_sha=reference.sha,
        base_digest=reference.fingerprint,
        members=tuple(Member(c.repo, c.sha, str(c.fingerprint), w) for c, w in used),
    )
    return o.SoupPlanned(
        base_id=base.id,
        search_id=row.id,
        benchmark_id=base.benchmark.id,
        recipe_digest=recipe.digest,
        recipe=recipe.to_json(),
        members=tuple((c.id, w.numerator, w.denominator) for c, w in used),
    )
