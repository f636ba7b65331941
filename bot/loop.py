"""Run due steps, keep their outcomes, plan again.

The loop thread plans, commits, renews the lease and answers requests; it never waits for a step.
Each slot (hub, compute, publish) runs one handler at a time in a thread of its own. A handler's
outcome travels to the loop thread, is committed there in one short transaction guarded by the
fencing token, and only then does the handler go on. That hand-over is the whole of crash safety:
whatever was yielded is kept, whatever was not is done again.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot import errors
from bot.plan import Context, Step, plan, scope
from bot.world import Base, Handler, World
from db.facts import BaseFacts, Request
from db.outcomes import Outcome, Paused
from db.store import Lease, LeaseLost, Store

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
MAX_FAILURES = 8  # then a step is parked until `bot retry`
MAX_INTERRUPTIONS = 3  # a step that ends its process so often is parked
BACKOFF = timedelta(seconds=15)  # doubles with every failure
BACKOFF_CAP = timedelta(hours=6)


@dataclass(frozen=True)
class Produced:
    """An outcome on its way to the database; `kept` is answered by the loop thread."""

    step: Step
    outcome: Outcome
    kept: Future[None]


@dataclass(frozen=True)
class Ended:
    """A handler came to its end, or to an exception."""

    step: Step
    error: Exception | None


class Loop:
    """One coordinator. `turn` is one round; `run` makes rounds until told to stop."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        world: World,
        handlers: Mapping[str, Handler],
        pair_digest: Callable[[World, Base], str | None],
    ) -> None:
        self.store = store
        self.lease = lease
        self.world = world
        self.handlers = handlers
        self.pair_digest = pair_digest
        self.inbox: queue.Queue[Produced | Ended | None] = queue.Queue()
        self.running: dict[str, Step] = {}  # slot -> step
        self._renewed = self.last_round = world.now()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._served: dict[int, int] = {}  # request id -> last event before it was first seen

    # -- rounds --------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Round after round until `stop`, LeaseLost, or `until` holds with nothing running."""
        while not self._stopping.is_set():
            waiting = self.turn()
            if not self.running and until():
                return
            self._receive(waiting)

    def run_until_quiet(self) -> None:
        """Until nothing is due now and nothing runs: `bot run --once`."""
        while not self._stopping.is_set():
            waiting = self.turn()
            if not self.running and waiting > timedelta(0):
                return
            self._receive(waiting)

    def stop(self) -> None:
        self._stopping.set()
        self.inbox.put(None)

    def wake(self) -> None:
        """Plan again now; safe from any thread."""
        self.inbox.put(None)

    def put_down(self) -> None:
        """After a stop: what still runs is dropped, without counting as a failure.

        Outcomes that were kept stay; a handler that yields another learns that the lease is lost.
        """
        self._stopping.set()
        for step in self.running.values():
            self.store.interrupt_attempt(step.key, self.world.now())
        for thread in self._threads:
            while thread.is_alive():
                with suppress(queue.Empty):
                    message = self.inbox.get(timeout=0.1)
                    if isinstance(message, Produced):
                        message.kept.set_exception(LeaseLost("the loop has stopped"))
        self.running.clear()

    def turn(self) -> timedelta:
        """Start what is due; how long nothing else will be."""
        now = self.last_round = self.world.now()
        if now - self._renewed > LEASE / 3:
            self.store.renew_lease(self.lease, now, LEASE)
            self._renewed = now
        steps = self.steps(now)
        self._answer_requests(steps, now)
        for step in steps:
            if step.due <= now and step.slot not in self.running:
                self._start(step, now)
        idle = [s.due - now for s in steps if s.slot not in self.running and s.due > now]
        return min([*idle, LEASE / 3])

    def steps(self, now: datetime) -> list[Step]:
        """Every step of every base that does not run already, earliest first; stable."""
        requests = self.world.reader.open_requests()
        paused = self.world.reader.paused()
        running = {step.key for step in self.running.values()}
        found: list[Step] = []
        for base in self.world.bases.values():
            context = self._context(base, requests, paused, now)
            found += plan(self._facts(base, now), context)
        return sorted((s for s in found if s.key not in running), key=lambda s: max(s.due, now))

    def _facts(self, base: Base, now: datetime) -> BaseFacts:
        categories = len(base.benchmark.categories)
        return self.world.reader.facts(base.id, base.benchmark.id, categories, now)

    def _context(
        self, base: Base, requests: tuple[Request, ...], paused: frozenset[str], now: datetime
    ) -> Context:
        mine = tuple(r for r in requests if r.base in (None, base.repo))
        pair = self.pair_digest(self.world, base)
        return Context(self.world.settings, base.section, pair, mine, paused, now)

    # -- steps ---------------------------------------------------------------------------------

    def _start(self, step: Step, now: datetime) -> None:
        self.store.begin_attempt(self.lease, step.key, step.base_id, now)
        self.running[step.slot] = step
        log.info("%s", step.key)
        thread = threading.Thread(target=self._work, args=(step,), name=step.key, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _work(self, step: Step) -> None:
        """In the slot's thread: drive the handler, one kept outcome at a time."""
        error: Exception | None = None
        try:
            for outcome in self.handlers[step.verb](step, self.world):
                kept: Future[None] = Future()
                self.inbox.put(Produced(step, outcome, kept))
                kept.result()
        except Exception as raised:  # noqa: BLE001 - the loop thread sorts it, nothing is lost
            error = raised
        self.inbox.put(Ended(step, error))

    def _receive(self, waiting: timedelta) -> None:
        """Take what arrived, at least one message, or none after `waiting`."""
        try:
            message = self.inbox.get(timeout=max(waiting.total_seconds(), 0.0))
            while True:
                self._handle(message)
                message = self.inbox.get_nowait()
        except queue.Empty:
            return

    def _handle(self, message: Produced | Ended | None) -> None:
        if isinstance(message, Produced):
            try:
                self.store.keep(self.lease, message.outcome, self.world.now())
            except Exception as error:  # the handler must not wait for ever
                message.kept.set_exception(error)
                if isinstance(error, LeaseLost):
                    raise
            else:
                message.kept.set_result(None)
        elif isinstance(message, Ended):
            del self.running[message.step.slot]
            self._conclude(message.step, message.error)

    def _conclude(self, step: Step, error: Exception | None) -> None:
        now = self.world.now()
        if error is None:
            self.store.end_attempt(self.lease, step.key)
            return
        if isinstance(error, LeaseLost | errors.LeaseLost):
            raise LeaseLost(str(error))
        verdict = self._sort(step, error, now)
        text = str(error) or type(error).__name__
        log.log(verdict.level, "%s: %s", step.key, text, exc_info=error if verdict.bug else None)
        self.store.fail_attempt(
            self.lease,
            step.key,
            f"{type(error).__name__}: {text}",
            now,
            not_before=verdict.not_before,
            parked=verdict.parked,
            subject=step.base,
            base_id=step.base_id,
        )

    def _sort(self, step: Step, error: Exception, now: datetime) -> _Verdict:
        """What happens next, by the class of the error (`bot/errors.py`)."""
        base = self._base_of(step)
        attempt = self._facts(base, now).attempts.get(step.key)
        failures = attempt.failures if attempt else 0
        wait = min(BACKOFF * 2**failures, BACKOFF_CAP)
        spent = failures + 1 >= MAX_FAILURES
        if isinstance(error, errors.Transient) and error.retry_after is not None:
            wait = max(wait, timedelta(seconds=error.retry_after))
        if isinstance(error, errors.Forbidden):
            self.store.keep(self.lease, Paused("publish", str(error)), now)
            return _Verdict(now + BACKOFF_CAP, False, logging.ERROR)
        if isinstance(error, errors.Broken) or not isinstance(error, errors.Fault):
            return _Verdict(None, True, logging.ERROR, bug=True)
        return _Verdict(now + wait, spent, logging.WARNING)

    def _base_of(self, step: Step) -> Base:
        return self.world.bases[step.base]

    # -- requests --------------------------------------------------------------------------------

    def _answer_requests(self, steps: list[Step], now: datetime) -> None:
        """A request is done when nothing that it waits for is due, running or on its way."""
        for request in self.world.reader.open_requests():
            refusal = self._refusal(request)
            if refusal:
                self.store.answer(self.lease, request.id, "refused", refusal, now)
            elif request.id not in self._served:
                self._served[request.id] = self.world.reader.last_event()
                self.wake()  # plan once with it before it can be called done
            elif not self._pending(request, steps, now):
                done = self.world.reader.last_event() - self._served.pop(request.id)
                text = f"{done} events" if done else "nothing to do"
                self.store.answer(self.lease, request.id, "done", text, now)

    def _refusal(self, request: Request) -> str | None:
        if request.base is not None and request.base not in self.world.bases:
            return f"{request.base} is not a configured base"
        return None

    def _pending(self, request: Request, steps: list[Step], now: datetime) -> bool:
        verbs = scope(request.verb)
        due = [s for s in steps if s.due <= now] + list(self.running.values())
        return any(
            (s.verb in verbs or "*" in verbs) and request.base in (None, s.base) for s in due
        )


@dataclass(frozen=True)
class _Verdict:
    not_before: datetime | None
    parked: bool
    level: int
    bug: bool = False
