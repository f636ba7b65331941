"""The version before: what readers of the target get now, the soup in it, and its outcomes.

A step reads once which one it is (`version_before`) and stays with it. Whether it still is is asked
again when the soup that was compared with it is drafted (`is_overtaken`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bot.build import written
from bot.evaluate import score
from bot.study import Study
from bot.table import outcomes_of_soup
from bot.trial import read
from bot.world import Base, World
from db import outcomes as o
from db.rows import SoupRow
from db.schema import SENDING
from merge.outcomes import Outcomes
from merge.simplex import Weights
from merge.splits import Split


@dataclass(frozen=True)
class Before:
    """One version of the target, and what is in it."""

    version: int
    soup: SoupRow

    def to_json(self) -> dict[str, int]:
        return {"version": self.version, "soup": self.soup.id}


def version_before(world: World, base: Base) -> Before | None:
    """None where nothing of this base is published at its target."""
    row = world.reader.version_before(base.id, base.section.target)
    if row is None:
        return None
    assert row.soup_id is not None
    return Before(row.version, world.reader.soup(row.soup_id))


def is_overtaken(world: World, base: Base, soup: SoupRow) -> bool:
    """Whether another version than the one that the soup's verdict is about is at the target, or
    may get there. A verdict that names none is older than this question."""
    rows = world.reader.publications(base.section.target)
    if any(row.base_id == base.id and row.state in SENDING for row in rows):
        return True
    before = version_before(world, base)
    told = soup.verdict or {}
    now = None if before is None else before.to_json()
    return "version_before" not in told or told["version_before"] != now


def score_incumbent(
    world: World, base: Base, before: Before | None, split: Split
) -> Iterator[o.Outcome]:
    """What is missing of it: report items were answered when it was judged, unless the benchmark
    has changed since; tune items by its own second round, if it had one."""
    if before is None:
        return
    row = before.soup
    if not (_is_of(row, base) and (split is Split.REPORT or _second(row))):
        folder = yield from written(world, row)
        yield from score(world, base, split, folder, soup_id=row.id)


def incumbent_outcomes(
    world: World, base: Base, before: Before | None, split: Split
) -> Outcomes | None:
    """None where nothing is published. On tune items those of its second round; without one, of the
    soup itself, whose search saw them: it looks better then than it is, never worse."""
    if before is None:
        return None
    row = before.soup
    second = _second(row) if _is_of(row, base) and split is Split.TUNE else None
    if second is None:
        return outcomes_of_soup(world, base, split, row.id)
    return Study(world, base, world.reader.search(row.search_id)).known()[second]


def _is_of(row: SoupRow, base: Base) -> bool:
    return row.benchmark_id == base.benchmark.id


def _second(row: SoupRow) -> Weights | None:
    """The weights of its second round (`bot.second_round`)."""
    second = (row.verdict or {}).get("second_round")
    return None if second is None else read(second["weights"])
