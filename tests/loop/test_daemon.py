"""The wiring: who coordinates, and what is settled before the first round."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bot.config import Settings
from bot.daemon import coordinator, open_store
from bot.errors import Misconfigured
from bot.sections import BaseSection
from bot.world import utc_now
from db import report
from db.store import Store
from tests.handlers.family import write_suite


def parked(store: Store) -> list[str]:
    return [trouble.step for trouble in report.status(store.engine, utc_now()).troubles]


def test_what_a_benchmark_parked_has_a_new_chance_under_the_next(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", 30)
    section = BaseSection(repo="us/base", sha="0" * 40, target="us/soup", benchmark=str(suite))
    database = f"sqlite:///{tmp_path / 'stockpot.db'}"
    settings = Settings(data=tmp_path / "data", database=database, bases=(section,))
    with coordinator(settings) as loop:
        for step in ("admit:1", "evaluate:1"):
            loop.store.begin_attempt(loop.lease, step, 1, utc_now())
            loop.store.fail_attempt(
                loop.lease, step, "broke", utc_now(), not_before=None, parked=True
            )
    with coordinator(settings) as loop:
        assert parked(loop.store) == ["admit:1", "evaluate:1"]
    text = (suite / "suite.json").read_text()
    (suite / "suite.json").write_text(text.replace('"version": "1"', '"version": "2"'))
    with coordinator(settings) as loop:
        assert parked(loop.store) == ["admit:1"]


HOLDER = """
import sys, time
from bot.config import Settings
from bot.daemon import coordinator
with coordinator(Settings(data=sys.argv[1], database=sys.argv[2])):
    print("holding", flush=True)
    time.sleep(600)
"""
APART = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@contextmanager
def holding(settings: Settings, *within: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process coordinates; it is killed at the end, if it still lives."""
    command = [*within, sys.executable, "-c", HOLDER, str(settings.data), settings.database]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.skip("this kernel grants no namespace of process numbers")
            yield process
        finally:
            process.kill()


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", database=f"sqlite:///{tmp_path / 'stockpot.db'}")


@pytest.mark.parametrize("within", [(), APART], ids=["here", "in another namespace"])
def test_a_coordinator_that_lives_is_left_its_lease(alone: Settings, within: Sequence[str]) -> None:
    """In the other namespace it is process 1 or 2: here nobody is, or somebody else."""
    with holding(alone, *within), pytest.raises(Misconfigured), coordinator(alone):
        pass


def test_one_that_was_killed_here_need_not_be_waited_for(alone: Settings) -> None:
    with holding(alone) as process:
        process.kill()
        process.wait()
        with coordinator(alone) as loop:
            assert loop.lease.token == 2


@pytest.mark.parametrize(
    "holder", ["{host}:{pid}:0badcafe", "{host}:{pid}::0badcafe", "{host}:{pid}:elsewhere:0", "who"]
)
def test_nobody_is_dead_by_name_and_number_alone(alone: Settings, holder: str) -> None:
    """Another container of the same host name, whose coordinator has the same number."""
    name = holder.format(host=os.uname().nodename, pid=os.getpid())
    store = open_store(alone)
    assert store.take_lease(name, utc_now(), timedelta(seconds=60)) is not None
    store.engine.dispose()
    with pytest.raises(Misconfigured), coordinator(alone):
        pass
