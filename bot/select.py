"""Select: who is the expert of which category, from select items alone.

An incumbent expert keeps its place until the paired difference on select items clears its noise:
two random halves of a benchmark's items disagree on the expert in 41 to 72 % of categories when
the pool has 5 to 20 models (recomputed from the BFCL v1 item scores of 2024-08-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.plan import Step
from bot.table import outcomes_of, score_table
from bot.world import Base, World
from db import outcomes as o
from db.reader import CandidateRow, SelectionRow
from merge.outcomes import Outcomes
from merge.select import Selection, complementary, disagreement, keep_incumbents, soce
from merge.splits import Split


@dataclass(frozen=True)
class Field:
    """Everybody who was scored, by pin; `pool` are those who may become members."""

    base: Base
    ids: Mapping[str, int]
    outcomes: Mapping[str, Outcomes]
    pool: tuple[str, ...]

    @property
    def candidates(self) -> dict[str, Outcomes]:
        return {pin: self.outcomes[pin] for pin in self.pool}


def select(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    categories = len(base.benchmark.categories)
    scored = world.reader.facts(base.id, base.benchmark.id, categories, world.now()).scored
    field = _field(world, base, scored)
    if not field.pool:
        return
    previous = world.reader.last_selection(base.id, base.benchmark.id)
    chosen, held = choose(field, base.section.method, previous)
    other = "soce" if base.section.method == "complementary" else "complementary"
    rival, _ = choose(field, other, previous)
    yield o.Selected(
        base_id=base.id,
        benchmark_id=base.benchmark.id,
        method=chosen.method,
        inputs=scored,
        experts={category: field.ids[pin] for category, pin in chosen.experts.items()},
        members=tuple(field.ids[pin] for pin in chosen.members),
        figures=_figures(chosen, held, rival),
    )
    if len(chosen.members) < 2:
        text = " ".join(("fewer than two members: there is nothing to average.", *chosen.notes))
        yield o.Noted(base.id, base.repo, "no-soup", text)


def _field(world: World, base: Base, scored: Sequence[int]) -> Field:
    """The base takes part in the correlations; experts are fine-tunes."""
    rows = world.reader.candidates(scored)
    found = outcomes_of(world, base, Split.SELECT, scored)
    return Field(
        base=base,
        ids={row.pin: row.id for row in rows},
        outcomes={row.pin: found[row.id] for row in rows},
        pool=tuple(row.pin for row in rows if row.role == "finetune" and _may_be_member(row, base)),
    )


def _may_be_member(row: CandidateRow, base: Base) -> bool:
    """An author denied after scoring stays in the table, not in soups."""
    allow, deny = base.section.allow, base.section.deny
    return row.author not in deny and (not allow or row.author in allow)


def choose(
    field: Field, method: str, previous: SelectionRow | None
) -> tuple[Selection, dict[str, str]]:
    """What `method` chooses, and the categories whose incumbent was held against a noisy lead."""
    clusters = field.base.benchmark.clusters(Split.SELECT)
    pins = {i: pin for pin, i in field.ids.items()}
    if method == "complementary":
        incumbents = [pins[i] for i in previous.members if i in pins] if previous else []
        found = complementary(field.candidates, clusters=clusters, incumbents=incumbents)
        return found, {}
    table = score_table(field.outcomes, field.base)
    fresh = soce(table, candidates=field.pool, tau=field.base.section.tau)
    if previous is None:
        return fresh, {}
    experts = {c: pins[i] for c, i in previous.experts.items() if pins.get(i) in field.pool}
    kept = keep_incumbents(fresh, experts, field.outcomes, clusters=clusters)
    held = {c: pin for c, pin in kept.experts.items() if fresh.experts.get(c) != pin}
    return kept, held


def _figures(chosen: Selection, held: dict[str, str], rival: Selection) -> dict[str, Any]:
    return {
        "correlations": {a: dict(row) for a, row in chosen.correlations.items()},
        "weak_pairs": [list(pair) for pair in chosen.weak_pairs],
        "notes": list(chosen.notes),
        "held": held,
        "rival": {"method": rival.method, "members": list(rival.members)},
        "disagreement": list(disagreement(chosen, rival)),
    }
