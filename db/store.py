"""The verbs that change the database outside a handler's outcomes: lease, attempts, requests,
switches, registration.

The lease carries a fencing token that grows with every change of hands. `fenced` checks it inside
the very transaction that writes, so a coordinator that lost its lease cannot keep anything, however
late it wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from db.engine import reading, writing
from db.outcomes import Outcome
from db.record import record
from db.schema import (
    attempts,
    bases,
    benchmarks,
    candidates,
    events,
    leases,
    publications,
    requests,
    switches,
)

COORDINATOR = "coordinator"


class LeaseLost(RuntimeError):
    """Another coordinator holds the lease; whatever this one was doing is dropped."""


@dataclass(frozen=True)
class Lease:
    holder: str
    token: int


class Store:
    """The only writer. One instance a process; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # -- lease ---------------------------------------------------------------------------------

    def take_lease(
        self,
        holder: str,
        now: datetime,
        ttl: timedelta,
        is_dead: Callable[[str], bool] = lambda holder: False,
    ) -> Lease | None:
        """The lease, or None while another holder's has not run out and may be alive."""
        with writing(self.engine) as connection:
            row = connection.execute(select(leases).where(leases.c.name == COORDINATOR)).first()
            if row is None:
                values = {"name": COORDINATOR, "holder": holder, "token": 1}
                connection.execute(insert(leases).values(expires_at=now + ttl, **values))
                return Lease(holder, 1)
            if row.expires_at > now and not is_dead(row.holder):
                return None
            connection.execute(
                update(leases)
                .where(leases.c.name == COORDINATOR)
                .values(holder=holder, token=row.token + 1, expires_at=now + ttl)
            )
            return Lease(holder, row.token + 1)

    def renew_lease(self, lease: Lease, now: datetime, ttl: timedelta) -> None:
        with self.fenced(lease) as connection:
            connection.execute(
                update(leases).where(leases.c.name == COORDINATOR).values(expires_at=now + ttl)
            )

    def release_lease(self, lease: Lease, now: datetime) -> None:
        with writing(self.engine) as connection:
            connection.execute(
                update(leases)
                .where(leases.c.name == COORDINATOR, leases.c.token == lease.token)
                .values(expires_at=now)
            )

    def check_lease(self, lease: Lease) -> None:
        """Raises LeaseLost; called right before every write to the Hub."""
        with reading(self.engine) as connection:
            _check(connection, lease)

    @contextmanager
    def fenced(self, lease: Lease) -> Iterator[Connection]:
        """A write transaction that fails with LeaseLost unless `lease` is still the current one."""
        with writing(self.engine) as connection:
            _check(connection, lease)
            yield connection

    # -- outcomes and attempts -------------------------------------------------------------------

    def keep(self, lease: Lease, outcome: Outcome, now: datetime) -> None:
        with self.fenced(lease) as connection:
            record(outcome, connection, now)

    def begin_attempt(self, lease: Lease, step: str, base_id: int | None, now: datetime) -> None:
        with self.fenced(lease) as connection:
            changed = connection.execute(
                update(attempts)
                .where(attempts.c.step == step)
                .values(state="running", started_at=now, finished_at=None)
            )
            if changed.rowcount == 0:
                values = {"step": step, "base_id": base_id, "state": "running"}
                connection.execute(insert(attempts).values(started_at=now, **values))

    def end_attempt(self, lease: Lease, step: str) -> None:
        """The step did what it could; nothing about it needs remembering."""
        with self.fenced(lease) as connection:
            connection.execute(delete(attempts).where(attempts.c.step == step))

    def fail_attempt(
        self,
        lease: Lease,
        step: str,
        error: str,
        now: datetime,
        *,
        not_before: datetime | None,
        parked: bool,
        subject: str = "",
        base_id: int | None = None,
    ) -> None:
        with self.fenced(lease) as connection:
            state = "parked" if parked else "waiting"
            connection.execute(
                update(attempts)
                .where(attempts.c.step == step)
                .values(
                    state=state,
                    failures=attempts.c.failures + 1,
                    error=error,
                    not_before=not_before,
                    finished_at=now,
                )
            )
            text = f"{step}: {error}" + ("; parked until `bot retry`" if parked else "")
            values = {"base_id": base_id, "subject": subject, "kind": f"step-{state}", "text": text}
            connection.execute(insert(events).values(at=now, **values))

    def interrupt_attempt(self, step: str, now: datetime) -> None:
        """The coordinator stopped in good order while the step ran: not a failure."""
        with writing(self.engine) as connection:
            connection.execute(
                update(attempts)
                .where(attempts.c.step == step, attempts.c.state == "running")
                .values(state="waiting", finished_at=now)
            )

    def settle_interrupted(self, lease: Lease, now: datetime, limit: int) -> int:
        """Steps that were running when the last coordinator ended count as one failure each.

        A step that has taken its process down `limit` times is parked. Returns how many were found.
        """
        with self.fenced(lease) as connection:
            rows = list(connection.execute(select(attempts).where(attempts.c.state == "running")))
            for row in rows:
                failures = row.failures + 1
                connection.execute(
                    update(attempts)
                    .where(attempts.c.step == row.step)
                    .values(
                        state="parked" if failures >= limit else "waiting",
                        failures=failures,
                        error="interrupted: the process ended while it ran",
                        not_before=None,
                        finished_at=now,
                    )
                )
            return len(rows)

    def retry(self, pattern: str | None) -> int:
        """Forget back-off and parking of the steps whose key contains `pattern` (all when None)."""
        with writing(self.engine) as connection:
            query = delete(attempts).where(attempts.c.state != "running")
            if pattern is not None:
                query = query.where(attempts.c.step.contains(pattern, autoescape=True))
            unblocked = update(publications).where(publications.c.state == "blocked")
            connection.execute(unblocked.values(state="approved", error=None))
            return connection.execute(query).rowcount

    # -- registration --------------------------------------------------------------------------

    def register_base(self, repo: str, sha: str, now: datetime) -> int:
        """The id of this base at this sha; it is also its own first candidate."""
        with writing(self.engine) as connection:
            found = connection.execute(select(bases.c.id).filter_by(repo=repo, sha=sha)).scalar()
            if found is not None:
                return int(found)
            key = connection.execute(
                insert(bases).values(repo=repo, sha=sha, created_at=now)
            ).inserted_primary_key
            assert key is not None
            connection.execute(
                insert(candidates).values(
                    base_id=key[0],
                    repo=repo,
                    sha=sha,
                    role="base",
                    author=repo.partition("/")[0],
                    seen_at=now,
                )
            )
            return int(key[0])

    def register_benchmark(
        self,
        *,
        name: str,
        digest: str,
        splits_digest: str,
        seed: int,
        shares: Sequence[float],
        items: Mapping[str, Mapping[str, int]],
        now: datetime,
    ) -> int:
        """The id of this suite under these splits. `items`: category -> split -> count, in suite
        order.
        """
        with writing(self.engine) as connection:
            key = {"digest": digest, "splits_digest": splits_digest}
            found = connection.execute(select(benchmarks.c.id).filter_by(**key)).scalar()
            if found is not None:
                return int(found)
            values: dict[str, Any] = {
                "name": name,
                "seed": seed,
                "shares": list(shares),
                "categories": list(items),
                "items": {category: dict(counts) for category, counts in items.items()},
            }
            made = connection.execute(insert(benchmarks).values(created_at=now, **key, **values))
            assert made.inserted_primary_key is not None
            return int(made.inserted_primary_key[0])

    # -- what people ask for
    # ------------------------------------------------------------------------

    def ask(
        self, verb: str, base: str | None, model: str | None, force: bool, now: datetime
    ) -> int:
        with writing(self.engine) as connection:
            values = {"verb": verb, "base": base, "model": model, "force": force}
            made = connection.execute(insert(requests).values(created_at=now, **values))
            assert made.inserted_primary_key is not None
            return int(made.inserted_primary_key[0])

    def answer(self, lease: Lease, request_id: int, state: str, text: str, now: datetime) -> None:
        with self.fenced(lease) as connection:
            connection.execute(
                update(requests)
                .where(requests.c.id == request_id)
                .values(state=state, answer=text, finished_at=now)
            )

    def pause(self, name: str, why: str, now: datetime) -> None:
        with writing(self.engine) as connection:
            connection.execute(delete(switches).where(switches.c.name == name))
            connection.execute(insert(switches).values(name=name, why=why, since=now))

    def resume(self, name: str) -> bool:
        with writing(self.engine) as connection:
            return connection.execute(delete(switches).where(switches.c.name == name)).rowcount > 0

    def approve(self, publication_id: int, approved: bool) -> bool:
        """Approve or drop one waiting draft; False when there is no such draft."""
        with writing(self.engine) as connection:
            return (
                connection.execute(
                    update(publications)
                    .where(publications.c.id == publication_id, publications.c.state == "draft")
                    .values(state="approved" if approved else "dropped")
                ).rowcount
                > 0
            )


def _check(connection: Connection, lease: Lease) -> None:
    token = connection.execute(select(leases.c.token).where(leases.c.name == COORDINATOR)).scalar()
    if token != lease.token:
        raise LeaseLost(
            f"{lease.holder} held the lease with token {lease.token}; it is {token} now"
        )
