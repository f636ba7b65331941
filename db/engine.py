"""From a URL to an engine, and from an engine to a database with today's tables.

SQLite runs in WAL mode with foreign keys on, full sync, and `BEGIN IMMEDIATE` for writers: a
deferred transaction that turns into a write fails at once when another process has written
meanwhile, whatever the busy timeout. PostgreSQL's writers take a lock of ours first, which makes
the same promise: one writer at a time, and what it reads is what it changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 10_000
WRITERS = 0x53746F636B706F74  # PostgreSQL's advisory lock of all writers: "Stockpot"
PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY}
PASSING |= {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}


class Unusable(RuntimeError):
    """The database cannot be opened: it is damaged, or a newer release wrote it."""


class Unavailable(RuntimeError):
    """The database does not answer now (locked, disk full, server away); nothing was written."""


def open_engine(url: str) -> Engine:
    """An engine for `url`, e.g. `sqlite:///data/stockpot.db` or `postgresql+psycopg://...`."""
    if not url.startswith("sqlite"):
        patience = {"connect_timeout": BUSY_MS // 1000}
        return create_engine(url, pool_pre_ping=True, connect_args=patience)
    path = make_url(url).database
    if path and path != ":memory:":
        with suppress(OSError):  # opening it says what is wrong
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False}
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: Any) -> None:
    # sqlite3's own transaction handling would open a deferred transaction before each write; we
    # begin ourselves.
    connection.isolation_level = None
    _switch_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _switch_to_wal(connection: Any) -> None:
    """Once for each file. SQLite's busy timeout does not cover the switch, so we wait ourselves
    for another process that makes the same one."""
    deadline = monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.01)


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One short write transaction: all of it or none. Raises Unavailable."""
    with _translated(), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_MS}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view that blocks no writer. Raises Unavailable."""
    options: dict[str, Any] = {"reading": True}
    if engine.dialect.name != "sqlite":
        options["isolation_level"] = "REPEATABLE READ"
    with (
        _translated(),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is not None and code & 0xFF not in PASSING:  # the low byte is the primary code
            raise
        raise Unavailable(f"the database does not answer: {error.orig}") from error


def migrate(engine: Engine) -> None:
    """Bring the database to today's schema; only looks when it is there already.

    Raises:
        Unusable: the file is damaged, its schema is newer than this release, or it cannot be
            opened.
    """
    config = _alembic()
    scripts = ScriptDirectory.from_config(config)
    try:
        with reading(engine) as connection:
            _check_integrity(connection)
            current = MigrationContext.configure(connection).get_current_revision()
        _check_known(current, {script.revision for script in scripts.walk_revisions()})
        if current == scripts.get_current_head():
            return
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except Unavailable as error:
        raise Unusable(f"{error}: look at the path, its rights and who else uses it") from error
    except DatabaseError as error:
        raise Unusable(
            f"the database cannot be used ({error.orig}): "
            "restore the last backup, or move the file away to begin anew"
        ) from error


def _check_known(current: str | None, known: set[str]) -> None:
    if current is not None and current not in known:
        raise Unusable(
            f"the database has schema {current}, which a newer release wrote: "
            "upgrade stockpot, or restore a backup"
        )


def _check_integrity(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    answer = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if answer != "ok":
        raise Unusable(f"the database is damaged ({answer}): restore the last backup")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config
