"""Read-only reports: what `bot status`, `scores`, `soups`, `drafts` and `explain` show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from db.engine import reading
from db.schema import (
    attempts,
    bases,
    benchmarks,
    candidates,
    events,
    leases,
    looks,
    publications,
    requests,
    scores,
    soup_members,
    soups,
    spending,
    switches,
    trials,
)


@dataclass(frozen=True)
class Score:
    base: str
    model: str
    sha: str
    role: str
    category: str
    value: float
    n: int
    stderr: float


@dataclass(frozen=True)
class Trouble:
    """A step that failed and waits, or is parked."""

    step: str
    state: str
    failures: int
    error: str | None
    not_before: datetime | None


@dataclass(frozen=True)
class RequestLine:
    id: int
    verb: str
    base: str | None
    model: str | None
    state: str
    answer: str | None


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
    scored: int
    mean_seconds: float | None  # of one evaluation, child start included


@dataclass(frozen=True)
class Status:
    coordinator: str | None
    lease_until: datetime | None
    paused: Mapping[str, str]
    bases: tuple[BaseLine, ...]
    running: tuple[str, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class Ingredient:
    model: str
    sha: str
    weight: str


@dataclass(frozen=True)
class Soup:
    base: str
    recipe_digest: str
    state: str
    ingredients: tuple[Ingredient, ...]
    trials: int
    look: int | None
    gain: float | None  # soup minus best member on the report split, a share
    low: float | None
    high: float | None
    published: str | None  # repo@tag
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PublicationLine:
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
    id: int
    at: datetime
    subject: str
    sha: str | None
    kind: str
    text: str
    data: Mapping[str, Any] | None


def category_scores(engine: Engine, base: str | None = None, split: str = "select") -> list[Score]:
    """The category table in long form, by base, model and suite order of categories."""
    query = (
        select(
            bases.c.repo.label("base"),
            candidates.c.repo.label("model"),
            candidates.c.sha,
            candidates.c.role,
            scores.c.category,
            scores.c.value,
            scores.c.n,
            scores.c.stderr,
            benchmarks.c.categories,
        )
        .join(candidates, candidates.c.id == scores.c.candidate_id)
        .join(bases, bases.c.id == candidates.c.base_id)
        .join(benchmarks, benchmarks.c.id == scores.c.benchmark_id)
        .where(scores.c.split == split)
    )
    if base is not None:
        query = query.where(bases.c.repo == base)
    with reading(engine) as connection:
        rows = list(connection.execute(query))
    rows.sort(key=lambda r: (r.base, r.role, r.model, r.sha, r.categories.index(r.category)))
    return [Score(r.base, r.model, r.sha, r.role, r.category, r.value, r.n, r.stderr) for r in rows]


def status(engine: Engine, now: datetime) -> Status:
    with reading(engine) as connection:
        lease = connection.execute(select(leases)).first()
        alive = lease is not None and lease.expires_at > now
        switched = connection.execute(select(switches.c.name, switches.c.why))
        tried = list(connection.execute(select(attempts).order_by(attempts.c.step)))
        known = [row.id for row in connection.execute(select(bases.c.id).order_by(bases.c.id))]
        paused = {row.name: row.why for row in switched}
    return Status(
        coordinator=lease.holder if lease and alive else None,
        lease_until=lease.expires_at if lease and alive else None,
        paused=paused,
        bases=tuple(_base_line(engine, base_id) for base_id in known),
        running=tuple(row.step for row in tried if row.state == "running"),
        troubles=tuple(
            Trouble(row.step, row.state, row.failures, row.error, row.not_before)
            for row in tried
            if row.state != "running"
        ),
    )


def _base_line(engine: Engine, base_id: int) -> BaseLine:
    mine = candidates.c.base_id == base_id
    with reading(engine) as connection:
        base = connection.execute(select(bases).where(bases.c.id == base_id)).one()
        states = connection.execute(
            select(candidates.c.state, func.count()).where(mine).group_by(candidates.c.state)
        )
        reasons = connection.execute(
            select(candidates.c.reason, func.count())
            .where(mine, candidates.c.state == "rejected")
            .group_by(candidates.c.reason)
        )
        timed = connection.execute(
            select(func.count(func.distinct(scores.c.candidate_id)))
            .join(candidates, candidates.c.id == scores.c.candidate_id)
            .where(mine, scores.c.split == "select", candidates.c.state == "admitted")
        ).scalar_one()
        return BaseLine(
            id=base.id,
            repo=base.repo,
            sha=base.sha,
            head=base.head,
            watched_at=base.watched_at,
            states={row[0]: row[1] for row in states},
            reasons={row[0]: row[1] for row in reasons},
            scored=timed,
            mean_seconds=_mean_seconds(connection, base_id),
        )


def _mean_seconds(connection: Connection, base_id: int) -> float | None:
    mine = (spending.c.base_id == base_id, spending.c.verb == "evaluate", spending.c.seconds > 0)
    mean = connection.execute(select(func.avg(spending.c.seconds)).where(*mine)).scalar()
    return None if mean is None else float(mean)


def soup_list(engine: Engine, base: str | None = None) -> list[Soup]:
    """Every soup that was planned, newest first."""
    query = select(soups, bases.c.repo.label("base")).join(bases, bases.c.id == soups.c.base_id)
    if base is not None:
        query = query.where(bases.c.repo == base)
    with reading(engine) as connection:
        rows = list(connection.execute(query.order_by(soups.c.id.desc())))
    return [_soup(engine, row) for row in rows]


def _soup(engine: Engine, row: Any) -> Soup:
    with reading(engine) as connection:
        members = connection.execute(
            select(candidates, soup_members.c.numerator, soup_members.c.denominator)
            .join(soup_members, soup_members.c.candidate_id == candidates.c.id)
            .where(soup_members.c.soup_id == row.id)
            .order_by(soup_members.c.position)
        )
        ingredients = tuple(
            Ingredient(m.repo, m.sha, f"{m.numerator}/{m.denominator}") for m in members
        )
        tried = select(func.count()).where(trials.c.search_id == row.search_id)
        look = select(looks.c.k).where(looks.c.soup_id == row.id)
        shown = select(publications.c.target, publications.c.tag).where(
            publications.c.soup_id == row.id, publications.c.tag.is_not(None)
        )
        published = connection.execute(shown).first()
        best = (row.verdict or {}).get("differences", {}).get("best member", {})
        return Soup(
            base=row.base,
            recipe_digest=row.recipe_digest,
            state=row.state,
            ingredients=ingredients,
            trials=connection.execute(tried).scalar_one(),
            look=connection.execute(look).scalar(),
            gain=best.get("mean"),
            low=best.get("low"),
            high=best.get("high"),
            published=f"{published.target}@{published.tag}" if published else None,
            reasons=tuple((row.verdict or {}).get("reasons", ())),
        )


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
        "soup-planned",
        "soup-built",
        "look",
        "judged",
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


def request_line(engine: Engine, request_id: int) -> RequestLine:
    names = RequestLine.__dataclass_fields__
    with reading(engine) as connection:
        row = connection.execute(select(requests).where(requests.c.id == request_id)).one()
        return RequestLine(**{name: getattr(row, name) for name in names})


def events_after(engine: Engine, last: int) -> list[Event]:
    """Everything recorded since event `last`, oldest first."""
    with reading(engine) as connection:
        rows = connection.execute(select(events).where(events.c.id > last).order_by(events.c.id))
        return [_event(row) for row in rows]


def rejections(engine: Engine) -> dict[str, str]:
    """Rejected repo -> reason code."""
    query = select(candidates.c.repo, candidates.c.reason).where(candidates.c.state == "rejected")
    with reading(engine) as connection:
        return {row.repo: row.reason for row in connection.execute(query.order_by("repo"))}


def _event(row: Any) -> Event:
    return Event(**{name: getattr(row, name) for name in Event.__dataclass_fields__})
