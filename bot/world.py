"""What a handler may use: settings, the database (read-only), the Hub door, children, a clock.

A handler is a generator `(step, world) -> Iterator[Outcome]`. It yields whatever is worth keeping
as soon as it exists; the loop commits it before the handler goes on, so a read right after a
`yield` sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from bot.config import Settings
from bot.executors import Executor
from bot.hub import Hub
from bot.sections import BaseSection
from bot.shelf import Shelf
from bot.steps import Step
from bot.suites import Suite, items
from db.outcomes import Outcome
from db.reader import Reader
from merge.splits import Split, Splits


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Benchmark:
    """A suite under fixed splits, registered in the database."""

    id: int
    suite: Suite
    splits: Splits
    location: str  # what a child is told: a built-in name or an absolute path

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.suite.categories)

    def clusters(self, split: Split) -> dict[str, list[str]]:
        """Category -> cluster id of each item of the split, in item order."""
        chosen = items(self.suite, self.splits, split)
        return {name: [item.cluster for item in found] for name, found in chosen.items()}

    @property
    def all_clusters(self) -> dict[str, list[str]]:
        """The same for the items of all splits."""
        return {c.name: [item.cluster for item in c.items] for c in self.suite.categories}

    def sizes(self, split: Split) -> dict[str, int]:
        """Category -> number of items of the split."""
        return {name: len(found) for name, found in self.clusters(split).items()}


@dataclass(frozen=True)
class Base:
    """One configured base, with its row id and benchmark."""

    id: int
    section: BaseSection
    benchmark: Benchmark

    @property
    def repo(self) -> str:
        return self.section.repo


@dataclass(frozen=True)
class World:
    settings: Settings
    reader: Reader
    hub: Hub
    executor: Executor
    bases: Mapping[str, Base]
    fence: Callable[[], None]  # raises LeaseLost; called right before every write to the Hub
    now: Callable[[], datetime] = utc_now

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.hub, self.settings.data)


class Handler(Protocol):
    def __call__(self, step: Step, world: World) -> Iterator[Outcome]: ...
