"""Facts for the planner, read from the tables: only what is open, so that the cost of a look does
not grow with history.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from db.facts import (
    Attempt,
    BaseFacts,
    Candidate,
    Publication,
    Request,
    Router,
    Search,
    Selection,
    Soup,
)
from db.schema import (
    attempts,
    bases,
    candidates,
    publications,
    requests,
    routers,
    scores,
    searches,
    selections,
    soups,
    spending,
    switches,
)


def load_facts(
    connection: Connection, base_id: int, benchmark_id: int, categories: int, now: datetime
) -> BaseFacts:
    """The open facts of one base, judged by one benchmark of so many categories."""
    base = connection.execute(select(bases).where(bases.c.id == base_id)).one()
    complete = fully_scored(connection, base_id, benchmark_id, categories)
    selection = _latest_selection(connection, base_id, benchmark_id)
    search = _latest_search(connection, base_id, benchmark_id)
    scored = newest_of_each_repo(complete)
    seen = set(selection.inputs) if selection else set()
    unselected = [row.finished for row in complete if row.id in set(scored) - seen]
    passed = _passed(connection, base_id, benchmark_id)
    router = _latest_router(connection, base_id)
    seconds, volume = _spent(connection, base_id, now)
    return BaseFacts(
        id=base.id,
        repo=base.repo,
        sha=base.sha,
        watched_at=base.watched_at,
        open=open_candidates(connection, base_id, {row.id for row in complete}),
        scored=scored,
        base_scored=any(row.role == "base" for row in complete),
        first_unselected_at=min(unselected, default=None),
        last_scored_at=max((row.finished for row in complete), default=None),
        selection=selection,
        search=search,
        soup=_latest_soup(connection, search),
        passed=passed,
        soup_drafted=passed is not None
        and _drafted(connection, base_id, "soup", passed.recipe_digest),
        router=router,
        router_drafted=router is not None
        and _drafted(connection, base_id, "router", router.config_digest),
        publications=_open_publications(connection, base_id),
        published_today=_published_since(connection, base_id, now - timedelta(days=1)),
        spent_seconds=seconds,
        spent_bytes=volume,
        attempts=_attempts(connection, base_id),
    )


def open_requests(connection: Connection) -> tuple[Request, ...]:
    """What people asked for and nobody has answered, oldest first."""
    rows = connection.execute(select(requests).where(requests.c.state == "open").order_by("id"))
    return tuple(Request(r.id, r.verb, r.base, r.model, r.force, r.created_at) for r in rows)


def paused(connection: Connection) -> frozenset[str]:
    """What is paused: "all", "publish", both or nothing."""
    return frozenset(connection.execute(select(switches.c.name)).scalars())


def newest_of_each_repo(rows: list[Row[Any]]) -> tuple[int, ...]:
    """A repository that moved on stands once, at the sha seen last; ids in order."""
    newest: dict[tuple[str, str], int] = {}
    for row in sorted(rows, key=lambda r: r.id):
        newest[row.repo, row.role] = row.id  # a push to the base's repository is not the base
    return tuple(sorted(newest.values()))


def fully_scored(
    connection: Connection, base_id: int, benchmark_id: int, categories: int
) -> list[Row[Any]]:
    """Admitted candidates with a score in each of so many categories, and when the last came."""
    finished = func.max(scores.c.created_at, type_=scores.c.created_at.type).label("finished")
    query = (
        select(candidates.c.id, candidates.c.repo, candidates.c.role, finished)
        .join(scores, scores.c.candidate_id == candidates.c.id)
        .where(
            candidates.c.base_id == base_id,
            candidates.c.state == "admitted",
            scores.c.benchmark_id == benchmark_id,
            scores.c.split == "select",
        )
        .group_by(candidates.c.id, candidates.c.repo, candidates.c.role)
        .having(func.count() == categories)
    )
    return list(connection.execute(query))


def open_candidates(
    connection: Connection, base_id: int, complete: set[int]
) -> tuple[Candidate, ...]:
    """Sighted, or admitted and not among the `complete` ids. Left out: an older sha of a repository
    that has moved on to one that is not refused."""
    query = select(candidates).where(
        candidates.c.base_id == base_id, candidates.c.state.in_(("sighted", "admitted"))
    )
    rows = list(connection.execute(query.order_by(candidates.c.id)))
    current = set(newest_of_each_repo(rows))
    return tuple(
        Candidate(
            id=r.id,
            repo=r.repo,
            sha=r.sha,
            role=r.role,
            state=r.state,
            author=r.author,
            created_at=r.hub_created_at,
            likes=r.likes,
            downloads=r.downloads,
            seen_at=r.seen_at,
        )
        for r in rows
        if r.id in current and r.id not in complete
    )


def _latest_selection(connection: Connection, base_id: int, benchmark_id: int) -> Selection | None:
    row = connection.execute(
        select(selections)
        .where(selections.c.base_id == base_id, selections.c.benchmark_id == benchmark_id)
        .order_by(selections.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    lost = select(candidates.c.id).where(
        candidates.c.id.in_(row.members), candidates.c.state != "admitted"
    )
    whole = connection.execute(lost).first() is None
    return Selection(row.id, tuple(row.inputs), tuple(row.members), row.created_at, whole)


def _latest_search(connection: Connection, base_id: int, benchmark_id: int) -> Search | None:
    row = connection.execute(
        select(searches)
        .where(searches.c.base_id == base_id, searches.c.benchmark_id == benchmark_id)
        .order_by(searches.c.id.desc())
        .limit(1)
    ).first()
    return Search(row.id, row.selection_id, row.state, tuple(row.members)) if row else None


def _soup(row: Row[Any] | None) -> Soup | None:
    return Soup(row.id, row.search_id, row.state, row.recipe_digest) if row else None


def _latest_soup(connection: Connection, search: Search | None) -> Soup | None:
    if search is None:
        return None
    query = select(soups).where(soups.c.search_id == search.id).order_by(soups.c.id.desc())
    return _soup(connection.execute(query.limit(1)).first())


def _passed(connection: Connection, base_id: int, benchmark_id: int) -> Soup | None:
    query = select(soups).where(
        soups.c.base_id == base_id,
        soups.c.benchmark_id == benchmark_id,
        soups.c.state == "passed",
    )
    latest = query.order_by(soups.c.judged_at.desc(), soups.c.id.desc()).limit(1)
    return _soup(connection.execute(latest).first())


def _latest_router(connection: Connection, base_id: int) -> Router | None:
    row = connection.execute(
        select(routers).where(routers.c.base_id == base_id).order_by(routers.c.id.desc()).limit(1)
    ).first()
    return Router(row.id, row.pair_digest, row.config_digest) if row else None


def _open_publications(connection: Connection, base_id: int) -> tuple[Publication, ...]:
    rows = connection.execute(
        select(publications)
        .where(
            publications.c.base_id == base_id,
            publications.c.state.in_(("draft", "approved", "unknown", "committed", "blocked")),
        )
        .order_by(publications.c.id)
    )
    return tuple(Publication(r.id, r.kind, r.target, r.version, r.state) for r in rows)


def _drafted(connection: Connection, base_id: int, kind: str, digest: str) -> bool:
    query = select(publications.c.id).where(
        publications.c.base_id == base_id,
        publications.c.kind == kind,
        publications.c.digest == digest,
    )
    return connection.execute(query).first() is not None


def _published_since(connection: Connection, base_id: int, since: datetime) -> int:
    query = select(func.count()).where(
        publications.c.base_id == base_id,
        publications.c.commit_sha.is_not(None),
        or_(publications.c.sent_at >= since, publications.c.verified_at >= since),
    )
    return int(connection.execute(query).scalar_one())


def _spent(connection: Connection, base_id: int, now: datetime) -> tuple[float, int]:
    query = select(func.sum(spending.c.seconds), func.sum(spending.c.bytes)).where(
        spending.c.base_id == base_id, spending.c.at >= now - timedelta(days=1)
    )
    seconds, volume = connection.execute(query).one()
    return float(seconds or 0.0), int(volume or 0)


def _attempts(connection: Connection, base_id: int) -> dict[str, Attempt]:
    rows = connection.execute(select(attempts).where(attempts.c.base_id == base_id))
    return {r.step: Attempt(r.state, r.failures, r.not_before) for r in rows}
