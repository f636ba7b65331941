"""Select: who is the expert of which category, from select items alone.

An incumbent expert keeps its place until the paired difference on select items clears its noise:
two random halves of a benchmark's items disagree on the expert in 41 to 72 % of categories when
the pool has 5 to 20 models (recomputed from the BFCL v1 item scores of 2024-08-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bot.plan import Step
from bot.table import outcomes_of, score_table
from bot.world import Base, World
from db import outcomes as o
from db.reader import SelectionRow
from merge.outcomes import Outcomes
from merge.select import Selection, keep_incumbents, soce
from merge.splits import Split


def select(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    facts = world.reader.facts(
        base.id, base.benchmark.id, len(base.benchmark.categories), world.now()
    )
    by_candidate = outcomes_of(world, base, Split.SELECT, facts.scored)
    pool = _pool(world, base, facts.scored)
    if not pool:
        return
    fresh = choose(base, by_candidate, pool)
    previous = world.reader.last_selection(base.id, base.benchmark.id)
    kept, held = _hold(base, fresh, previous, by_candidate, pool)
    yield o.Selected(
        base_id=base.id,
        benchmark_id=base.benchmark.id,
        method=fresh.method,
        inputs=facts.scored,
        experts={category: int(model) for category, model in kept.experts.items()},
        members=tuple(int(model) for model in kept.members),
        figures=_figures(kept, held),
    )
    if len(kept.members) < 2:
        text = "one expert for everything: there is nothing to average"
        yield o.Noted(base.id, base.repo, "no-soup", " ".join((text, *kept.notes)))


def _pool(world: World, base: Base, scored: Sequence[int]) -> list[int]:
    """The base takes part in the correlations; experts are fine-tunes."""
    return [c.id for c in world.reader.candidates(scored) if c.role == "finetune"]


def choose(base: Base, by_candidate: dict[int, Outcomes], pool: Sequence[int]) -> Selection:
    table = score_table(by_candidate, base)
    return soce(table, candidates=[str(i) for i in pool], tau=base.section.tau)


def _hold(
    base: Base,
    fresh: Selection,
    previous: SelectionRow | None,
    by_candidate: dict[int, Outcomes],
    pool: Sequence[int],
) -> tuple[Selection, dict[str, str]]:
    """The fresh choice with incumbents kept where the challenger's lead is noise; who was held."""
    if previous is None:
        return fresh, {}
    incumbents = {c: str(i) for c, i in previous.experts.items() if i in pool}
    named = {str(i): outcomes for i, outcomes in by_candidate.items()}
    kept = keep_incumbents(fresh, incumbents, named, clusters=base.benchmark.clusters(Split.SELECT))
    held = {c: m for c, m in kept.experts.items() if fresh.experts.get(c) != m}
    return kept, held


def _figures(selection: Selection, held: dict[str, str]) -> dict[str, Any]:
    return {
        "correlations": {a: dict(row) for a, row in selection.correlations.items()},
        "weak_pairs": [list(pair) for pair in selection.weak_pairs],
        "notes": list(selection.notes),
        "held": held,
    }
