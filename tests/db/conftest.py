from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import migrate, open_engine
from db.store import Lease, Store

from .story import SECOND, STORY, begin, tell

Factory = pytest.TempPathFactory


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: Factory) -> Path:
    """A migrated file; copying it is faster than migrating for every test."""
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()  # the last connection folds the log into the file
    return file


@pytest.fixture(scope="session")
def told_database(tmp_path_factory: Factory, empty_database: Path, reused: Store) -> Path:
    """The whole story, and a second soup that waits to be sent."""
    replace_file(reused, empty_database)
    tell(reused, begin(reused), [*STORY, *SECOND])
    reused.engine.dispose()
    return Path(shutil.copy(file_of(reused), tmp_path_factory.mktemp("db") / "told.db"))


@pytest.fixture(scope="session")
def reused(tmp_path_factory: Factory) -> Iterator[Store]:
    """One engine for all tests, on a file that changes: statements are compiled once."""
    file = tmp_path_factory.mktemp("db") / "stockpot.db"
    store = Store(open_engine(f"sqlite:///{file}"))
    yield store
    store.engine.dispose()


@pytest.fixture
def store(reused: Store, empty_database: Path) -> Iterator[Store]:
    replace_file(reused, empty_database)
    yield reused
    reused.engine.dispose()


@pytest.fixture
def told(reused: Store, told_database: Path) -> Iterator[Store]:
    replace_file(reused, told_database)
    yield reused
    reused.engine.dispose()


def file_of(store: Store) -> Path:
    return Path(str(store.engine.url.database))


def replace_file(store: Store, original: Path) -> None:
    store.engine.dispose()
    for suffix in ("-wal", "-shm"):
        Path(f"{file_of(store)}{suffix}").unlink(missing_ok=True)
    shutil.copy(original, file_of(store))


@pytest.fixture
def lease(store: Store) -> Lease:
    return begin(store)
