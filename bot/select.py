"""Select: who is the expert of which category, from select items alone.

Two methods are always computed: SoCE's (`merge.select`) and selection by what members add on
single items (`merge.complement`). The settings name the one that decides; `auto` leaves it to the
number of models that correlations can be taken over. Where the two differ is stored, told and
printed on the card.

An incumbent expert keeps its place until the paired difference on select items clears its noise:
two random halves of a benchmark's items disagree on the expert in 41 to 72 % of categories when
the pool has 5 to 20 models (recomputed from the BFCL v1 item scores of 2024-08-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bot.order import is_welcome
from bot.steps import Step
from bot.table import outcomes_of, score_table
from bot.world import Base, World
from db import outcomes as o
from db.rows import CandidateRow, SelectionRow, SketchRow
from merge.outcomes import Outcomes
from merge.reliability import explain
from merge.select import (
    Method,
    Selection,
    complementary,
    default_method,
    disagreement,
    keep_incumbents,
    relative_distance,
    soce,
)
from merge.splits import Split

MOST_MEMBERS = 16
"""Each is a dimension of the search, and a model in memory."""


@dataclass(frozen=True)
class Pool:
    """Everybody who was scored, by pin; `eligible` are those who may become members, `places` says
    where they lie in weight space."""

    base: Base
    ids: Mapping[str, int]
    outcomes: Mapping[str, Outcomes]
    eligible: tuple[str, ...]
    places: Mapping[int, SketchRow]

    @property
    def candidates(self) -> dict[str, Outcomes]:
        return {pin: self.outcomes[pin] for pin in self.eligible}

    @property
    def clusters(self) -> dict[str, list[str]]:
        return self.base.benchmark.clusters(Split.SELECT)

    def distance(self, one: str, other: str) -> float:
        """Relative weight distance of two candidates; infinite where one was never examined."""
        a, b = self.places.get(self.ids[one]), self.places.get(self.ids[other])
        if a is None or b is None:
            return float("inf")
        cosine = sum(x * y for x, y in zip(a.sketch, b.sketch, strict=True))
        return relative_distance(cosine, a.delta_norm, b.delta_norm)


@dataclass(frozen=True)
class Choice:
    """What one method chose; `held` are the categories whose incumbent was kept against a noisy
    lead."""

    selection: Selection
    held: Mapping[str, str]


def select(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    categories = len(base.benchmark.categories)
    scored = world.reader.facts(base.id, base.benchmark.id, categories, world.now()).scored
    pool = _pool(world, base, scored)
    method = method_for(base, len(scored))
    if not pool.eligible:
        yield from _nobody(base, method, scored)
        return
    previous = world.reader.last_selection(base.id, base.benchmark.id)
    choices = {
        Method.SOCE: _by_correlations(pool, previous),
        Method.COMPLEMENTARY: _by_items(pool, previous),
    }
    (rival,) = (choice for name, choice in choices.items() if name is not method)
    chosen = choices[method].selection
    yield o.Selected(
        base_id=base.id,
        benchmark_id=base.benchmark.id,
        method=chosen.method,
        inputs=scored,
        experts={category: pool.ids[pin] for category, pin in chosen.experts.items()},
        members=tuple(pool.ids[pin] for pin in chosen.members),
        figures=_figures(choices, choices[method], rival.selection, pool),
    )
    if len(chosen.members) < 2:
        text = " ".join(("fewer than two members: there is nothing to average.", *chosen.notes))
        yield o.Noted(base.id, base.repo, "no-soup", text)


def _nobody(base: Base, method: Method, scored: Sequence[int]) -> Iterator[o.Outcome]:
    """That nobody may be chosen is a choice too: it stands until there are others."""
    note = "none of the scored models is of an author that `allow` and `deny` let into a soup"
    yield o.Selected(
        base_id=base.id,
        benchmark_id=base.benchmark.id,
        method=str(method),
        inputs=tuple(scored),
        experts={},
        members=(),
        figures={"notes": [note]},
    )
    yield o.Noted(base.id, base.repo, "no-soup", f"{note}: there is nothing to average.")


def method_for(base: Base, n_models: int) -> Method:
    """The configured one; `auto` follows the number of scored models."""
    configured = base.section.method
    return default_method(n_models) if configured == "auto" else Method(configured)


def _pool(world: World, base: Base, scored: Sequence[int]) -> Pool:
    """The base takes part in the correlations; experts are fine-tunes."""
    rows = world.reader.candidates(scored)
    found = outcomes_of(world, base, Split.SELECT, scored)
    return Pool(
        base=base,
        ids={row.pin: row.id for row in rows},
        outcomes={row.pin: found[row.id] for row in rows},
        eligible=tuple(
            row.pin for row in rows if row.role == "finetune" and _may_be_member(row, base)
        ),
        places=world.reader.places(scored),
    )


def _may_be_member(row: CandidateRow, base: Base) -> bool:
    """An author denied after scoring stays in the table, not in soups."""
    return is_welcome(row.author, base.section.allow, base.section.deny)


def _by_correlations(pool: Pool, previous: SelectionRow | None) -> Choice:
    """SoCE's experts. The incumbents are those in force, whichever method chose them."""
    tau, clusters = pool.base.section.tau, pool.clusters
    fresh = soce(score_table(pool.outcomes, pool.base), candidates=pool.eligible, tau=tau)
    noise = explain(fresh, pool.outcomes, clusters=clusters, tau=tau)
    fresh = replace(fresh, notes=(*fresh.notes, *noise)).limited(MOST_MEMBERS)
    if previous is None:
        return Choice(fresh, {})
    pins = {i: pin for pin, i in pool.ids.items()}
    experts = {c: pins[i] for c, i in previous.experts.items() if pins.get(i) in pool.eligible}
    kept = keep_incumbents(fresh, experts, pool.outcomes, clusters=clusters).limited(MOST_MEMBERS)
    return Choice(kept, {c: m for c, m in kept.experts.items() if fresh.experts.get(c) != m})


def _by_items(pool: Pool, previous: SelectionRow | None) -> Choice:
    pins = {i: pin for pin, i in pool.ids.items()}
    section = pool.base.section
    found = complementary(
        pool.candidates,
        clusters=pool.clusters,
        distance=pool.distance,
        incumbents=[pins[i] for i in previous.members if i in pins] if previous else [],
        importance=section.category_weights or None,
    )
    return Choice(found, {})


def _figures(
    choices: Mapping[Method, Choice], chosen: Choice, rival: Selection, pool: Pool
) -> dict[str, Any]:
    """Correlations are kept whoever decided; names that `bot explain` prints are pins."""
    printed = choices[Method.SOCE].selection
    return {
        "correlations": {a: dict(row) for a, row in printed.correlations.items()},
        "weak_pairs": [list(pair) for pair in printed.weak_pairs],
        "notes": list(chosen.selection.notes),
        "held": dict(chosen.held),
        "rival": {
            "method": rival.method,
            "members": [pool.ids[pin] for pin in rival.members],
            "notes": list(rival.notes),
        },
        "disagreement": list(disagreement(chosen.selection, rival)),
    }
