"""What is seen, decided and measured of candidates; what it cost; notes and switches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from db import outcomes as o
from db.record.rows import (
    change,
    fetch,
    insert_once,
    record,
    tell,
    tell_base,
    tell_candidate,
)
from db.schema import (
    bases,
    candidates,
    events,
    scores,
    soups,
    spending,
    switches,
)


@record.register
def _(outcome: o.Sighted, connection: Connection, now: datetime) -> bool:
    key = {"base_id": outcome.base_id, "repo": outcome.repo, "sha": outcome.sha}
    about = (connection, now, outcome.base_id, outcome.repo, outcome.sha, "sighted")
    if insert_once(
        connection,
        candidates,
        key,
        author=outcome.author,
        hub_created_at=outcome.created_at,
        hub_modified_at=outcome.modified_at,
        likes=outcome.likes,
        downloads=outcome.downloads,
        seen_at=now,
    ):
        tell(*about, "seen on the Hub")
        return True
    _count_again(outcome, connection, key)
    return outcome.again and _look_again(connection, key) and tell(*about, "looked at again")


def _count_again(outcome: o.Sighted, connection: Connection, key: Mapping[str, Any]) -> None:
    """What people make of it decides who is next; it is no news about the repository."""
    counts = {"likes": outcome.likes, "downloads": outcome.downloads}
    connection.execute(update(candidates).filter_by(**key).values(**counts))


def _look_again(connection: Connection, key: Mapping[str, Any]) -> bool:
    refused = candidates.c.state.in_(("rejected", "withdrawn"))
    changed = connection.execute(
        update(candidates)
        .filter_by(**key)
        .where(refused)
        .values(state="sighted", reason=None, detail=None, decided_at=None)
    )
    return changed.rowcount > 0


@record.register
def _(outcome: o.Watched, connection: Connection, now: datetime) -> bool:
    row = fetch(connection, bases, outcome.base_id)
    values: dict[str, Any] = {"watched_at": now}
    if outcome.head is not None:
        values["head"] = outcome.head
    if outcome.newest_created_at is not None:
        values["newest_created_at"] = outcome.newest_created_at
    if outcome.swept:
        values["swept_at"] = now
    if outcome.head not in (None, row.sha, row.head):
        text = f"the base moved to {outcome.head}; it stays pinned at {row.sha}"
        tell(connection, now, row.id, row.repo, outcome.head, "base-moved", text)
    return change(connection, bases, row, **values)


@record.register
def _(outcome: o.Admitted, connection: Connection, now: datetime) -> bool:
    text = f"admitted: licence {outcome.licence or 'none'}, {outcome.bytes:,} bytes of weights"
    return _decide(
        connection,
        now,
        outcome.candidate_id,
        text,
        state="admitted",
        licence=outcome.licence,
        bytes=outcome.bytes,
        weights_digest=outcome.weights_digest,
        publishable=outcome.publishable,
        files=[list(file) for file in outcome.files],
        languages=list(outcome.languages),
        not_for_all_audiences=outcome.not_for_all_audiences,
    )


@record.register
def _(outcome: o.Rejected, connection: Connection, now: datetime) -> bool:
    text = f"rejected ({outcome.code}): {outcome.detail}"
    values = {"state": "rejected", "reason": outcome.code, "detail": outcome.detail}
    return _decide(connection, now, outcome.candidate_id, text, **values)


@record.register
def _(outcome: o.Withdrawn, connection: Connection, now: datetime) -> bool:
    text = f"withdrawn: {outcome.detail}"
    values = {"state": "withdrawn", "detail": outcome.detail}
    return _decide(connection, now, outcome.candidate_id, text, **values)


@record.register
def _(outcome: o.Examined, connection: Connection, now: datetime) -> bool:
    row = fetch(connection, candidates, outcome.candidate_id)
    place = {"sketch": list(outcome.sketch), "delta_norm": outcome.health.get("delta_norm")}
    if not change(connection, candidates, row, fingerprint=outcome.fingerprint, **place):
        return False
    text = "weights read through: finite, norms like the base's"
    return tell_candidate(connection, now, row, "examined", text, outcome.health)


@record.register
def _(outcome: o.Scored, connection: Connection, now: datetime) -> bool:
    key = {
        "candidate_id": outcome.candidate_id,
        "soup_id": outcome.soup_id,
        "benchmark_id": outcome.benchmark_id,
        "split": outcome.split,
        "category": outcome.category,
    }
    if not insert_once(
        connection,
        scores,
        key,
        value=outcome.value,
        n=outcome.n,
        stderr=outcome.stderr,
        outcomes=outcome.outcomes,
        created_at=now,
    ):
        return False
    value, stderr = 100 * outcome.value, 100 * outcome.stderr
    items = f"{outcome.n} {outcome.split} items"
    text = f"{outcome.category}: {value:.1f} ± {stderr:.1f} percent of {items}"
    if outcome.soup_id is not None:
        soup = fetch(connection, soups, outcome.soup_id)
        text = f"soup {soup.recipe_digest[:12]}, {text}"
        return tell_base(connection, now, soup.base_id, "scored", text)
    row = fetch(connection, candidates, outcome.candidate_id)
    return tell_candidate(connection, now, row, "scored", text)


@record.register
def _(outcome: o.Spent, connection: Connection, now: datetime) -> bool:
    key = {"base_id": outcome.base_id, "at": now, "verb": outcome.verb}
    spent = {"seconds": outcome.seconds, "bytes": outcome.bytes}
    return insert_once(connection, spending, {**key, **spent})


def _decide(
    connection: Connection, now: datetime, candidate_id: int, text: str, **values: Any
) -> bool:
    row = fetch(connection, candidates, candidate_id)
    values = {"reason": None, "detail": None, **values}
    if not change(connection, candidates, row, **values):
        return False
    change(connection, candidates, row, decided_at=now)
    return tell_candidate(connection, now, row, values["state"], text)


@record.register
def _(outcome: o.Noted, connection: Connection, now: datetime) -> bool:
    """The same note twice in a row about a subject is one note."""
    query = select(events).filter_by(subject=outcome.subject, kind=outcome.kind)
    last = connection.execute(query.order_by(events.c.id.desc()).limit(1)).first()
    if last is not None and (last.text, last.data or {}) == (outcome.text, dict(outcome.data)):
        return False
    args = (outcome.base_id, outcome.subject, None, outcome.kind, outcome.text, outcome.data)
    return tell(connection, now, *args)


@record.register
def _(outcome: o.Paused, connection: Connection, now: datetime) -> bool:
    new = insert_once(connection, switches, {"name": outcome.name}, why=outcome.why, since=now)
    return new and tell(connection, now, None, outcome.name, None, "paused", outcome.why)
