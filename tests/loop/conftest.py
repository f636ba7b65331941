from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.engine import migrate, open_engine

from .toy import Stage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture
def stage(tmp_path: Path, empty_database: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages, each on a database file of its own."""
    made: list[Stage] = []

    def make(**more: Any) -> Stage:
        file = tmp_path / f"{len(made)}.db"
        shutil.copy(empty_database, file)
        made.append(Stage(file, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
