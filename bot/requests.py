"""What people ask for (`bot trigger`), answered once nothing that it waits for is due or runs.

Not promised: that what was asked for succeeded; the answer says how much failed and waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.plan import SCOPE, waits_for
from bot.steps import Step
from bot.world import Base, World
from db.facts import BaseFacts, Request
from db.lease import Lease
from db.store import Store


@dataclass(frozen=True)
class View:
    """One base at one moment: what is known, and what follows."""

    base: Base
    facts: BaseFacts
    steps: tuple[Step, ...]


class Desk:
    """Where requests are taken in and answered; the loop asks in every round."""

    def __init__(self, store: Store, lease: Lease, world: World) -> None:
        self.store = store
        self.lease = lease
        self.world = world
        self._served: dict[int, int] = {}  # request id -> last event before it was first seen

    @property
    def busy(self) -> bool:
        """Somebody waits for an answer."""
        return bool(self._served)

    def answer(self, views: Sequence[View], running: Sequence[Step], now: datetime) -> bool:
        """Answer what can be; whether a request is new and must be planned with first."""
        news = False
        for request in self.world.reader.open_requests():
            if refusal := self._refusal(request):
                self._served.pop(request.id, None)
                self.store.answer(self.lease, request.id, "refused", refusal, now)
            elif request.id not in self._served:
                self._served[request.id] = self.world.reader.last_event()
                news = True
            elif not any(_waits(request, view, running, now) for view in views):
                text = self._summary(request, views)
                self.store.answer(self.lease, request.id, "done", text, now)
                del self._served[request.id]
        return news

    def _refusal(self, request: Request) -> str | None:
        if request.base is not None and request.base not in self.world.bases:
            return f"{request.base} is not a configured base"
        paused = self.world.reader.paused()
        if "all" in paused:
            return "everything is paused: `bot resume`"
        if "publish" in paused and request.verb == "publish":
            return "publishing is paused: `bot resume publish`"
        return None

    def _summary(self, request: Request, views: Sequence[View]) -> str:
        events = self.world.reader.last_event() - self._served[request.id]
        mine = [view for view in views if request.base in (None, view.base.repo)]
        tried = [(k, a) for view in mine for k, a in view.facts.attempts.items()]
        verbs = {*SCOPE[request.verb], "watch"}
        failed = sum(k.partition(":")[0] in verbs and a.failures > 0 for k, a in tried)
        text = f"{events} events" if events else "nothing to do"
        return f"{text}; failed and waiting: {failed} (`bot status`)" if failed else text


def _waits(request: Request, view: View, running: Sequence[Step], now: datetime) -> bool:
    if request.base not in (None, view.base.repo):
        return False
    mine = [step for step in running if step.base == view.base.repo]
    due = [step for step in view.steps if step.due <= now]
    return waits_for(request, view.facts, [*due, *mine])
