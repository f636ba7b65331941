"""The wiring: what a coordinator settles before its first round."""

from __future__ import annotations

from pathlib import Path

from bot.config import Settings
from bot.daemon import coordinator
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
