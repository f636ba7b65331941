from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from db.engine import migrate, open_engine
from db.reader import Reader
from db.store import Lease, Store

from .story import SECOND, STORY, begin, tell

COMPILED: dict[Any, Any] = {}  # statements are compiled once, not once for every test


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file; copying it is faster than migrating for every test."""
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()  # the last connection folds the log into the file
    return file


@pytest.fixture(scope="session")
def told_database(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The whole story, and a second soup that waits to be sent."""
    file = tmp_path_factory.mktemp("db") / "told.db"
    with opened(empty_database, file) as store:
        tell(store, begin(store), [*STORY, *SECOND])
    return file


@contextmanager
def opened(original: Path, copy: Path) -> Iterator[Store]:
    shutil.copy(original, copy)
    store = Store(open_engine(f"sqlite:///{copy}").execution_options(compiled_cache=COMPILED))
    yield store
    store.engine.dispose()


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    with opened(empty_database, tmp_path / "stockpot.db") as store:
        yield store


@pytest.fixture
def told(tmp_path: Path, told_database: Path) -> Iterator[Store]:
    with opened(told_database, tmp_path / "told.db") as store:
        yield store


@pytest.fixture
def lease(store: Store) -> Lease:
    return begin(store)


@pytest.fixture
def reader(store: Store, lease: Lease) -> Reader:
    return Reader(store.engine)
