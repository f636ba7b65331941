"""Handlers against a real Hub, a real database and real children, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd
from sqlalchemy import func, select

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
from db.schema import metadata


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
        """As the database has it now; what was seen last."""
        table = metadata.tables["candidates"]
        query = select(func.max(table.c.id)).where(table.c.repo == f"{ORG}/{name}")
        with self.loop.store.engine.connect() as connection:
            newest = connection.execute(query).scalar_one()
        return self.loop.world.reader.candidate(newest)

    def push(self, name: str) -> CandidateRow:
        """A member of the family appears on the Hub, and is seen."""
        return self._see(name, self.strangers.push(name))

    def edit(self, name: str, files: Mapping[str, str]) -> CandidateRow:
        """Its author changes it."""
        done = self.strangers.api.create_commit(
            f"{ORG}/{name}",
            [CommitOperationAdd(path, text.encode()) for path, text in files.items()],
            commit_message="Edit",
        )
        return self._see(name, str(done.oid))

    def allow_private(self, allowed: bool) -> None:
        world = self.loop.world
        base = world.bases[BASE]
        section = base.section.model_copy(update={"allow_private": allowed, "private": allowed})
        self.loop.world = replace(world, bases={BASE: replace(base, section=section)})

    def _see(self, name: str, sha: str) -> CandidateRow:
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
