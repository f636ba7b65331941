"""The verbs that change the database: outcomes kept, attempts, registration, and what people ask
for. What a coordinator writes is fenced by its lease (`db.lease`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from db.engine import writing
from db.lease import Lease, Leases
from db.outcomes import Moved, Noted, Outcome, Spent
from db.record import record
from db.schema import (
    attempts,
    bases,
    benchmarks,
    candidates,
    events,
    publications,
    requests,
    switches,
)

MEASURING = ("evaluate:", "select:", "search:", "build:", "judge:", "draft:soup:")
"""How the keys of steps begin that have to do with the benchmark of their base."""


class Store(Leases):
    """The only writer. One instance a process; safe to use from several threads."""

    # -- outcomes and attempts -------------------------------------------------------------------

    def keep(self, lease: Lease, outcome: Outcome, now: datetime, step: str | None = None) -> None:
        """Record `outcome`; what is new about the world shows that `step` gets further."""
        with self.fenced(lease) as connection:
            news = record(outcome, connection, now)
            if news and step is not None and not isinstance(outcome, Spent | Noted):
                _got_further(connection, step)

    def begin_attempt(self, lease: Lease, step: str, base_id: int | None, now: datetime) -> int:
        """Remember that the step runs; how often it has failed so far."""
        with self.fenced(lease) as connection:
            row = connection.execute(select(attempts).where(attempts.c.step == step)).first()
            values = {"state": "running", "started_at": now, "finished_at": None}
            if row is None:
                connection.execute(insert(attempts).values(step=step, base_id=base_id, **values))
                return 0
            connection.execute(update(attempts).where(attempts.c.step == step).values(**values))
            return int(row.failures)

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
        seconds: float = 0.0,
    ) -> None:
        """seconds: of computing that came to nothing, and counts all the same."""
        with self.fenced(lease) as connection:
            if base_id is not None and seconds:
                lost = Spent(base_id, f"failed {step.partition(':')[0]}", seconds)
                record(lost, connection, now)
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
            _tell_step(connection, now, step, state, error, subject, base_id)

    def interrupt_attempt(self, lease: Lease, step: str, now: datetime) -> None:
        """The coordinator stopped in good order while the step ran: not a failure."""
        with self.fenced(lease) as connection:
            mine = (attempts.c.step == step, attempts.c.state == "running")
            spotless = (attempts.c.failures == 0, attempts.c.interruptions == 0)
            connection.execute(delete(attempts).where(*mine, *spotless))
            waiting = update(attempts).where(*mine)
            connection.execute(waiting.values(state="waiting", finished_at=now))

    def settle_interrupted(
        self,
        lease: Lease,
        now: datetime,
        limit: int,
        pause: Callable[[int], timedelta] = lambda interruptions: timedelta(0),
    ) -> int:
        """Count an interruption for each step that was running when the last coordinator ended.

        A step that was interrupted often without getting any further may be what takes the process
        down: it waits for `pause` of the number, and is parked at `limit`. Returns how many were
        found.
        """
        error = "interrupted: the process ended while it ran"
        with self.fenced(lease) as connection:
            rows = list(connection.execute(select(attempts).where(attempts.c.state == "running")))
            for row in rows:
                interruptions = row.interruptions + 1
                state = "parked" if interruptions >= limit else "waiting"
                connection.execute(
                    update(attempts)
                    .where(attempts.c.step == row.step)
                    .values(
                        state=state,
                        interruptions=interruptions,
                        error=error,
                        not_before=now + pause(interruptions),
                        finished_at=now,
                    )
                )
                subject = _base_repo(connection, row.base_id)
                _tell_step(connection, now, row.step, state, error, subject, row.base_id)
            return len(rows)

    def retry(self, pattern: str | None) -> int:
        """Forget back-off and parking of the steps whose key contains `pattern` (all when None).

        A blocked publication is a step that waits for a person too. Returns how many steps there
        were.
        """
        with writing(self.engine) as connection:
            keys = _in_trouble(connection)
            chosen = {key for key in keys if pattern is None or pattern in key}
            _forget(connection, chosen)
            return len(chosen)

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
        judging: Sequence[str] | None = None,
    ) -> int:
        """The id of this suite under these splits. `items`: category -> split -> count, in suite
        order. `judging`: marks of the clusters that a look may see (`Splits.marks`).
        """
        with writing(self.engine) as connection:
            key = {"digest": digest, "splits_digest": splits_digest}
            found = connection.execute(select(benchmarks.c.id).filter_by(**key)).scalar()
            marks = None if judging is None else list(judging)
            if found is not None:
                unmarked = (benchmarks.c.id == found, benchmarks.c.judging.is_(None))
                connection.execute(update(benchmarks).where(*unmarked).values(judging=marks))
                return int(found)
            values: dict[str, Any] = {
                "name": name,
                "seed": seed,
                "shares": list(shares),
                "categories": list(items),
                "items": {category: dict(counts) for category, counts in items.items()},
                "judging": marks,
            }
            made = connection.execute(insert(benchmarks).values(created_at=now, **key, **values))
            assert made.inserted_primary_key is not None
            return int(made.inserted_primary_key[0])

    def judge_by(self, lease: Lease, base_id: int, benchmark_id: int) -> None:
        """From now on this benchmark judges the base.

        Where another did before, what failed under it is forgotten: a step parked by a broken
        suite has a new chance under the next, and `bot status` does not show what is over.
        """
        with self.fenced(lease) as connection:
            this = bases.c.id == base_id
            before = connection.execute(select(bases.c.benchmark_id).where(this)).scalar_one()
            if before == benchmark_id:
                return
            connection.execute(update(bases).where(this).values(benchmark_id=benchmark_id))
            if before is not None:
                tried = select(attempts.c.step).where(attempts.c.base_id == base_id)
                keys = connection.execute(tried).scalars()
                _forget(connection, {key for key in keys if key.startswith(MEASURING)})

    # -- what people ask for ---------------------------------------------------------------------

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
        """Whether it was paused. What publishing was paused for is tried again at once."""
        with writing(self.engine) as connection:
            was = connection.execute(delete(switches).where(switches.c.name == name)).rowcount > 0
            if name == "publish":
                keys = _in_trouble(connection)
                _forget(connection, {key for key in keys if key.startswith("publish:")})
            return was

    def approve(self, publication_id: int, approved: bool, now: datetime | None = None) -> bool:
        """Approve or decline one waiting draft; False when there is no such draft."""
        with writing(self.engine) as connection:
            query = select(publications).filter_by(id=publication_id, state="draft")
            if connection.execute(query).first() is None:
                return False
            state, why = ("approved", None) if approved else ("dropped", "declined by a person")
            moved = Moved(publication_id, state, error=why)
            record(moved, connection, now or datetime.now(UTC))
            return True


def _got_further(connection: Connection, step: str) -> None:
    interrupted = update(attempts).where(attempts.c.step == step, attempts.c.interruptions > 0)
    connection.execute(interrupted.values(interruptions=0))


def _tell_step(
    connection: Connection,
    now: datetime,
    step: str,
    state: str,
    error: str,
    subject: str,
    base_id: int | None,
) -> None:
    text = f"{step}: {error}" + ("; parked until `bot retry`" if state == "parked" else "")
    values = {"base_id": base_id, "subject": subject, "kind": f"step-{state}", "text": text}
    connection.execute(insert(events).values(at=now, **values))


def _base_repo(connection: Connection, base_id: int | None) -> str:
    query = select(bases.c.repo).where(bases.c.id == base_id)
    return connection.execute(query).scalar() or ""


def _in_trouble(connection: Connection) -> set[str]:
    """Keys of the steps that failed, and of those that would send a blocked publication."""
    tried = select(attempts.c.step).where(attempts.c.state != "running")
    blocked = select(publications.c.id).where(publications.c.state == "blocked")
    sends = {f"publish:{key}" for key in connection.execute(blocked).scalars()}
    return {*connection.execute(tried).scalars(), *sends}


def _forget(connection: Connection, keys: set[str]) -> None:
    """Drop what is remembered of these steps; a blocked publication may be sent again."""
    connection.execute(delete(attempts).where(attempts.c.step.in_(keys)))
    ids = [int(key.removeprefix("publish:")) for key in keys if key.startswith("publish:")]
    blocked = update(publications).where(
        publications.c.id.in_(ids), publications.c.state == "blocked"
    )
    connection.execute(blocked.values(state="approved", error=None))
