"""Who is welcome, who is scored next, and whether today's budget allows it. All pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from bot.sections import BaseSection, Order
from db.facts import BaseFacts, Candidate


def is_welcome(author: str, allow: Collection[str], deny: Collection[str]) -> bool:
    """By the lists of authors; an empty `allow` is everybody. The Hub's names have no case."""
    name = author.casefold()
    denied = name in {one.casefold() for one in deny}
    return not denied and (not allow or name in {one.casefold() for one in allow})


def over_budget(facts: BaseFacts, section: BaseSection) -> bool:
    """Whether the last 24 hours used up the computing or the downloads of a day."""
    return (
        facts.spent_seconds >= section.compute_hours_per_day * 3600
        or facts.spent_bytes >= section.download_gb_per_day * 1e9
    )


def in_order(candidates: Sequence[Candidate], order: Order) -> list[Candidate]:
    """The base first, then by `order`; ties by id, so that the same facts give the same order."""
    keys: dict[Order, Callable[[Candidate], tuple[float, int]]] = {
        Order.NEWEST: lambda c: (-(c.created_at or c.seen_at).timestamp(), c.id),
        Order.LIKES: lambda c: (-c.likes, c.id),
        Order.DOWNLOADS: lambda c: (-c.downloads, c.id),
        Order.AUTHORS: lambda c: (_turn(c, candidates), c.id),
    }
    return sorted(candidates, key=lambda c: (c.role != "base", *keys[order](c)))


def _turn(candidate: Candidate, candidates: Sequence[Candidate]) -> int:
    """How many of the same author stand before it: round robin over authors."""
    return sum(c.author == candidate.author and c.id < candidate.id for c in candidates)
