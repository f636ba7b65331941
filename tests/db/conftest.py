from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import migrate, open_engine
from db.lease import Lease
from db.store import Store

from . import postgres
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


@pytest.fixture(scope="session")
def server() -> Iterator[Store]:
    """The same on PostgreSQL."""
    with postgres.schema() as url:
        store = Store(open_engine(url))
        migrate(store.engine)
        yield store
        store.engine.dispose()


@pytest.fixture(params=postgres.ENGINES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty database."""
    if request.param == "postgresql":
        yield postgres.emptied(request.getfixturevalue("server"))
    else:
        yield from _on_sqlite(request, "empty_database")


@pytest.fixture(params=postgres.ENGINES)
def told(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A database with the whole story."""
    if request.param == "postgresql":
        store = postgres.emptied(request.getfixturevalue("server"))
        tell(store, begin(store), [*STORY, *SECOND])
        yield store
    else:
        yield from _on_sqlite(request, "told_database")


@pytest.fixture
def file_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty SQLite file."""
    yield from _on_sqlite(request, "empty_database")


def _on_sqlite(request: pytest.FixtureRequest, original: str) -> Iterator[Store]:
    file: Path = request.getfixturevalue(original)
    store: Store = request.getfixturevalue("reused")
    replace_file(store, file)
    yield store
    store.engine.dispose()


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


@pytest.fixture
def file_lease(file_store: Store) -> Lease:
    return begin(file_store)
