"""The entry that each recorder registers with, and what they share: rows and events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import singledispatch
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from db import outcomes as o
from db.schema import bases, events


@singledispatch
def record(outcome: o.Outcome, connection: Connection, now: datetime) -> bool:
    """Keep `outcome`; whether it was news. The caller owns the transaction, and has checked the
    fence in it.
    """
    raise TypeError(f"no way to record {type(outcome).__name__}")


def insert_once(
    connection: Connection, table: Table, key: Mapping[str, Any], **values: Any
) -> bool:
    """True when the row was new. We are the only writer inside the transaction, so looking first is
    enough.
    """
    where = [
        table.c[name].is_(None) if v is None else table.c[name] == v for name, v in key.items()
    ]
    if connection.execute(select(1).select_from(table).where(*where)).first():
        return False
    connection.execute(insert(table).values(**key, **values))
    return True


def change(connection: Connection, table: Table, row: Any, **values: Any) -> bool:
    """Whether `row` did not hold these values yet; it does now."""
    if all(same(getattr(row, name), value) for name, value in values.items()):
        return False
    connection.execute(update(table).where(table.c.id == row.id).values(**values))
    return True


def same(stored: Any, value: Any) -> bool:
    """Equal, or equal as JSON: a stored tuple comes back as a list."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(stored, sort_keys=True) == json.dumps(value, sort_keys=True)
    return bool(stored == value)


def fetch(connection: Connection, table: Table, key: int | None) -> Any:
    return connection.execute(select(table).where(table.c.id == key)).one()


def fetch_all(connection: Connection, table: Table, ids: tuple[int, ...]) -> list[Any]:
    return list(connection.execute(select(table).where(table.c.id.in_(ids))))


def tell_candidate(
    connection: Connection,
    now: datetime,
    row: Any,
    kind: str,
    text: str,
    data: Mapping[str, Any] | None = None,
) -> bool:
    return tell(connection, now, row.base_id, row.repo, row.sha, kind, text, data)


def tell_base(
    connection: Connection,
    now: datetime,
    base_id: int,
    kind: str,
    text: str,
    data: Mapping[str, Any] | None = None,
) -> bool:
    repo = fetch(connection, bases, base_id).repo
    return tell(connection, now, base_id, repo, None, kind, text, data)


def tell(
    connection: Connection,
    now: datetime,
    base_id: int | None,
    subject: str,
    sha: str | None,
    kind: str,
    text: str,
    data: Mapping[str, Any] | None = None,
) -> bool:
    """An event for `bot explain`. True, so that it ends a recorder that had news."""
    values = {"at": now, "base_id": base_id, "subject": subject, "sha": sha, "kind": kind}
    connection.execute(
        insert(events).values(**values, text=text, data=dict(data) if data else None)
    )
    return True
