from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from db.engine import migrate, open_engine
from db.store import Store

from ..db import postgres
from .toy import Stage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture(scope="session")
def engines() -> list[Engine]:
    """One for each stage of a test, on files that change: statements are compiled once."""
    made = [open_engine("sqlite:///nowhere.db") for _ in range(2)]
    for engine in made:
        event.listen(engine, "connect", hasten)
    return made


def hasten(connection: Any, _record: Any) -> None:
    """No power fails here: processes end, and what they wrote is the kernel's."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def servers() -> Iterator[list[Engine]]:
    """The same on PostgreSQL."""
    with postgres.schema() as one, postgres.schema() as two:
        made = [open_engine(url) for url in (one, two)]
        for engine in made:
            migrate(engine)
        yield made
        for engine in made:
            engine.dispose()


@pytest.fixture(params=postgres.ENGINES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages, each on a database of its own."""
    on_server = request.param == "postgresql"
    engines: list[Engine] = request.getfixturevalue("servers" if on_server else "engines")
    free = iter(engines)

    def make(**more: Any) -> Stage:
        engine = next(free)
        if on_server:
            postgres.emptied(Store(engine))
        else:
            original = request.getfixturevalue("empty_database")
            connect_to(engine, shutil.copy(original, tmp_path / f"{engines.index(engine)}.db"))
        return Stage(engine, **more)

    yield make
    for engine in engines:
        engine.dispose()


def connect_to(engine: Engine, file: Path) -> None:
    """From now on to this file.

    A thread that a test left behind may still read the last one. So no file is used twice (one that
    changes below an open connection is a disk error to SQLite), and the pool is emptied after the
    switch: such a thread may have filled it.
    """

    def point(_dialect: Any, _record: Any, arguments: list[Any], _named: Any) -> None:
        arguments[0] = str(file)

    if (before := POINTED.pop(engine, None)) is not None:
        event.remove(engine, "do_connect", before)
    event.listen(engine, "do_connect", point)
    POINTED[engine] = point
    engine.dispose()


POINTED: dict[Engine, Callable[..., None]] = {}
