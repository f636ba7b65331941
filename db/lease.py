"""The coordinator's lease, and transactions that only its holder can commit.

The lease carries a fencing token that grows with every change of hands. `fenced` checks it inside
the very transaction that writes, so a coordinator that lost its lease cannot keep anything, however
late it wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, insert, select, update

from db.engine import reading, writing
from db.schema import leases

COORDINATOR = "coordinator"


class LeaseLost(RuntimeError):
    """Another coordinator holds the lease; whatever this one was doing is dropped."""


@dataclass(frozen=True)
class Lease:
    """Who holds it, and the fencing token that every write of the holder is checked with."""

    holder: str
    token: int


class Leases:
    """One lease for each database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def take_lease(
        self,
        holder: str,
        now: datetime,
        ttl: timedelta,
        is_dead: Callable[[str], bool] = lambda holder: False,
    ) -> Lease | None:
        """The lease, or None while another holder's has not run out and may be alive."""
        mine = {"holder": holder, "expires_at": now + ttl}
        with writing(self.engine) as connection:
            query = select(leases).where(leases.c.name == COORDINATOR)
            row = connection.execute(query.with_for_update()).first()
            if row is None:
                connection.execute(insert(leases).values(name=COORDINATOR, token=1, **mine))
                return Lease(holder, 1)
            if row.expires_at > now and not is_dead(row.holder):
                return None
            taken = update(leases).where(leases.c.name == COORDINATOR)
            connection.execute(taken.values(token=row.token + 1, **mine))
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
            _check(connection, lease, hold=False)

    @contextmanager
    def fenced(self, lease: Lease) -> Iterator[Connection]:
        """A write transaction that fails with LeaseLost unless `lease` is still the current one."""
        with writing(self.engine) as connection:
            _check(connection, lease, hold=True)
            yield connection


def _check(connection: Connection, lease: Lease, *, hold: bool) -> None:
    query = select(leases.c.token).where(leases.c.name == COORDINATOR)
    # SQLite has one writer at a time; PostgreSQL must not let the lease change hands before commit.
    token = connection.execute(query.with_for_update(read=True) if hold else query).scalar()
    if token != lease.token:
        raise LeaseLost(
            f"{lease.holder} held the lease with token {lease.token}; it is {token} now"
        )
