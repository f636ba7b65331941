"""Handlers against a real Hub, a real database and real children, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.config import Settings
from bot.daemon import coordinator
from bot.demo.strangers import BASE, ORG, Strangers
from bot.localhub import LocalHub
from bot.loop import Loop
from bot.sections import BaseSection
from bot.steps import Step
from bot.world import Handler
from db import outcomes as o
from db.rows import CandidateRow


@dataclass
class Street:
    """The Hub, what strangers put there, and one bot whose loop stands still."""

    hub: LocalHub
    strangers: Strangers
    settings: Settings
    loop: Loop

    @property
    def base(self) -> CandidateRow:
        return self.candidate("base")

    def candidate(self, name: str) -> CandidateRow:
        """As the database has it now."""
        reader = self.loop.world.reader
        number = 1
        while (row := reader.candidate(number)).repo != f"{ORG}/{name}":
            number += 1
        return row

    def push(self, name: str) -> CandidateRow:
        """A member of the family appears on the Hub, and is seen."""
        sha = self.strangers.push(name)
        base = self.loop.world.bases[BASE]
        now = self.loop.world.now()
        self.keep(o.Sighted(base.id, f"{ORG}/{name}", sha, ORG, now, now))
        return self.candidate(name)

    def keep(self, outcome: o.Outcome) -> None:
        self.loop.store.keep(self.loop.lease, outcome, self.loop.world.now())

    def run(self, handler: Handler, candidate: CandidateRow | None = None) -> list[o.Outcome]:
        """Every outcome is kept before the handler goes on."""
        world = self.loop.world
        subject = None if candidate is None else candidate.id
        verb: Any = handler
        step = Step(verb.__name__, verb.__name__, BASE, 1, subject, "compute", world.now())
        kept = []
        for outcome in handler(step, world):
            self.keep(outcome)
            kept.append(outcome)
        return kept


@contextmanager
def open_street(folder: Path) -> Iterator[Street]:
    with LocalHub(folder / "hub", users={"someone": (ORG,), "stockpot": ()}) as hub:
        strangers = Strangers.on(hub)
        settings = Settings(
            endpoint=hub.url,
            token=hub.token("stockpot"),
            data=folder / "data",
            database=f"sqlite:///{folder / 'stockpot.db'}",
            child_gb=4.0,
            bases=(BaseSection(repo=BASE, sha=strangers.push("base"), target="stockpot/soup"),),
        )
        with coordinator(settings) as loop:
            yield Street(hub, strangers, settings, loop)
