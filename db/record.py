"""Write one outcome, with the event that tells a person about it. Recording the same outcome twice
changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import singledispatch
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from db import outcomes as o
from db.schema import (
    bases,
    candidates,
    events,
    looks,
    publications,
    routers,
    scores,
    searches,
    selections,
    soup_members,
    soups,
    spending,
    switches,
    trials,
)


@singledispatch
def record(outcome: o.Outcome, connection: Connection, now: datetime) -> None:
    """Keep `outcome`. The caller owns the transaction and has checked the fence in it."""
    raise TypeError(f"no way to record {type(outcome).__name__}")


@record.register
def _(outcome: o.Sighted, connection: Connection, now: datetime) -> None:
    new = _insert_once(
        connection,
        candidates,
        {"base_id": outcome.base_id, "repo": outcome.repo, "sha": outcome.sha},
        author=outcome.author,
        hub_created_at=outcome.created_at,
        hub_modified_at=outcome.modified_at,
        likes=outcome.likes,
        downloads=outcome.downloads,
        seen_at=now,
    )
    if new:
        text = "seen on the Hub"
        _tell(connection, now, outcome.base_id, outcome.repo, outcome.sha, "sighted", text)
    elif outcome.again:
        connection.execute(
            update(candidates)
            .where(candidates.c.base_id == outcome.base_id, candidates.c.state == "rejected")
            .where(candidates.c.repo == outcome.repo, candidates.c.sha == outcome.sha)
            .values(state="sighted", reason=None, detail=None, decided_at=None)
        )


@record.register
def _(outcome: o.Watched, connection: Connection, now: datetime) -> None:
    row = connection.execute(select(bases).where(bases.c.id == outcome.base_id)).one()
    values: dict[str, Any] = {"watched_at": now}
    if outcome.head is not None:
        values["head"] = outcome.head
    if outcome.newest_created_at is not None:
        values["newest_created_at"] = outcome.newest_created_at
    if outcome.swept:
        values["swept_at"] = now
    if outcome.head not in (None, row.sha, row.head):
        text = f"the base moved to {outcome.head}; it stays pinned at {row.sha}"
        _tell(connection, now, row.id, row.repo, outcome.head, "base-moved", text)
    connection.execute(update(bases).where(bases.c.id == row.id).values(**values))


@record.register
def _(outcome: o.Admitted, connection: Connection, now: datetime) -> None:
    _decide(
        connection,
        now,
        outcome.candidate_id,
        "admitted",
        f"admitted: licence {outcome.licence}, {outcome.bytes:,} bytes of weights",
        licence=outcome.licence,
        bytes=outcome.bytes,
        weights_digest=outcome.weights_digest,
        files=[list(file) for file in outcome.files],
    )


@record.register
def _(outcome: o.Rejected, connection: Connection, now: datetime) -> None:
    text = f"rejected ({outcome.code}): {outcome.detail}"
    values = {"reason": outcome.code, "detail": outcome.detail}
    _decide(connection, now, outcome.candidate_id, "rejected", text, **values)


@record.register
def _(outcome: o.Withdrawn, connection: Connection, now: datetime) -> None:
    text = f"withdrawn: {outcome.detail}"
    _decide(connection, now, outcome.candidate_id, "withdrawn", text, detail=outcome.detail)


@record.register
def _(outcome: o.Examined, connection: Connection, now: datetime) -> None:
    connection.execute(
        update(candidates)
        .where(candidates.c.id == outcome.candidate_id)
        .values(fingerprint=outcome.fingerprint)
    )
    row = _candidate(connection, outcome.candidate_id)
    text = "weights read through: finite, norms like the base's"
    _tell(connection, now, row.base_id, row.repo, row.sha, "examined", text, outcome.health)


@record.register
def _(outcome: o.Scored, connection: Connection, now: datetime) -> None:
    subject = {"candidate_id": outcome.candidate_id, "soup_id": outcome.soup_id}
    _insert_once(
        connection,
        scores,
        {
            **subject,
            "benchmark_id": outcome.benchmark_id,
            "split": outcome.split,
            "category": outcome.category,
        },
        value=outcome.value,
        n=outcome.n,
        stderr=outcome.stderr,
        outcomes=outcome.outcomes,
        created_at=now,
    )


@record.register
def _(outcome: o.Spent, connection: Connection, now: datetime) -> None:
    connection.execute(insert(spending).values(at=now, **asdict(outcome)))


@record.register
def _(outcome: o.Selected, connection: Connection, now: datetime) -> None:
    connection.execute(
        insert(selections).values(
            base_id=outcome.base_id,
            benchmark_id=outcome.benchmark_id,
            method=outcome.method,
            inputs=list(outcome.inputs),
            experts=dict(outcome.experts),
            members=list(outcome.members),
            figures=dict(outcome.figures),
            created_at=now,
        )
    )
    names = {row.id: row.repo for row in _rows(connection, candidates, outcome.members)}
    text = f"{outcome.method} chose " + ", ".join(names[i] for i in outcome.members)
    _tell_base(
        connection, now, outcome.base_id, "selected", text, {"experts": dict(outcome.experts)}
    )


@record.register
def _(outcome: o.SearchOpened, connection: Connection, now: datetime) -> None:
    _insert_once(
        connection,
        searches,
        {"selection_id": outcome.selection_id},
        base_id=outcome.base_id,
        benchmark_id=outcome.benchmark_id,
        strategy=outcome.strategy,
        members=list(outcome.members),
        created_at=now,
    )


@record.register
def _(outcome: o.Tried, connection: Connection, now: datetime) -> None:
    _insert_once(
        connection,
        trials,
        {"search_id": outcome.search_id, "weights": outcome.weights},
        outcomes=dict(outcome.outcomes),
        created_at=now,
    )


@record.register
def _(outcome: o.Searched, connection: Connection, now: datetime) -> None:
    row = connection.execute(select(searches).where(searches.c.id == outcome.search_id)).one()
    if row.state == "done":
        return
    connection.execute(
        update(searches)
        .where(searches.c.id == row.id)
        .values(state="done", best=dict(outcome.best), finished_at=now)
    )
    text = f"search over: {outcome.best['trials']} soups tried, best {outcome.best['weights']}"
    _tell_base(connection, now, row.base_id, "searched", text, outcome.best)


@record.register
def _(outcome: o.SoupPlanned, connection: Connection, now: datetime) -> None:
    key = {
        "base_id": outcome.base_id,
        "recipe_digest": outcome.recipe_digest,
        "benchmark_id": outcome.benchmark_id,
    }
    if not _insert_once(
        connection,
        soups,
        key,
        search_id=outcome.search_id,
        recipe=outcome.recipe,
        created_at=now,
    ):
        return
    soup_id = connection.execute(select(soups.c.id).filter_by(**key)).scalar_one()
    for position, (candidate_id, numerator, denominator) in enumerate(outcome.members):
        connection.execute(
            insert(soup_members).values(
                soup_id=soup_id,
                candidate_id=candidate_id,
                position=position,
                numerator=numerator,
                denominator=denominator,
            )
        )
    text = f"soup {outcome.recipe_digest[:12]} planned"
    _tell_base(connection, now, outcome.base_id, "soup-planned", text)


@record.register
def _(outcome: o.SoupBuilt, connection: Connection, now: datetime) -> None:
    row = connection.execute(select(soups).where(soups.c.id == outcome.soup_id)).one()
    state = "built" if row.state == "planned" else row.state
    connection.execute(
        update(soups)
        .where(soups.c.id == outcome.soup_id)
        .values(state=state, files={k: dict(v) for k, v in outcome.files.items()})
    )
    _tell_base(connection, now, row.base_id, "soup-built", f"soup {row.recipe_digest[:12]} written")


@record.register
def _(outcome: o.LookTaken, connection: Connection, now: datetime) -> None:
    key = {"soup_id": outcome.soup_id, "splits_digest": outcome.splits_digest}
    values = {"base_id": outcome.base_id, "k": outcome.k, "level": outcome.level}
    if _insert_once(connection, looks, key, created_at=now, **values):
        text = f"look {outcome.k} at the report split, level {outcome.level:.4f}"
        _tell_base(connection, now, outcome.base_id, "look", text)


@record.register
def _(outcome: o.Judged, connection: Connection, now: datetime) -> None:
    row = connection.execute(select(soups).where(soups.c.id == outcome.soup_id)).one()
    connection.execute(
        update(soups)
        .where(soups.c.id == outcome.soup_id)
        .values(
            state="passed" if outcome.passed else "failed",
            verdict=dict(outcome.verdict),
            judged_at=now,
        )
    )
    text = f"soup {row.recipe_digest[:12]}: {outcome.text}"
    _tell_base(connection, now, row.base_id, "judged", text, outcome.verdict)


@record.register
def _(outcome: o.Calibrated, connection: Connection, now: datetime) -> None:
    _insert_once(
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
    _tell_base(connection, now, outcome.base_id, "calibrated", text)


@record.register
def _(outcome: o.Drafted, connection: Connection, now: datetime) -> None:
    key = {"kind": outcome.kind, "target": outcome.target, "digest": outcome.digest}
    new = _insert_once(
        connection,
        publications,
        key,
        base_id=outcome.base_id,
        version=outcome.version,
        soup_id=outcome.soup_id,
        router_id=outcome.router_id,
        state=outcome.state,
        folder=outcome.folder,
        files={k: dict(v) for k, v in outcome.files.items()},
        created_at=now,
    )
    if new:
        text = f"version {outcome.version} of the {outcome.kind} drafted ({outcome.state})"
        _tell(connection, now, outcome.base_id, outcome.target, None, "drafted", text)


@record.register
def _(outcome: o.Moved, connection: Connection, now: datetime) -> None:
    where = publications.c.id == outcome.publication_id
    row = connection.execute(select(publications).where(where)).one()
    fields = ("parent", "commit_sha", "tag", "error")
    values: dict[str, Any] = {
        f: getattr(outcome, f) for f in fields if getattr(outcome, f) is not None
    }
    if outcome.state == "unknown":
        values["sent_at"] = now
    if outcome.state == "verified":
        values["verified_at"] = now
    connection.execute(update(publications).where(where).values(state=outcome.state, **values))
    if row.state != outcome.state:
        text = f"version {row.version}: {outcome.state}" + (
            f" ({outcome.error})" if outcome.error else ""
        )
        sha = outcome.commit_sha or row.commit_sha
        _tell(connection, now, row.base_id, row.target, sha, f"publication-{outcome.state}", text)


@record.register
def _(outcome: o.Noted, connection: Connection, now: datetime) -> None:
    args = (outcome.base_id, outcome.subject, None, outcome.kind, outcome.text, outcome.data)
    _tell(connection, now, *args)


@record.register
def _(outcome: o.Paused, connection: Connection, now: datetime) -> None:
    if _insert_once(connection, switches, {"name": outcome.name}, why=outcome.why, since=now):
        _tell(connection, now, None, outcome.name, None, "paused", outcome.why)


def _insert_once(
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


def _decide(
    connection: Connection, now: datetime, candidate_id: int, state: str, text: str, **values: Any
) -> None:
    row = _candidate(connection, candidate_id)
    connection.execute(
        update(candidates)
        .where(candidates.c.id == candidate_id)
        .values(state=state, decided_at=now, **values)
    )
    if row.state != state:
        _tell(connection, now, row.base_id, row.repo, row.sha, state, text)


def _candidate(connection: Connection, candidate_id: int) -> Any:
    return connection.execute(select(candidates).where(candidates.c.id == candidate_id)).one()


def _rows(connection: Connection, table: Table, ids: tuple[int, ...]) -> list[Any]:
    return list(connection.execute(select(table).where(table.c.id.in_(ids))))


def _tell_base(
    connection: Connection,
    now: datetime,
    base_id: int,
    kind: str,
    text: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    repo = connection.execute(select(bases.c.repo).where(bases.c.id == base_id)).scalar_one()
    _tell(connection, now, base_id, repo, None, kind, text, data)


def _tell(
    connection: Connection,
    now: datetime,
    base_id: int | None,
    subject: str,
    sha: str | None,
    kind: str,
    text: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    connection.execute(
        insert(events).values(
            at=now,
            base_id=base_id,
            subject=subject,
            sha=sha,
            kind=kind,
            text=text,
            data=dict(data) if data else None,
        )
    )
