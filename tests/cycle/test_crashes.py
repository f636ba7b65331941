"""Killed in the middle and started again: the same end, and never two publications."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.cycle.conftest import SOUP, Town, open_town


@pytest.fixture
def town(tmp_path: Path, small_suite: Path) -> Iterator[Town]:
    with open_town(tmp_path, small_suite, "arith", "string") as town:
        yield town


def start(town: Town) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bot", "run", "--once", "--config", str(town.config)]
    with (town.folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def count(town: Town, query: str) -> int:
    try:
        with sqlite3.connect(town.folder / "stockpot.db") as connection:
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def wait_for(town: Town, query: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not count(town, query):
        assert process.poll() is None, (town.folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


MOMENTS = {
    "while scoring": "SELECT count(*) FROM scores",
    "while searching": "SELECT count(*) FROM trials",
    "while judging": "SELECT count(*) FROM looks",
    "before sending": "SELECT count(*) FROM publications",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_costs_nothing_but_time(town: Town, moment: str) -> None:
    process = start(town)
    wait_for(town, MOMENTS[moment], process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    trials = count(town, "SELECT count(*) FROM trials")
    assert start(town).wait(timeout=180) == 0
    assert_published_once(town)
    assert count(town, "SELECT count(*) FROM trials") >= trials
    assert count(town, "SELECT count(*) FROM looks") == 1


def assert_published_once(town: Town) -> None:
    api = HfApi(endpoint=town.hub.url, token=False)
    versions = [c.title for c in api.list_repo_commits(SOUP) if c.title.startswith("Version")]
    assert len(versions) == 1
    assert count(town, "SELECT count(*) FROM publications WHERE state = 'verified'") == 1


def test_children_end_with_their_daemon(town: Town) -> None:
    process = start(town)
    wait_for(town, "SELECT count(*) FROM attempts WHERE step LIKE 'evaluate%'", process)
    children = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
