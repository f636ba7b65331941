"""The folders of a soup's members; one that is lost is told, and the choice made anew.

A member is lost when its repository is gone or closed. Its row is no longer admitted then, so that
the selection that names it is over (`bot.plan.needs_search`) and another one is due.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from bot.errors import Gone, Rejected
from bot.ground import unusable
from bot.world import World
from db import outcomes as o
from db.rows import CandidateRow


def fetch_members(
    world: World, members: Sequence[CandidateRow]
) -> Generator[o.Outcome, None, list[Path] | None]:
    """Their tensors in this order, or None after yielding that one of them is lost.

    Raises Misconfigured where it is the base, without which there is no choice to make.
    """
    folders = []
    for member in members:
        try:
            folders.append(world.shelf.weights(member)[0])
        except (Gone, Rejected) as error:
            if member.role == "base":
                raise unusable(member, error) from error
            yield from _lost(world, member, error)
            return None
    return folders


def _lost(world: World, member: CandidateRow, error: Gone | Rejected) -> Iterator[o.Outcome]:
    """Told under the base's name as well, where it is asked why there is no soup."""
    (base,) = (base for base in world.bases.values() if base.id == member.base_id)
    text = f"{member.pin} is lost, and with it this choice of members: {error}"
    yield o.Noted(base.id, base.repo, "member-lost", text)
    if isinstance(error, Rejected):
        yield o.Rejected(member.id, str(error.code), error.told)
    else:
        yield o.Withdrawn(member.id, str(error))


def abandoned(soup_id: int) -> o.Judged:
    """The end of a soup that lost a member before it was published."""
    text = "not published: a member is gone"
    return o.Judged(soup_id, False, {"reasons": [text]}, text)
