"""What the planner speaks of: a step, and what its rules read besides the facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bot.config import Settings
from bot.sections import BaseSection
from db.facts import Request

HUB, COMPUTE, SEND = "hub", "compute", "publish"  # slots; one step at a time in the outer two


@dataclass(frozen=True)
class Step:
    """One thing to do. `key` names it by content: the same key is never run twice at once."""

    verb: str
    key: str
    base: str  # repo of the base
    base_id: int
    subject: int | None  # row id of what the verb works on
    slot: str
    due: datetime  # not before
    model: str | None = None  # the candidate that it is about


@dataclass(frozen=True)
class Context:
    """What a rule reads besides the facts."""

    settings: Settings
    section: BaseSection
    pair_digest: str | None  # of the router pair as configured now; None without a router section
    requests: tuple[Request, ...]  # open ones that concern this base
    paused: frozenset[str]
    now: datetime

    def asking(self, *verbs: str, model: str | None = None) -> list[Request]:
        """Open requests for one of `verbs` (or the whole cycle); with `model`, those that name it
        or name none."""
        return [
            request
            for request in self.requests
            if request.verb in (*verbs, "cycle")
            and (model is None or request.model in (None, model))
        ]

    def forced(self, *verbs: str, model: str | None = None) -> bool:
        return any(request.force for request in self.asking(*verbs, model=model))

    def named(self, model: str) -> bool:
        return any(request.model == model for request in self.requests)
