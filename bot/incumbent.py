"""The version before: the soup that readers of the target get now, and its outcomes."""

from __future__ import annotations

from collections.abc import Iterator

from bot.build import written
from bot.evaluate import score
from bot.study import Study
from bot.table import outcomes_of_soup
from bot.trial import read
from bot.world import Base, World
from db import outcomes as o
from db.rows import SoupRow
from merge.outcomes import Outcomes
from merge.simplex import Weights
from merge.splits import Split


def score_incumbent(world: World, base: Base, split: Split) -> Iterator[o.Outcome]:
    """What is missing of it: report items were answered when it was judged, unless the benchmark
    has changed since; tune items by its own second round, if it had one."""
    row = world.reader.incumbent(base.id)
    if row is not None and not (_is_of(row, base) and (split is Split.REPORT or _second(row))):
        folder = yield from written(world, row)
        yield from score(world, base, split, folder, soup_id=row.id)


def incumbent_outcomes(world: World, base: Base, split: Split) -> Outcomes | None:
    """None where nothing is published. On tune items those of its second round; without one, of the
    soup itself, whose search saw them: it looks better then than it is, never worse."""
    row = world.reader.incumbent(base.id)
    if row is None:
        return None
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
