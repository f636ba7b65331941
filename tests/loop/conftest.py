from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from db.engine import migrate, open_engine

from .toy import Stage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[Engine]:
    """One for each stage of a test, on files that change: statements are compiled once."""
    folder = tmp_path_factory.mktemp("db")
    made = [open_engine(f"sqlite:///{folder / str(n)}.db") for n in range(2)]
    for engine in made:
        event.listen(engine, "connect", hasten)
    return made


def hasten(connection: Any, _record: Any) -> None:
    """No power fails here: processes end, and what they wrote is the kernel's."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def stage(engines: list[Engine], empty_database: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages, each on a database of its own."""
    free = iter(engines)

    def make(**more: Any) -> Stage:
        engine = next(free)
        for suffix in ("-wal", "-shm"):
            Path(f"{engine.url.database}{suffix}").unlink(missing_ok=True)
        shutil.copy(empty_database, str(engine.url.database))
        return Stage(engine, **more)

    yield make
    for engine in engines:
        engine.dispose()
