"""One of everything, in the order in which a cycle records it. Row ids count from 1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, Table

from db import outcomes as o
from db.engine import reading
from db.lease import Lease
from db.record import record
from db.schema import metadata
from db.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TTL = timedelta(seconds=60)
BASE = "org/base"
SHA = "a" * 40
FILES = {"model.safetensors": {"sha256": "0" * 64, "size": 10}}
BENCHMARK = {"add": {"select": 4, "tune": 2, "report": 2}, "sort": {"select": 4}}


def sighted(name: str, sha: str = SHA, **more) -> o.Sighted:
    return o.Sighted(1, f"org/{name}", sha, "org", NOW, NOW, **more)


def admitted(candidate: int) -> o.Admitted:
    file = ("model.safetensors", 10, "0" * 64, "blob")
    return o.Admitted(candidate, "mit", 10, f"weights-{candidate}", True, (file,))


def scored(category: str, bits: str, split: str = "select", **subject) -> o.Scored:
    value = bits.count("1") / len(bits)
    return o.Scored(1, split, category, value, len(bits), 0.1, bits, **subject)


def selected(inputs=(1, 2, 3), members=(2, 3), figures=None) -> o.Selected:
    experts = dict(zip(("add", "sort"), members, strict=False))
    return o.Selected(1, 1, "soce", inputs, experts, members, figures or {"notes": []})


def planned(digest: str = "recipe-1", search: int = 1) -> o.SoupPlanned:
    return o.SoupPlanned(1, search, 1, digest, "{}", ((2, 4, 10), (3, 6, 10)))


def drafted(digest: str, version: int, *, soup: int = 1, state: str = "approved") -> o.Drafted:
    target = "stockpot/soup"
    return o.Drafted(1, "soup", target, digest, version, "/d", FILES, state, soup_id=soup)


SEARCHED = {"trials": 2, "weights": "4/10 6/10", "value": 0.75}

STORY: list[o.Outcome] = [
    sighted("good"),
    sighted("other"),
    sighted("bad"),
    sighted("gone"),
    o.Watched(1, "b" * 40, NOW, swept=True),
    admitted(1),
    admitted(2),
    admitted(3),
    o.Rejected(4, "gated", "ask first"),
    o.Withdrawn(5, "not found"),
    o.Examined(2, "print-2", (1.0, 0.0), {"non_finite": []}),
    o.Spent(1, "evaluate", seconds=2.5, bytes=10),
    *(scored(c, bits, candidate_id=i) for i in (1, 2, 3) for c, bits in
      (("add", "0011"), ("sort", "0111"))),
    selected(),
    o.SearchOpened(1, 1, 1, "grid", (2, 3)),
    o.Tried(1, "1 0", {"add": "01", "sort": "11"}),
    o.Tried(1, "4/10 6/10", {"add": "11", "sort": "11"}),
    planned(),
    o.Searched(1, SEARCHED),
    o.SoupBuilt(1, FILES),
    o.LookTaken(1, 1, "splits", 1, 0.03),
    scored("add", "11", split="report", soup_id=1),
    o.Judged(1, True, {"reasons": []}, "passed: +2 points"),
    o.Reopened(1, "another version came between"),
    o.Judged(1, True, {"reasons": []}, "passed: +2 points"),
    drafted("recipe-1", 1),
    o.Moved(1, "unknown", parent="c" * 40),
    o.Moved(1, "committed", commit_sha="d" * 40, tag="v1"),
    o.Moved(1, "verified"),
    o.Calibrated(1, "pair", f"{BASE}@{SHA}", f"org/aligned@{SHA}", "config-1", "{}"),
    o.Noted(1, "org/nobody", "not-found", "there is no such repository", {"status": 404}),
    o.Paused("publish", "the token was refused"),
]  # fmt: skip


SECOND = [planned("recipe-2"), drafted("recipe-2", 2, soup=2)]  # waits to be sent
LEASE = Lease("here", 1)


def begin(store: Store) -> Lease:
    """A base, a benchmark and the lease, as every story needs them."""
    lease = store.take_lease("here", NOW, TTL)
    assert lease is not None
    assert store.register_base(BASE, SHA, NOW) == 1
    assert register_benchmark(store) == 1
    return lease


def register_benchmark(store: Store, digest: str = "suite") -> int:
    names = {"name": "tiny", "digest": digest, "splits_digest": "splits"}
    return store.register_benchmark(
        **names, seed=0, shares=(0.4, 0.3, 0.3), items=BENCHMARK, now=NOW
    )


def tell(store: Store, lease: Lease, outcomes: list[o.Outcome], now: datetime = NOW) -> None:
    """In one transaction, which is faster than as many as there are outcomes."""
    with store.fenced(lease) as connection:
        for outcome in outcomes:
            record(outcome, connection, now)


def dump(store: Store) -> dict[str, list[tuple]]:
    """Every row of every table."""
    with reading(store.engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(_in_order(table))]
            for table in metadata.sorted_tables
        }


def rows(store: Store, table: str) -> list:
    with reading(store.engine) as connection:
        return list(connection.execute(_in_order(metadata.tables[table])))


def _in_order(table: Table) -> Select:
    return table.select().order_by(*table.primary_key)
