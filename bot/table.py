"""From stored rows to the values that `merge` works on, and back to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bot.errors import Broken
from bot.world import Base, World
from db.rows import ScoreRow
from merge.outcomes import Outcomes
from merge.scores import ScoreTable
from merge.splits import Split


def outcomes(rows: Sequence[ScoreRow], base: Base, split: Split) -> Outcomes:
    """One subject's outcomes on one split, in the suite's category order.

    Raises:
        Broken: a category is missing.
    """
    bits = {row.category: row.outcomes for row in rows}
    missing = [c for c in base.benchmark.categories if c not in bits]
    if missing:
        raise Broken(f"no {split} scores for {', '.join(missing)}")
    return Outcomes.from_bits(split, {c: bits[c] for c in base.benchmark.categories})


def outcomes_of(
    world: World, base: Base, split: Split, candidates: Sequence[int]
) -> dict[int, Outcomes]:
    """Candidate id -> outcomes, in the order given."""
    rows = world.reader.scores(base.benchmark.id, str(split), candidates=candidates)
    return {
        i: outcomes([row for row in rows if row.candidate_id == i], base, split) for i in candidates
    }


def outcomes_of_soup(world: World, base: Base, split: Split, soup_id: int) -> Outcomes:
    rows = world.reader.scores(base.benchmark.id, str(split), soups=[soup_id])
    return outcomes(rows, base, split)


def score_table(by_model: Mapping[str, Outcomes], base: Base) -> ScoreTable:
    """Rows are models by name, columns the categories in suite order."""
    values = np.array([outcomes.scores() for outcomes in by_model.values()])
    return ScoreTable(tuple(by_model), base.benchmark.categories, values)
