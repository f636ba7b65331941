"""The outbox: drafts and how far each has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from db import outcomes as o
from db.record.rows import (
    change,
    fetch,
    insert_once,
    record,
    tell,
)
from db.schema import (
    publications,
)


@record.register
def _(outcome: o.Drafted, connection: Connection, now: datetime) -> bool:
    key = {"kind": outcome.kind, "target": outcome.target, "digest": outcome.digest}
    new = insert_once(
        connection,
        publications,
        key,
        base_id=outcome.base_id,
        version=outcome.version,
        soup_id=outcome.soup_id,
        router_id=outcome.router_id,
        state=outcome.state,
        folder=outcome.folder,
        files={path: dict(digest) for path, digest in outcome.files.items()},
        public=outcome.public,
        created_at=now,
    )
    text = f"version {outcome.version} of the {outcome.kind} drafted ({outcome.state})"
    args = (connection, now, outcome.base_id, outcome.target, None, "drafted", text)
    return new and tell(*args)


@record.register
def _(outcome: o.Moved, connection: Connection, now: datetime) -> bool:
    row = fetch(connection, publications, outcome.publication_id)
    given = {name: getattr(outcome, name) for name in ("parent", "commit_sha", "tag", "error")}
    values = {name: value for name, value in given.items() if value is not None}
    if outcome.state not in ("blocked", "dropped"):
        values["error"] = None  # what stood in the way before does so no longer
    if not change(connection, publications, row, state=outcome.state, **values):
        return False
    if outcome.state == "unknown":
        change(connection, publications, row, sent_at=now)
    if outcome.state == "verified":
        change(connection, publications, row, verified_at=now)
        _drop_older(connection, now, row)
    if row.state != outcome.state:
        _tell_publication(connection, now, row, outcome)
    return True


def _drop_older(connection: Connection, now: datetime, newer: Any) -> None:
    """What was not sent before a newer version must not be sent after it."""
    open_states = ("draft", "approved", "unknown", "blocked")
    query = select(publications).filter_by(target=newer.target)
    older = query.where(
        publications.c.version < newer.version, publications.c.state.in_(open_states)
    )
    for row in connection.execute(older).all():
        why = f"overtaken by version {newer.version}"
        record(o.Moved(row.id, "dropped", error=why), connection, now)


def _tell_publication(connection: Connection, now: datetime, row: Any, moved: o.Moved) -> None:
    text = f"version {row.version}: {moved.state}" + (f" ({moved.error})" if moved.error else "")
    sha = moved.commit_sha or row.commit_sha
    kind = f"publication-{moved.state}"
    tell(connection, now, row.base_id, row.target, sha, kind, text)
