from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.engine import migrate, open_engine
from db.store import Store

from .family import Family, Kitchen
from .street import Street, open_street


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture
def kitchen(tmp_path: Path, empty_database: Path) -> Iterator[Callable[..., Kitchen]]:
    """Makes kitchens, each on a database of its own."""
    stores: list[Store] = []

    def make(family: Family, **section: Any) -> Kitchen:
        file = shutil.copy(empty_database, tmp_path / f"{len(stores)}.db")
        stores.append(Store(open_engine(f"sqlite:///{file}")))
        return Kitchen(stores[-1], tmp_path, family, **section)

    yield make
    for store in stores:
        store.engine.dispose()


@pytest.fixture
def street(tmp_path: Path, empty_database: Path) -> Iterator[Street]:
    shutil.copy(empty_database, tmp_path / "stockpot.db")
    with open_street(tmp_path) as made:
        yield made
