"""Run due steps, keep their outcomes, plan again.

The loop thread plans, commits, renews the lease and answers requests; it never waits for a step.
Each slot (hub, compute, publish) runs a fixed number of handlers, each in a thread of its own. A
handler's outcome travels to the loop thread, is committed there in one short transaction guarded by
the fencing token, and only then does the handler go on. That hand-over is the whole of crash
safety: whatever was yielded is kept, whatever was not is done again.

Not promised: that a handler ends when it is asked to. One that does not is left to its thread,
which the fence keeps from writing anything.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

from bot import errors
from bot.failures import Idle, pauses_publishing, sort
from bot.plan import plan
from bot.requests import Desk, View
from bot.steps import COMPUTE, HUB, SEND, Context, Step
from bot.world import Base, Handler, World
from db.engine import Unavailable
from db.lease import Lease, LeaseLost
from db.outcomes import Outcome, Paused, Spent
from db.store import Store
from merge.errors import printable

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
OUTCOMES_ALONE = 0.5  # seconds of outcomes without a new plan
BREATH = 1.0  # seconds between two looks at a database that does not answer
HOLD = 60.0  # seconds that an outcome waits for it; hours of work may stand behind one
LONGEST_ERROR = 4000  # characters of an error that are logged and kept; it may quote strangers
PATIENCE = 8.0  # seconds that a stop waits for handlers; container engines kill after ten


@dataclass(frozen=True)
class Produced:
    """An outcome on its way to the database; `kept` is answered by the loop thread."""

    step: Step
    outcome: Outcome
    kept: Future[None] = field(default_factory=Future)
    since: float = field(default_factory=monotonic)


@dataclass(frozen=True)
class Ended:
    """A handler came to its end, or to an exception. seconds: those that it did not account for."""

    step: Step
    error: BaseException | None
    seconds: float


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
        # Signal handlers put into it: SimpleQueue.put is reentrant, Queue.put can deadlock there.
        self.inbox: queue.SimpleQueue[Produced | Ended | None] = queue.SimpleQueue()
        self.running: dict[str, Step] = {}  # key -> step
        self.capacity = {HUB: 1, COMPUTE: world.settings.compute_slots, SEND: 1}
        self._renewed = self.last_round = world.now()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: dict[str, int] = {}  # key of a running step -> how often it failed before
        self._turns: dict[tuple[str, str], int] = {}  # slot, base -> number of its last start
        self.desk = Desk(store, lease, world)

    # -- rounds --------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Round after round until `stop`, LeaseLost, or `until` holds; what runs then is for
        `put_down`. Somewhere there is always something to do."""
        while not self._stopping.is_set():
            with self._patience():
                if until():
                    return
                self._receive(self.turn())

    def run_until_quiet(self) -> None:
        """Until nothing is due now, nothing runs and nobody waits for an answer."""
        while not self._stopping.is_set():
            with self._patience():
                waiting = self.turn()
                if not self.running and not self.desk.busy and waiting > timedelta(0):
                    return
                self._receive(waiting)

    def stop(self) -> None:
        self._stopping.set()
        self.inbox.put(None)

    def wake(self) -> None:
        """Plan again now; safe from any thread and from signal handlers."""
        self.inbox.put(None)

    def put_down(self, patience: float = PATIENCE) -> None:
        """After a stop: what still runs is dropped, without counting as a failure.

        Outcomes that were kept stay; a handler that yields another learns that the lease is lost.
        Handlers that have not ended after `patience` seconds are left behind.
        """
        self._stopping.set()
        with suppress(LeaseLost, Unavailable):
            for step in self.running.values():
                self.store.interrupt_attempt(self.lease, step.key, self.world.now())
        deadline = monotonic() + patience
        while monotonic() < deadline and any(thread.is_alive() for thread in self._threads):
            with suppress(queue.Empty, LeaseLost, Unavailable):
                message = self.inbox.get(timeout=0.05)
                if isinstance(message, Produced):
                    message.kept.set_exception(LeaseLost("the loop has stopped"))
                elif message is not None and message.error is None:
                    self.store.end_attempt(self.lease, message.step.key)
        for thread in self._threads:
            if thread.is_alive():
                log.warning("%s did not end in time", thread.name)
        self.running.clear()

    def turn(self) -> timedelta:
        """Start what is due; how long nothing else will be."""
        now = self.last_round = self.world.now()
        if not timedelta(0) <= now - self._renewed <= LEASE / 3:  # clocks are set back, too
            self.store.renew_lease(self.lease, now, LEASE)
            self._renewed = now
        views = [self.view(base, now) for base in self.world.bases.values()]
        if self.desk.answer(views, [*self.running.values()], now):
            self.wake()  # plan once with what is new before it can be called done
        steps = [s for view in views for s in view.steps if s.key not in self.running]
        for step in sorted(steps, key=lambda step: (max(step.due, now), self._turn_of(step))):
            if step.due <= now and self._is_free(step.slot):
                self._start(step, now)
        idle = [s.due - now for s in steps if self._is_free(s.slot) and s.due > now]
        return min([*idle, LEASE / 3])

    def _is_free(self, slot: str) -> bool:
        busy = sum(step.slot == slot for step in self.running.values())
        return busy < self.capacity[slot]

    def _turn_of(self, step: Step) -> int:
        """Bases take turns in each slot: a long backlog of one must not keep the others waiting."""
        return self._turns.get((step.slot, step.base), 0)

    def view(self, base: Base, now: datetime) -> View:
        """Everything about one base, and its steps, those that run included."""
        reader = self.world.reader
        requests = tuple(r for r in reader.open_requests() if r.base in (None, base.repo))
        pair = self._pair(base)
        context = Context(self.world.settings, base.section, pair, requests, reader.paused(), now)
        categories = len(base.benchmark.categories)
        facts = reader.facts(base.id, base.benchmark.id, categories, now)
        return View(base, facts, tuple(plan(facts, context)))

    def _pair(self, base: Base) -> str | None:
        try:
            return self.pair_digest(self.world, base)
        except OSError as error:  # the prompts; everything else goes on without a router
            log.error("no router for %s: %s", base.repo, error)
            return None

    # -- steps ---------------------------------------------------------------------------------

    def _start(self, step: Step, now: datetime) -> None:
        failures = self.store.begin_attempt(self.lease, step.key, step.base_id, now)
        self._failures[step.key] = failures
        self.running[step.key] = step
        self._turns[step.slot, step.base] = 1 + max(self._turns.values(), default=0)
        log.info("%s", step.key)
        thread = threading.Thread(target=self._work, args=(step,), name=step.key, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _work(self, step: Step) -> None:
        """In the slot's thread: drive the handler, one kept outcome at a time."""
        error: BaseException | None = None
        unaccounted = -monotonic()
        try:
            outcomes = self.handlers[step.verb](step, self.world)
            try:
                for outcome in outcomes:
                    produced = Produced(step, outcome)
                    self.inbox.put(produced)
                    produced.kept.result()
                    if isinstance(outcome, Spent):
                        unaccounted -= outcome.seconds
            finally:
                if isinstance(outcomes, Generator):
                    outcomes.close()  # here and now: it may have a child to end
        except BaseException as raised:  # noqa: BLE001 - the loop thread sorts it, nothing is lost
            error = raised
        self.inbox.put(Ended(step, error, max(unaccounted + monotonic(), 0.0)))

    def _receive(self, waiting: timedelta) -> None:
        """Take what arrives within `waiting`. Outcomes are kept as they come; that a step ended, or
        half a second of outcomes, is worth another plan."""
        with suppress(queue.Empty):
            message = self.inbox.get(timeout=max(waiting.total_seconds(), 0.0))
            until = monotonic() + OUTCOMES_ALONE
            self._handle(message)
            while isinstance(message, Produced) and (left := until - monotonic()) > 0:
                message = self.inbox.get(timeout=left)
                self._handle(message)

    def _handle(self, message: Produced | Ended | None) -> None:
        if isinstance(message, Produced):
            self._keep(message)
        elif isinstance(message, Ended):
            try:
                self._conclude(message)
            except Unavailable:
                self.inbox.put(message)
                raise
            del self.running[message.step.key], self._failures[message.step.key]

    def _keep(self, message: Produced) -> None:
        try:
            self.store.keep(self.lease, message.outcome, self.world.now(), message.step.key)
        except Exception as error:  # the handler must not wait for ever
            if isinstance(error, Unavailable) and monotonic() - message.since < HOLD:
                self.inbox.put(message)
                raise
            message.kept.set_exception(error)
            if isinstance(error, LeaseLost):
                raise
        else:
            message.kept.set_result(None)

    def _conclude(self, ended: Ended) -> None:
        step, error = ended.step, ended.error
        if error is None and self._still_due(step):
            error = Idle(step.key)
        if error is None:
            self.store.end_attempt(self.lease, step.key)
            return
        if isinstance(error, LeaseLost | errors.LeaseLost):
            raise LeaseLost(str(error))
        now = self.world.now()
        if pauses_publishing(error, step):
            self.store.keep(self.lease, Paused("publish", str(error)), now)
        verdict = sort(error, step, self._failures[step.key])
        text = printable(str(error) or type(error).__name__, LONGEST_ERROR)
        log.log(verdict.level, "%s: %s", step.key, text, exc_info=error if verdict.bug else None)
        self.store.fail_attempt(
            self.lease,
            step.key,
            f"{type(error).__name__}: {text}",
            now,
            not_before=now + verdict.wait,
            parked=verdict.parked,
            subject=step.model or step.base,
            base_id=step.base_id,
            seconds=ended.seconds if step.slot == COMPUTE else 0.0,
        )

    def _still_due(self, step: Step) -> bool:
        """A step that changes nothing would run for ever. Listings are due again by the clock."""
        if step.verb == "watch":
            return False
        now = self.world.now()
        steps = self.view(self.world.bases[step.base], now).steps
        return any(s.key == step.key and s.due <= now for s in steps)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """A database that does not answer is waited for."""
        try:
            yield
        except Unavailable as error:
            log.warning("%s", error)
            self._stopping.wait(BREATH)
