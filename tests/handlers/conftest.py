from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from bot.localhub import LocalHub
from db.engine import migrate, open_engine
from db.store import Store

from .family import Family, Kitchen
from .press import Press
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


@pytest.fixture
def presses(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Press]]:
    """Makes presses on one Hub; those with the same `database` share it.

    Without Xet, so that every request of an upload is one that a fault can strike.
    """
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    stores: dict[str, Store] = {}
    with LocalHub(tmp_path / "hub", users={"us": ()}, xet=False) as hub:

        def make(target: str = "us/soup", database: str = "a") -> Press:
            if database not in stores:
                file = shutil.copy(empty_database, tmp_path / f"{database}.db")
                stores[database] = Store(open_engine(f"sqlite:///{file}"))
            return Press(hub, stores[database], tmp_path, target)

        yield make
    for store in stores.values():
        store.engine.dispose()


@pytest.fixture
def press(presses: Callable[..., Press]) -> Press:
    return presses()
