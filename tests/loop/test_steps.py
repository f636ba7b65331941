"""Steps in their slots: order, hand-over, failures, progress."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest

from bot import errors
from bot.executors import ChildDied
from bot.failures import (
    BACKOFF,
    BACKOFF_CAP,
    MAX_FAILURES,
    MAX_INTERRUPTIONS,
    pause_after,
    sort,
)
from bot.loop import LEASE, PATIENCE, Loop
from bot.steps import COMPUTE, HUB, Step
from bot.world import World
from db import outcomes as o
from db import report
from db.engine import Unavailable
from db.lease import LeaseLost
from db.store import Store

from .toy import SHA, Stage, Toys, play

NOTE = [o.Noted(1, "x/y", f"note-{n}", "text") for n in range(5)]


def attempts(stage: Stage) -> dict[str, tuple[str, int]]:
    found = report.status(stage.store.engine, stage.clock()).troubles
    return {trouble.step.partition(":")[0]: (trouble.state, trouble.failures) for trouble in found}


def said(stage: Stage, subject: str = "x/y") -> list[str]:
    return [event.kind for event in report.events_of(stage.store.engine, subject)]


def raising(error: BaseException):
    def handler(step: Step, world: World) -> Iterator[o.Outcome]:
        yield NOTE[0]
        raise error

    return handler


# -- the hand-over -------------------------------------------------------------------------------


def test_outcomes_are_kept_in_order_and_seen_before_the_handler_goes_on(stage):
    seen: list[int] = []

    def watch(step: Step, world: World) -> Iterator[o.Outcome]:
        for note in NOTE:
            yield note
            seen.append(len(said(made)))
        yield o.Watched(step.base_id, SHA, None, swept=True)

    made = stage(handlers={"watch": watch})
    made.loop().run_until_quiet()
    assert seen == [1, 2, 3, 4, 5]
    assert said(made) == [note.kind for note in NOTE]


def test_slots_work_side_by_side_and_each_on_one_thing(stage):
    """Both handlers must be inside at the same time, or the barrier breaks."""
    meeting = threading.Barrier(2, timeout=20)
    inside: dict[str, int] = {}
    most: dict[str, int] = {}

    def guarded(handler, slot: str, meet: set[str]):
        def run(step: Step, world: World) -> Iterator[o.Outcome]:
            inside[slot] = inside.get(slot, 0) + 1
            most[slot] = max(most.get(slot, 0), inside[slot])
            if step.key in meet:
                meeting.wait()
            yield from handler(step, world)
            inside[slot] -= 1

        return run

    toys = Toys({f"a/m{n}": SHA for n in range(3)})
    plain = toys.handlers()
    meet = {"evaluate:1", "admit:3"}
    guards = {"evaluate": guarded(plain["evaluate"], COMPUTE, meet)}
    guards["admit"] = guarded(plain["admit"], HUB, meet)
    made = stage(toys=toys, handlers=guards)
    play(made, made.loop())
    assert most == {HUB: 1, COMPUTE: 1}


def test_what_was_yielded_before_a_failure_stays(stage):
    made = stage(handlers={"watch": raising(errors.Transient("away"))})
    made.loop().run_until_quiet()
    assert said(made) == ["note-0"]
    assert attempts(made) == {"watch": ("waiting", 1)}


def test_a_refused_outcome_ends_the_handler_in_its_own_thread(stage):
    """What it holds, a child for instance, is let go there and then."""
    closed: list[str] = []

    def watch(step: Step, world: World) -> Iterator[o.Outcome]:
        try:
            yield o.Moved(99, "verified")  # no such publication
        finally:
            closed.append(threading.current_thread().name)

    made = stage(handlers={"watch": watch})
    loop = made.loop()
    loop.run_until_quiet()
    assert [name.partition(":")[0] for name in closed] == ["watch"]
    assert attempts(made) == {"watch": ("parked", 1)}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), AssertionError("bug")])
def test_whatever_a_handler_raises_frees_its_slot(stage, error):
    made = stage(handlers={"watch": raising(error)}, toys=Toys({}))
    loop = made.loop()
    loop.run_until_quiet()
    assert attempts(made)["watch"] == ("parked", 1)
    assert loop.running == {}


def test_a_verb_without_a_handler_is_parked(stage):
    made = stage()
    del made.handlers["watch"]
    made.loop().run_until_quiet()
    assert attempts(made)["watch"] == ("parked", 1)


# -- failures ------------------------------------------------------------------------------------


def step(verb: str = "evaluate", slot: str = COMPUTE) -> Step:
    return Step(verb, f"{verb}:1", "org/base", 1, 1, slot, None)


def died(error: Exception) -> Exception:
    error.__cause__ = ChildDied(-9, "")
    return error


OUTSIDE = [
    errors.Transient("503"),
    errors.Unknown("commit", "timeout"),
    errors.Moved("us/soup"),
    errors.Busy("us/soup"),
    Unavailable("locked"),
    OSError(errno.ENOSPC, "No space left on device"),
]
OURS = [errors.Gone("org/x"), errors.Forbidden("read org/x"), died(errors.Transient("a child"))]
FINAL = [errors.Rejected("gated"), errors.Misconfigured("no such file")]
BUGS = [
    errors.Broken("twice"),
    KeyError("x"),
    MemoryError(),
    SystemExit(),
    OSError(errno.EISDIR, "Is a directory"),
]


@pytest.mark.parametrize("error", OUTSIDE, ids=lambda e: type(e).__name__)
def test_what_the_outside_must_heal_is_tried_for_ever(error):
    assert not any(sort(error, step(), failures).parked for failures in (0, 7, 100, 10**6))


@pytest.mark.parametrize("error", OURS, ids=lambda e: type(e).__name__)
def test_what_fails_here_is_parked_in_the_end(error):
    parked = [sort(error, step(), failures).parked for failures in range(MAX_FAILURES)]
    assert parked == [False] * (MAX_FAILURES - 1) + [True]


@pytest.mark.parametrize("error", [*OUTSIDE, *OURS], ids=lambda e: type(e).__name__)
def test_listing_goes_on_whatever_the_outside_says(error):
    outside = not isinstance(error.__cause__, ChildDied)
    assert sort(error, step("watch", HUB), 10**6).parked != outside


@pytest.mark.parametrize("error", [*FINAL, *BUGS], ids=lambda e: type(e).__name__)
def test_what_would_fail_again_is_parked_at_once_and_bugs_are_told_apart(error):
    verdict = sort(error, step(), 0)
    assert (verdict.parked, verdict.bug) == (True, error in BUGS)


def test_waiting_doubles_up_to_a_cap_and_heeds_what_was_asked():
    waits = [sort(errors.Transient("x"), step(), failures).wait for failures in range(30)]
    assert waits[:4] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF, 8 * BACKOFF]
    assert set(waits[12:]) == {BACKOFF_CAP}
    asked = sort(errors.Transient("x", retry_after=99.0), step(), 0)
    assert asked.wait == timedelta(seconds=99)
    assert sort(errors.Transient("x", retry_after=1.0), step(), 0).wait == BACKOFF
    for more in (1e6, 1e20, float("inf")):
        assert sort(errors.Transient("x", retry_after=more), step(), 0).wait == BACKOFF_CAP


def test_a_step_that_may_take_the_process_down_waits_ever_longer_and_is_parked(stage):
    """A kill or two costs nothing; killed again and again, it gives the others room."""
    made = stage()
    waits = []
    for _ in range(MAX_INTERRUPTIONS):
        lease = made.lease()
        made.store.begin_attempt(lease, "admit:1", None, made.clock())
        made.store.settle_interrupted(made.lease(), made.clock(), MAX_INTERRUPTIONS, pause_after)
        (trouble,) = report.status(made.store.engine, made.clock()).troubles
        waits.append(trouble.not_before - made.clock())
    assert waits[:5] == [timedelta(0), timedelta(0), BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert trouble.state == "parked"


def test_failures_are_counted_over_rounds(stage):
    made = stage(handlers={"watch": raising(errors.Transient("away"))})
    loop = made.loop()
    starts = []
    for _ in range(4):
        starts.append(made.clock())
        loop.run_until_quiet()
        (base,) = loop.world.bases.values()
        made.clock.now = min(
            s.due for s in loop.view(base, made.clock()).steps if s.verb == "watch"
        )
    waited = [after - before for before, after in pairwise(starts)]
    assert waited == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]


def test_computing_that_came_to_nothing_is_spent_all_the_same(stage):
    """Also after a part that was accounted for; but it says nothing about how long one takes."""
    made = stage(toys=Toys({"org/one": SHA}))

    def hang(step: Step, world: World) -> Iterator[o.Outcome]:
        yield o.Spent(step.base_id, step.verb, seconds=0.25 * step.subject)
        threading.Event().wait(0.75)
        raise errors.Transient("the child was ended at its deadline")

    made.handlers["evaluate"] = hang
    loop = made.loop()
    loop.run_until_quiet()
    (base,) = loop.world.bases.values()
    spent = loop.view(base, made.clock()).facts.spent_seconds
    assert 2 * 0.75 <= spent < 10, "the base and one fine-tune"
    (line,) = report.status(made.store.engine, made.clock()).bases
    assert line.mean_seconds == 0.375


def test_what_others_say_is_logged_and_kept_without_their_control_characters(stage, caplog):
    def quote(step: Step, world: World) -> Iterator[o.Outcome]:
        raise errors.Transient("the Hub says \x1b]0;all yours\x07\x1b[2J\n2026 INFO all is well")
        yield

    made = stage(handlers={"watch": quote})
    made.loop().run_until_quiet()
    (trouble,) = report.status(made.store.engine, made.clock()).troubles
    (record,) = (record for record in caplog.records if "all yours" in record.message)
    for text in (trouble.error, record.message):
        assert text is not None
        assert text.isprintable()


def test_a_refusal_to_publish_pauses_publishing_and_tells(stage):
    refuse = raising(errors.Forbidden("write to us/base-soup", "the token is read-only"))
    made = stage(
        toys=Toys({"a/one": SHA, "a/two": SHA, "b/three": SHA}), handlers={"publish": refuse}
    )
    loop = made.loop()
    play(made, loop)
    assert made.reader.paused() == {"publish"}
    assert "read-only" in report.events_of(made.store.engine, "publish")[-1].text
    made.store.resume("publish")
    made.handlers["publish"] = made.toys.handlers()["publish"]
    play(made, loop)
    assert [line.state for line in report.publication_list(made.store.engine)] == ["verified"]


def test_a_strangers_gate_pauses_nothing(stage):
    made = stage(
        toys=Toys({"a/one": SHA}), handlers={"evaluate": raising(errors.Forbidden("read a/one"))}
    )
    made.loop().run_until_quiet()
    assert made.reader.paused() == frozenset()
    assert attempts(made)["evaluate"] == ("waiting", 1)


def test_a_step_that_changes_nothing_does_not_spin(stage):
    calls: list[Step] = []

    def admit(step: Step, world: World) -> Iterator[o.Outcome]:
        calls.append(step)
        yield from ()

    made = stage(handlers={"admit": admit})
    loop = made.loop()
    for _ in range(MAX_FAILURES + 2):
        loop.run_until_quiet()
        made.clock.pass_by(hours=7)
    assert len(calls) == MAX_FAILURES
    assert attempts(made)["admit"] == ("parked", MAX_FAILURES)
    assert "without changing" in report.status(made.store.engine, made.clock()).troubles[0].error


# -- the database does not answer ----------------------------------------------------------------


class Flaky(Store):
    """Every write fails so often before it works."""

    failing = 0

    def fenced(self, lease):
        if self.failing > 0:
            self.failing -= 1
            raise Unavailable("the disk is full")
        return super().fenced(lease)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_database_that_does_not_answer_is_waited_for(stage, monkeypatch, failing):
    monkeypatch.setattr("bot.loop.BREATH", 0.01)
    made = stage(make_store=Flaky, toys=Toys({"a/one": SHA, "a/two": SHA, "b/three": SHA}))
    loop = made.loop()

    def disturb(step: Step) -> None:
        if step.verb in ("admit", "search"):
            made.store.failing = failing
            made.toys.disturb = lambda step: None

    made.toys.disturb = disturb
    play(made, loop)
    assert [line.state for line in report.publication_list(made.store.engine)] == ["verified"]
    assert report.status(made.store.engine, made.clock()).troubles == ()


class Deaf(Store):
    """Outcomes cannot be kept so often before they can."""

    failing = 0
    asked = 0

    def keep(self, *args, **kwargs) -> None:
        self.asked += 1
        if self.asked <= self.failing:
            raise Unavailable("locked")
        super().keep(*args, **kwargs)


def deaf(stage, failing: int) -> Stage:
    made = stage(make_store=Deaf, toys=Toys({}))
    made.store.failing = failing
    made.loop().run_until_quiet()
    return made


def test_an_outcome_waits_for_the_database_and_its_handler_notices_nothing(stage, monkeypatch):
    monkeypatch.setattr("bot.loop.BREATH", 0.01)
    made = deaf(stage, 5)
    assert made.store.asked > 5
    assert attempts(made) == {}
    assert made.reader.watermarks(1).watched_at is not None


def test_no_outcome_waits_for_ever(stage, monkeypatch):
    monkeypatch.setattr("bot.loop.BREATH", 0.01)
    monkeypatch.setattr("bot.loop.HOLD", 0.05)
    made = deaf(stage, 10**9)
    assert attempts(made)["watch"] == ("waiting", 1)


# -- leases and stops ----------------------------------------------------------------------------


def test_a_coordinator_that_lost_its_lease_ends_and_keeps_nothing(stage):
    def watch(step: Step, world: World) -> Iterator[o.Outcome]:
        yield NOTE[0]
        made.lease()  # somebody else takes over
        yield NOTE[1]

    made = stage(handlers={"watch": watch})
    loop = made.loop()
    with pytest.raises(LeaseLost):
        loop.run_until_quiet()
    loop.put_down()
    assert said(made) == ["note-0"]
    status = report.status(made.store.engine, made.clock())
    assert any(key.startswith("watch:") for key in status.running), "for its successor to settle"


def test_a_lease_lost_at_the_fence_ends_the_loop(stage):
    made = stage(handlers={"watch": raising(errors.LeaseLost(1, 2))})
    with pytest.raises(LeaseLost):
        made.loop().run_until_quiet()


@pytest.mark.parametrize("jump", [LEASE / 2, -timedelta(days=1), timedelta(days=1)])
def test_the_lease_is_renewed_in_time_also_when_the_clock_is_set(stage, jump):
    made = stage()
    loop = made.loop()
    loop.run_until_quiet()
    made.clock.now += jump
    loop.turn()
    until = report.status(made.store.engine, made.clock()).lease_until
    assert until == made.clock() + LEASE
    loop.put_down()


def waiting_handler(entered: threading.Event, leave: threading.Event):
    def watch(step: Step, world: World) -> Iterator[o.Outcome]:
        yield NOTE[0]
        entered.set()
        leave.wait(20)
        yield NOTE[1]

    return watch


def stopped(made: Stage, entered: threading.Event) -> Loop:
    """A loop that was stopped while a step ran."""
    loop = made.loop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert entered.wait(20)
    loop.stop()
    thread.join(20)
    assert not thread.is_alive()
    return loop


def test_a_stop_in_the_middle_of_a_step_is_no_failure(stage):
    entered, leave = threading.Event(), threading.Event()
    made = stage(handlers={"watch": waiting_handler(entered, leave)})
    loop = stopped(made, entered)
    leave.set()  # it goes on, and has something to say that nobody keeps
    loop.put_down()
    assert said(made) == ["note-0"]
    assert "watch" not in attempts(made)
    assert not any(thread.is_alive() for thread in loop._threads)


def test_a_handler_that_does_not_end_is_left_behind_in_time(stage, caplog):
    entered, leave = threading.Event(), threading.Event()
    made = stage(handlers={"watch": waiting_handler(entered, leave)})
    loop = stopped(made, entered)
    loop.put_down(patience=0.1)
    assert "did not end in time" in caplog.text
    assert PATIENCE < 10, "container engines kill after ten seconds"
    leave.set()


def test_a_step_that_ends_while_the_loop_stops_is_done(stage):
    entered, leave = threading.Event(), threading.Event()

    def watch(step: Step, world: World) -> Iterator[o.Outcome]:
        yield o.Watched(step.base_id, SHA, None, swept=True)
        entered.set()
        leave.wait(20)

    made = stage(handlers={"watch": watch})
    loop = stopped(made, entered)
    leave.set()
    loop.put_down()
    assert "watch" not in attempts(made)


def test_bases_take_turns(stage):
    """The long backlog of one base does not keep another waiting."""
    order: list[str] = []
    toys = Toys({f"a/m{n}": SHA for n in range(4)})
    plain = toys.handlers()

    def evaluate(step: Step, world: World) -> Iterator[o.Outcome]:
        order.append(step.base)
        yield from plain["evaluate"](step, world)

    made = stage(bases=("org/base", "org/other"), toys=toys)
    loop = made.loop()
    made.handlers["evaluate"] = raising(errors.Transient("not yet"))
    loop.run_until_quiet()  # everything is admitted now
    made.handlers["evaluate"] = evaluate
    made.store.retry("evaluate")
    loop.run_until_quiet()
    assert len(order) == 10
    assert all(one != other for one, other in pairwise(order))
