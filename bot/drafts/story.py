"""Everything that is known about one soup that passed its gate, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.table import outcomes_of, outcomes_of_soup
from bot.world import Base, World
from db.rows import CandidateRow, MemberRow, SearchRow, SelectionRow, SoupRow
from merge.outcomes import Outcomes
from merge.recipe import Recipe
from merge.splits import Split


@dataclass(frozen=True)
class Story:
    """Rows and outcomes of one soup; `search.best` and the verdict are there."""

    base: Base
    soup: SoupRow
    recipe: Recipe
    members: tuple[MemberRow, ...]  # of the search, in its order; weight 0 where it left one out
    reference: CandidateRow
    search: SearchRow
    selection: SelectionRow
    rival: tuple[CandidateRow, ...]  # whom the other method of selection would have taken
    look: int
    level: float
    verdict: Mapping[str, Any]
    report: Mapping[str, Outcomes]  # "soup", "base" and each member's pin
    incumbent: str | None  # tag of the version before, which the verdict compares with


def read_story(world: World, base: Base, soup_id: int) -> Story:
    read = world.reader
    soup = read.soup(soup_id)
    search = read.search(soup.search_id)
    selection = read.selection(search.selection_id)
    used = {m.candidate.id: m for m in read.soup_members(soup_id)}
    everyone = read.candidates(search.members)
    members = tuple(used.get(c.id, MemberRow(c, 0, 1)) for c in everyone)
    reference = read.base_candidate(base.id)
    look = read.look_of(soup_id, base.benchmark.splits.digest)
    assert soup.verdict is not None and search.best is not None and look is not None
    ids = [m.candidate.id for m in members]
    rows = outcomes_of(world, base, Split.REPORT, [*ids, reference.id])
    report = {m.candidate.pin: rows[m.candidate.id] for m in members}
    report["base"] = rows[reference.id]
    report["soup"] = outcomes_of_soup(world, base, Split.REPORT, soup_id)
    before = soup.verdict["version_before"]
    return Story(
        base=base,
        soup=soup,
        recipe=Recipe.from_json(soup.recipe),
        members=members,
        reference=reference,
        search=search,
        selection=selection,
        rival=tuple(read.candidates(selection.figures["rival"]["members"])),
        look=look.k,
        level=look.level,
        verdict=soup.verdict,
        report=report,
        incumbent=None if before is None else f"v{before['version']}",
    )
