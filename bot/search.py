"""Search: soup weights over the experts, on tune items, as a conversation with a trial server.

Every answer is yielded, and so stored, before the next question; a killed search is told its stored
trials again and goes on where it was. Only the items that the strategy wants are evaluated, and
none twice: what members score alone is kept with the members, and what earlier searches found out
about soups of the same members is taken over.

After the strategy has ended, the greedy soup (arXiv 2203.05482) is found on the same tune items:
the gate compares the winner with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from bot.children import Meter
from bot.executors import Child
from bot.members import fetch_members
from bot.steps import Step
from bot.study import Study
from bot.trial import ask, read, show
from bot.world import World
from db import outcomes as o
from db.rows import CandidateRow, ScoreRow
from merge.outcomes import Outcomes
from merge.recipe import Member, Recipe
from merge.search import GridSearch, Strategy
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
    study = Study(world, base, row)
    members = world.reader.candidates(row.members)
    meter = Meter(base, step)
    folders = yield from fetch_members(world, members)
    if folders is None:
        return
    with study.server(folders) as server:
        yield from _score_members(study, server)
        told, earlier = study.tried(), study.earlier()
        for strategy in dict.fromkeys((row.strategy, Strategy.GREEDY)):
            told = yield from study.converse(strategy, told, earlier, server)
    yield meter.spent()
    yield from _conclude(study, members)


def _score_members(study: Study, server: Child) -> Iterator[o.Scored]:
    """The corners of the simplex, where no earlier search has needed them."""
    benchmark = study.base.benchmark
    rows = study.world.reader.scores(benchmark.id, str(Split.TUNE), candidates=study.row.members)
    for i, member in enumerate(study.row.members):
        missing = _unscored(rows, member, benchmark.sizes(Split.TUNE))
        if missing:
            answer = ask(server, corner(study.n, i), study.base, Split.TUNE, missing)
            yield from (_scored(benchmark.id, member, c, answer) for c in missing)


def _unscored(
    rows: Sequence[ScoreRow], member: int, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    done = {row.category for row in rows if row.candidate_id == member}
    return {c: np.arange(n) for c, n in sizes.items() if c not in done}


def _scored(benchmark_id: int, member: int, category: str, answer: Outcomes) -> o.Scored:
    score = answer.score(category)
    return o.Scored(
        benchmark_id=benchmark_id,
        split=str(answer.split),
        category=category,
        value=score.value,
        n=score.n,
        stderr=score.stderr if score.n > 1 else 0.0,
        outcomes=answer.to_bits()[category],
        candidate_id=member,
    )


# -- the winner --------------------------------------------------------------------------------


def _conclude(study: Study, members: Sequence[CandidateRow]) -> Iterator[o.Outcome]:
    best = _best(study)
    shares = read(best["weights"])
    used = [(m, w) for m, w in zip(members, shares, strict=True) if w > 0]
    if len(used) > 1:
        yield _plan_soup(study, used)
    yield o.Searched(study.row.id, best)
    if len(used) < 2:
        base = study.base
        text = f"the best soup on tune items is {used[0][0].pin} alone; nothing to publish"
        yield o.Noted(base.id, base.repo, "no-soup", text)


def _best(study: Study) -> dict[str, Any]:
    """The winner, what it is to be compared with, and what was spent. The best member is chosen
    here, on tune items, because the gate must not choose it."""
    aim, alone = study.base.section.aim, study.alone()
    told = study.tried()
    found = study.search(study.row.strategy, told).best()
    greedy = study.search(Strategy.GREEDY, told).best()
    values = [aim.of(outcomes) for outcomes in alone]
    best_member = values.index(max(values))
    even = told.get(uniform(study.n))
    return {
        "weights": show(found.weights),
        "value": found.value,
        "stderr": aim.stderr(found.outcomes),
        "best_member": study.row.members[best_member],
        "best_member_value": values[best_member],
        "greedy_weights": show(greedy.weights),
        "greedy_value": greedy.value,
        "uniform_value": aim.of(even) if even is not None and even.complete else None,
        "trials": found.trials,
        "evaluations": _spent(study),
        "full": found.full,
        "grid": len(GridSearch(study.n).points),
        "notes": list(found.notes),
    }


def _spent(study: Study) -> int:
    """Items evaluated for soups by this search; what earlier ones knew cost nothing."""
    earlier, tried = study.earlier(), study.tried()
    recalled = sum(_common(tried[weights], earlier[weights]) for weights in tried.keys() & earlier)
    return sum(outcomes.n_evaluated for outcomes in tried.values()) - recalled


def _common(one: Outcomes, other: Outcomes) -> int:
    return sum(int(((b >= 0) & (other.values[c] >= 0)).sum()) for c, b in one.values.items())


def _plan_soup(study: Study, used: Sequence[tuple[CandidateRow, Fraction]]) -> o.SoupPlanned:
    base = study.base
    reference = study.world.reader.base_candidate(base.id)
    assert reference.fingerprint is not None
    recipe = Recipe(
        base_repo=reference.repo,
        base_sha=reference.sha,
        base_digest=reference.fingerprint,
        members=tuple(Member(c.repo, c.sha, str(c.fingerprint), w) for c, w in used),
    )
    return o.SoupPlanned(
        base_id=base.id,
        search_id=study.row.id,
        benchmark_id=base.benchmark.id,
        recipe_digest=recipe.digest,
        recipe=recipe.to_json(),
        members=tuple((c.id, w.numerator, w.denominator) for c, w in used),
    )
