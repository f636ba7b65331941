"""The folders of a soup's members; a member that is gone is withdrawn, and the choice made anew."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from bot.errors import Gone
from bot.world import World
from db import outcomes as o
from db.rows import CandidateRow


def fetch_members(
    world: World, members: Sequence[CandidateRow]
) -> Generator[o.Outcome, None, list[Path] | None]:
    """Their tensors in this order, or None after yielding that one of them is gone."""
    folders = []
    for member in members:
        try:
            folders.append(world.shelf.weights(member)[0])
        except Gone as error:
            yield o.Withdrawn(member.id, str(error))
            return None
    return folders


def abandoned(soup_id: int) -> o.Judged:
    """The end of a soup that lost a member before it was published."""
    text = "not published: a member is gone"
    return o.Judged(soup_id, False, {"reasons": [text]}, text)
