"""Experts, searches, soups, verdicts and routers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select

from db import outcomes as o
from db.record.rows import (
    change,
    fetch,
    fetch_all,
    insert_once,
    record,
    same,
    tell_base,
    tell_candidate,
)
from db.schema import (
    candidates,
    looks,
    publications,
    routers,
    searches,
    selections,
    soup_members,
    soups,
    trials,
)


@record.register
def _(outcome: o.Selected, connection: Connection, now: datetime) -> bool:
    """The same choice as last time is remembered as made again, not as another one."""
    of_base = select(selections).filter_by(
        base_id=outcome.base_id, benchmark_id=outcome.benchmark_id
    )
    last = connection.execute(of_base.order_by(selections.c.id.desc()).limit(1)).first()
    choice = {
        "method": outcome.method,
        "inputs": list(outcome.inputs),
        "experts": dict(outcome.experts),
        "members": list(outcome.members),
        "figures": dict(outcome.figures),
    }
    if last is not None and all(same(getattr(last, name), value) for name, value in choice.items()):
        return change(connection, selections, last, created_at=now)
    ids = {"base_id": outcome.base_id, "benchmark_id": outcome.benchmark_id}
    connection.execute(insert(selections).values(**ids, **choice, created_at=now))
    _tell_experts(connection, now, outcome, dict(last.experts) if last else {})
    names = {row.id: row.repo for row in fetch_all(connection, candidates, outcome.members)}
    text = f"{outcome.method} chose " + (", ".join(names[i] for i in outcome.members) or "nobody")
    notes = (*outcome.figures.get("disagreement", ()), *outcome.figures.get("notes", ()))
    text = "; ".join([text, *notes])
    data = {"experts": dict(outcome.experts)}
    return tell_base(connection, now, outcome.base_id, "selected", text, data)


def _tell_experts(
    connection: Connection, now: datetime, outcome: o.Selected, before: Mapping[str, int]
) -> None:
    """Each candidate learns what it became an expert of, or is one no longer."""
    concerned = tuple({*outcome.experts.values(), *before.values()})
    for row in sorted(fetch_all(connection, candidates, concerned), key=lambda row: row.id):
        now_of = [c for c, i in outcome.experts.items() if i == row.id]
        if now_of != [c for c, i in before.items() if i == row.id]:
            text = f"expert of {', '.join(now_of)}" if now_of else "no longer an expert"
            tell_candidate(connection, now, row, "expert", f"{text} ({outcome.method})")


@record.register
def _(outcome: o.SearchOpened, connection: Connection, now: datetime) -> bool:
    new = insert_once(
        connection,
        searches,
        {"selection_id": outcome.selection_id},
        base_id=outcome.base_id,
        benchmark_id=outcome.benchmark_id,
        strategy=outcome.strategy,
        members=list(outcome.members),
        created_at=now,
    )
    text = f"{outcome.strategy} search over {len(outcome.members)} experts"
    return new and tell_base(connection, now, outcome.base_id, "search-opened", text)


@record.register
def _(outcome: o.Tried, connection: Connection, now: datetime) -> bool:
    key = {
        "search_id": outcome.search_id,
        "split": outcome.split,
        "weights": outcome.weights,
    }
    values = {"outcomes": dict(outcome.outcomes), "created_at": now}
    if insert_once(connection, trials, key, **values):
        return True
    row = connection.execute(select(trials).filter_by(**key)).one()
    together = {c: _both(bits, outcome.outcomes[c]) for c, bits in row.outcomes.items()}
    return change(connection, trials, row, outcomes=together)


def _both(kept: str, new: str) -> str:
    """Items answered in either; what was kept stays."""
    return "".join(b if a == "-" else a for a, b in zip(kept, new, strict=True))


@record.register
def _(outcome: o.Searched, connection: Connection, now: datetime) -> bool:
    row = fetch(connection, searches, outcome.search_id)
    if row.state == "done":
        return False
    change(connection, searches, row, state="done", best=dict(outcome.best), finished_at=now)
    text = f"search over: {outcome.best['trials']} soups tried, best {outcome.best['weights']}"
    return tell_base(connection, now, row.base_id, "searched", text, outcome.best)


@record.register
def _(outcome: o.SoupPlanned, connection: Connection, now: datetime) -> bool:
    key = {
        "base_id": outcome.base_id,
        "recipe_digest": outcome.recipe_digest,
        "benchmark_id": outcome.benchmark_id,
    }
    values = {"search_id": outcome.search_id, "recipe": outcome.recipe}
    new = insert_once(connection, soups, key, **values, created_at=now)
    row = connection.execute(select(soups).filter_by(**key)).one()
    if not new:
        # Found again by a later search before it was judged: it goes on as that search's soup.
        unjudged = row.state in ("planned", "built")
        return unjudged and change(connection, soups, row, search_id=outcome.search_id)
    soup = f"soup {outcome.recipe_digest[:12]}"
    for position, (candidate_id, numerator, denominator) in enumerate(outcome.members):
        member = {"soup_id": row.id, "candidate_id": candidate_id, "position": position}
        weight = {"numerator": numerator, "denominator": denominator}
        connection.execute(insert(soup_members).values(**member, **weight))
        candidate = fetch(connection, candidates, candidate_id)
        text = f"has weight {numerator}/{denominator} in {soup}"
        tell_candidate(connection, now, candidate, "in-soup", text)
    return tell_base(connection, now, outcome.base_id, "soup-planned", f"{soup} planned")


@record.register
def _(outcome: o.SoupBuilt, connection: Connection, now: datetime) -> bool:
    """The files that a verdict is about stay as they were."""
    row = fetch(connection, soups, outcome.soup_id)
    files = {path: dict(digest) for path, digest in outcome.files.items()}
    judged = row.state in ("passed", "failed")
    if judged or not change(connection, soups, row, state="built", files=files):
        return False
    text = f"soup {row.recipe_digest[:12]} written"
    return tell_base(connection, now, row.base_id, "soup-built", text)


@record.register
def _(outcome: o.LookTaken, connection: Connection, now: datetime) -> bool:
    key = {"soup_id": outcome.soup_id, "splits_digest": outcome.splits_digest}
    values = {"base_id": outcome.base_id, "k": outcome.k, "level": outcome.level}
    new = insert_once(connection, looks, key, created_at=now, **values)
    text = f"look {outcome.k} at the report split, level {outcome.level:.4f}"
    return new and tell_base(connection, now, outcome.base_id, "look", text)


@record.register
def _(outcome: o.Judged, connection: Connection, now: datetime) -> bool:
    """The first verdict stands, unless it was reopened: its look is spent."""
    row = fetch(connection, soups, outcome.soup_id)
    if row.state in ("passed", "failed"):
        return False
    state = "passed" if outcome.passed else "failed"
    change(connection, soups, row, state=state, verdict=dict(outcome.verdict), judged_at=now)
    text = f"soup {row.recipe_digest[:12]}: {outcome.text}"
    return tell_base(connection, now, row.base_id, "judged", text, outcome.verdict)


@record.register
def _(outcome: o.Reopened, connection: Connection, now: datetime) -> bool:
    """What was drafted under a verdict keeps it."""
    row = fetch(connection, soups, outcome.soup_id)
    drafted = select(publications.c.id).where(publications.c.soup_id == row.id)
    if row.state not in ("passed", "failed") or connection.execute(drafted).first():
        return False
    change(connection, soups, row, state="built", verdict=None, judged_at=None)
    text = f"soup {row.recipe_digest[:12]} is judged again: {outcome.why}"
    return tell_base(connection, now, row.base_id, "reopened", text)


@record.register
def _(outcome: o.Calibrated, connection: Connection, now: datetime) -> bool:
    new = insert_once(
        connection,
        routers,
        {"base_id": outcome.base_id, "pair_digest": outcome.pair_digest},
        base=outcome.base,
        aligned=outcome.aligned,
        config_digest=outcome.config_digest,
        config=outcome.config,
        created_at=now,
    )
    text = f"router calibrated for {outcome.base} and {outcome.aligned}"
    return new and tell_base(connection, now, outcome.base_id, "calibrated", text)
