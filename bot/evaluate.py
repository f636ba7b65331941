"""Evaluate: fetch a candidate's tensors, look at them once in a child, score them on select items.

Only the select split is touched here. Tune items belong to the search, report items to the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bot.admission import judge_health
from bot.children import Meter, child
from bot.errors import Broken, Gone, Rejected, Transient
from bot.ground import ours, unusable
from bot.reasons import Reason
from bot.steps import Step
from bot.worker.jobs import Evaluate, Examine
from bot.world import Base, World
from db import outcomes as o
from db.rows import CandidateRow
from merge.splits import Split


def evaluate(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    candidate = world.reader.candidate(step.subject)
    meter = Meter(base, step)
    try:
        weights, volume = world.shelf.weights(candidate)
        yield o.Spent(base.id, step.verb, bytes=volume)
        if candidate.fingerprint is None:
            yield from _examine(world, base, candidate, weights)
        with ours(candidate):
            world.shelf.trusted(base.section)
        yield from score(world, base, Split.SELECT, weights, candidate_id=candidate.id)
    except Gone as error:
        if candidate.role == "base":
            raise unusable(candidate, error) from error
        yield o.Withdrawn(candidate.id, str(error))
    except Rejected as error:
        _require_sound_ground(world, base, candidate, error)
        yield o.Rejected(candidate.id, str(error.code), error.told)
    yield meter.spent()


def _require_sound_ground(
    world: World, base: Base, candidate: CandidateRow, error: Rejected
) -> None:
    """A child refuses what it cannot read, whosever it is: a candidate's tensors, or the base's
    and the configuration that it reads beside them. Whether it was these is known once the base
    itself has come through."""
    if candidate.role == "base":
        raise unusable(candidate, error) from error
    reference = world.reader.base_candidate(base.id)
    if _missing(world, base, Split.SELECT, reference.id, None):
        raise Transient(f"{candidate.pin} before its base has scores: {error}") from error


def score(
    world: World,
    base: Base,
    split: Split,
    weights: Path,
    *,
    candidate_id: int | None = None,
    soup_id: int | None = None,
) -> Iterator[o.Outcome]:
    """Score what is missing of one subject on one split, in a fresh child, category by category."""
    missing = _missing(world, base, split, candidate_id, soup_id)
    if not missing:
        return
    benchmark = base.benchmark
    job = Evaluate(
        weights=weights,
        config=world.shelf.trusted(base.section),
        suite=benchmark.location,
        seed=base.section.seed,
        shares=base.section.shares,
        split=str(split),
        categories=missing,
    )
    with child(world.executor, job) as running:
        for line in running.lines():
            yield o.Scored(
                benchmark_id=benchmark.id,
                split=str(split),
                candidate_id=candidate_id,
                soup_id=soup_id,
                **_checked(line, base, split),
            )


def _missing(
    world: World, base: Base, split: Split, candidate_id: int | None, soup_id: int | None
) -> tuple[str, ...]:
    rows = world.reader.scores(
        base.benchmark.id,
        str(split),
        candidates=[candidate_id] if candidate_id is not None else [],
        soups=[soup_id] if soup_id is not None else [],
    )
    done = {row.category for row in rows}
    return tuple(category for category in base.benchmark.categories if category not in done)


def _checked(line: Mapping[str, Any], base: Base, split: Split) -> dict[str, Any]:
    """A child's answer is data of unknown quality: its bits decide, everything else follows."""
    category, bits = str(line.get("category")), str(line.get("outcomes"))
    expected = base.benchmark.sizes(split).get(category)
    if expected is None or len(bits) != expected or set(bits) - {"0", "1"}:
        raise Broken(f"{len(bits)} outcomes for {expected} items of {category!r}")
    n, right = len(bits), bits.count("1")
    value = right / n
    stderr = (value * (1 - value) / (n - 1)) ** 0.5 if n > 1 else 0.0
    return {"category": category, "value": value, "n": n, "stderr": stderr, "outcomes": bits}


def _examine(
    world: World, base: Base, candidate: CandidateRow, weights: Path
) -> Iterator[o.Outcome]:
    """Read every tensor once: finite, norms near the base's, not known under another name."""
    with ours(candidate):
        reference, _ = world.shelf.weights(world.reader.base_candidate(base.id))
    with child(world.executor, Examine(weights, reference)) as running:
        health: dict[str, Any] = running.receive()
    if candidate.role != "base":
        known_sketches = world.reader.known_sketches(base.id, other_than=candidate.repo)
        refused = judge_health(health, known_sketches)
        if refused is not None:
            raise refused
        known = world.reader.known_fingerprints(base.id).get(str(health["fingerprint"]))
        if known is not None and known != candidate.pin:
            raise Rejected(Reason.DUPLICATE, known, "the same tensors under another name")
    sketch = tuple(health.pop("sketch"))
    yield o.Examined(candidate.id, str(health["fingerprint"]), sketch, health)
