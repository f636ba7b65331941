"""What was asked, decided and published, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from db.engine import reading
from db.schema import events, publications, requests


@dataclass(frozen=True)
class RequestLine:
    """What a person asked for, and how it was answered."""

    id: int
    verb: str
    base: str | None
    model: str | None
    state: str
    answer: str | None


@dataclass(frozen=True)
class PublicationLine:
    """One version in the outbox."""

    id: int
    kind: str
    target: str
    version: int
    state: str
    digest: str
    commit_sha: str | None
    tag: str | None
    folder: str
    error: str | None


@dataclass(frozen=True)
class Event:
    """One line of `bot explain`. Times are UTC."""

    id: int
    at: datetime
    subject: str
    sha: str | None
    kind: str
    text: str
    data: Mapping[str, Any] | None


def request_line(engine: Engine, request_id: int) -> RequestLine:
    """Raises NoResultFound for a number that was never given out."""
    names = RequestLine.__dataclass_fields__
    with reading(engine) as connection:
        row = connection.execute(select(requests).where(requests.c.id == request_id)).one()
        return RequestLine(**{name: getattr(row, name) for name in names})


def publication_list(engine: Engine, *states: str) -> list[PublicationLine]:
    """Publications in one of `states` (all when none is given), oldest first."""
    query = select(publications).order_by(publications.c.id)
    if states:
        query = query.where(publications.c.state.in_(states))
    names = PublicationLine.__dataclass_fields__
    with reading(engine) as connection:
        rows = connection.execute(query)
        return [PublicationLine(**{name: getattr(row, name) for name in names}) for row in rows]


DECISIONS = {
    "soup": (
        "selected",
        "search-opened",
        "searched",
        "member-lost",
        "soup-planned",
        "soup-built",
        "look",
        "judged",
        "reopened",
    ),
    "router": ("calibrated",),
}
"""Kinds of events that tell, under the base's name, how what is published there came about."""


def events_of(
    engine: Engine, subject: str, limit: int = 500, *, base: str | None = None, kind: str = "soup"
) -> list[Event]:
    """What was decided about a repository, oldest first.

    base: where `subject` is what the bot publishes (a `kind` of `DECISIONS`) for this base, the
    decisions that led there, or ended before, are told too.
    """
    mine = events.c.subject == subject
    if base is not None:
        mine |= (events.c.subject == base) & events.c.kind.in_(DECISIONS[kind])
    query = select(events).where(mine).order_by(events.c.id.desc())
    with reading(engine) as connection:
        found = [_event(row) for row in connection.execute(query.limit(limit))]
    return found[::-1]


def events_after(engine: Engine, last: int) -> list[Event]:
    """Everything recorded since event `last`, oldest first."""
    with reading(engine) as connection:
        rows = connection.execute(select(events).where(events.c.id > last).order_by(events.c.id))
        return [_event(row) for row in rows]


def _event(row: Any) -> Event:
    return Event(**{name: getattr(row, name) for name in Event.__dataclass_fields__})
