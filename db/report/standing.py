"""Where the daemon and each base stand now: what `bot status` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from db.engine import reading
from db.planning import fully_scored, open_candidates
from db.schema import attempts, bases, benchmarks, candidates, leases, spending, switches


@dataclass(frozen=True)
class Trouble:
    """A step that failed and waits, or is parked."""

    step: str
    state: str
    failures: int
    error: str | None
    not_before: datetime | None


@dataclass(frozen=True)
class BaseLine:
    """Where one base stands. Times are UTC."""

    id: int
    repo: str
    sha: str
    head: str | None
    watched_at: datetime | None
    states: Mapping[str, int]  # candidates by state
    reasons: Mapping[str, int]  # rejected candidates by reason
    scored: int  # in every category of the benchmark in force
    backlog: int  # fine-tunes that are not, nor refused, each at its newest sha
    mean_seconds: float | None  # of one evaluation, child start included


@dataclass(frozen=True)
class Status:
    """Who is at work, and what is paused, running or in trouble."""

    coordinator: str | None
    lease_until: datetime | None
    paused: Mapping[str, str]
    bases: tuple[BaseLine, ...]
    running: tuple[str, ...]
    troubles: tuple[Trouble, ...]


def status(engine: Engine, now: datetime) -> Status:
    """The whole installation at one moment; `now` tells whether the lease has run out."""
    with reading(engine) as connection:
        lease = connection.execute(select(leases)).first()
        alive = lease is not None and lease.expires_at > now
        switched = connection.execute(select(switches.c.name, switches.c.why))
        tried = list(connection.execute(select(attempts).order_by(attempts.c.step)))
        known = list(connection.execute(select(bases).order_by(bases.c.id)))
        return Status(
            coordinator=lease.holder if lease and alive else None,
            lease_until=lease.expires_at if lease and alive else None,
            paused={row.name: row.why for row in switched},
            bases=tuple(_base_line(connection, base) for base in known),
            running=tuple(row.step for row in tried if row.state == "running"),
            troubles=tuple(
                Trouble(row.step, row.state, row.failures, row.error, row.not_before)
                for row in tried
                if row.state != "running"
            ),
        )


def _base_line(connection: Connection, base: Row[Any]) -> BaseLine:
    mine = candidates.c.base_id == base.id
    states = connection.execute(
        select(candidates.c.state, func.count()).where(mine).group_by(candidates.c.state)
    )
    reasons = connection.execute(
        select(candidates.c.reason, func.count())
        .where(mine, candidates.c.state == "rejected")
        .group_by(candidates.c.reason)
    )
    scored = _scored(connection, base)
    waiting = open_candidates(connection, base.id, scored)
    return BaseLine(
        id=base.id,
        repo=base.repo,
        sha=base.sha,
        head=base.head,
        watched_at=base.watched_at,
        states={row[0]: row[1] for row in states},
        reasons={row[0]: row[1] for row in reasons},
        scored=len(scored),
        backlog=sum(one.role != "base" for one in waiting),
        mean_seconds=_mean_seconds(connection, base.id),
    )


def _scored(connection: Connection, base: Row[Any]) -> set[int]:
    """Ids with a full row of scores under the benchmark that judges the base now."""
    query = select(benchmarks.c.categories).where(benchmarks.c.id == base.benchmark_id)
    categories = connection.execute(query).scalar()
    if categories is None:
        return set()
    full = fully_scored(connection, base.id, base.benchmark_id, len(categories))
    return {row.id for row in full}


def _mean_seconds(connection: Connection, base_id: int) -> float | None:
    mine = (spending.c.base_id == base_id, spending.c.verb == "evaluate", spending.c.seconds > 0)
    mean = connection.execute(select(func.avg(spending.c.seconds)).where(*mine)).scalar()
    return None if mean is None else float(mean)
