"""What people ask for: answered, honestly, and by the loop alone."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bot.errors import Transient
from bot.steps import Step
from db import report

from .toy import SHA, Stage, Toys, play

THREE = {"a/one": SHA, "a/two": SHA, "b/three": SHA}


def answer(stage: Stage, request: int) -> tuple[str, str | None]:
    line = report.request_line(stage.store.engine, request)
    return line.state, line.answer


def kinds(stage: Stage, subject: str) -> list[str]:
    return [event.kind for event in report.events_of(stage.store.engine, subject)]


@pytest.fixture
def rested(stage) -> Stage:
    made = stage(toys=Toys(dict(THREE)), settings={"poll_seconds": 1e6})
    play(made, made.loop())
    return made


def test_where_nothing_is_to_be_done_that_is_the_answer(rested):
    requests = [rested.ask(verb) for verb in ("evaluate", "select", "soup", "route", "publish")]
    rested.loop().run_until_quiet()
    assert [answer(rested, r) for r in requests] == [("done", "nothing to do")] * 5


def test_a_cycle_asked_for_runs_to_its_end_without_waiting_for_quiet(rested):
    """New scores, and the hour of quiet is not waited for."""
    rested.toys.repos |= {f"new/m{n}": SHA for n in range(12)}
    rested.clock.pass_by(hours=2)
    request = rested.ask("watch")
    loop = rested.loop()
    loop.run_until_quiet()
    assert answer(rested, request)[0] == "done"
    assert kinds(rested, "org/base").count("selected") == 1, "they have not settled"
    request = rested.ask("cycle")
    loop.run_until_quiet()
    assert answer(rested, request)[0] == "done"
    assert kinds(rested, "org/base").count("selected") == 2
    assert [p.version for p in report.publication_list(rested.store.engine, "verified")] == [1, 2]


def test_a_model_nobody_has_seen_is_listed_admitted_and_scored_before_the_answer(rested):
    rested.toys.repos["new/model"] = SHA
    rested.clock.pass_by(hours=2)
    request = rested.ask("evaluate", model="new/model", base="org/base")
    open_while_scored: list[str] = []

    def disturb(step: Step) -> None:
        if step.verb == "evaluate":
            open_while_scored.append(answer(rested, request)[0])

    rested.toys.disturb = disturb
    rested.loop().run_until_quiet()
    assert set(open_while_scored) == {"open"}
    assert answer(rested, request) == ("done", "6 events")
    assert kinds(rested, "new/model")[:4] == ["sighted", "admitted", "examined", "scored"]


def test_a_request_for_one_model_does_not_wait_for_the_others(rested):
    rested.toys.repos |= {f"new/m{n}": SHA for n in range(3)}
    rested.clock.pass_by(hours=2)
    request = rested.ask("evaluate", model="new/m1")
    scored_after: list[int] = []

    def disturb(step: Step) -> None:
        if step.verb == "evaluate" and answer(rested, request)[0] == "done":
            scored_after.append(step.subject)

    rested.toys.disturb = disturb
    loop = rested.loop()
    loop.run_until_quiet()
    assert kinds(rested, "new/m1").count("scored") == 3
    assert len(set(scored_after)) >= 1, "the rest of the backlog came after the answer"


def test_listing_every_moment_does_not_keep_a_request_open(stage):
    """Where a listing takes longer than the time between two, one is always due."""
    made = stage(toys=Toys(dict(THREE)), settings={"poll_seconds": 1.0})

    def disturb(step: Step) -> None:
        if step.verb == "watch":
            made.clock.pass_by(seconds=2)

    made.toys.disturb = disturb
    request = made.ask("watch")
    made.loop().run(until=lambda: answer(made, request)[0] != "open")
    assert answer(made, request)[0] == "done"


def test_force_chooses_again_once(rested):
    rested.clock.pass_by(hours=2)
    before = report.events_of(rested.store.engine, "org/base")
    request = rested.ask("select", force=True)
    starts: list[str] = []
    rested.toys.disturb = lambda step: starts.append(step.key)
    rested.loop().run_until_quiet()
    assert answer(rested, request)[0] == "done"
    assert len({key for key in starts if key.startswith("select")}) == 1
    assert report.events_of(rested.store.engine, "org/base") == before, "the same choice"


def test_what_failed_is_said_in_the_answer(rested):
    def away(step: Step) -> None:
        raise Transient("the Hub is away")

    rested.toys.disturb = away
    rested.clock.pass_by(hours=2)
    rested.toys.repos["new/model"] = SHA
    watch = rested.ask("watch")
    rested.loop().run_until_quiet()
    state, text = answer(rested, watch)
    assert state == "done"
    assert "failed and waiting: 1" in text


@pytest.mark.parametrize(
    ("paused", "verb", "base", "word"),
    [
        (None, "watch", "org/unknown", "not a configured base"),
        ("all", "cycle", None, "bot resume"),
        ("publish", "publish", None, "bot resume publish"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(stage, paused, verb, base, word):
    made = stage()
    if paused:
        made.store.pause(paused, "why", made.clock())
    request = made.ask(verb, base=base)
    made.loop().run_until_quiet()
    state, text = answer(made, request)
    assert (state, word in text) == ("refused", True)


def test_pausing_publishing_does_not_stop_the_rest(stage):
    made = stage(toys=Toys(dict(THREE)))
    made.store.pause("publish", "why", made.clock())
    loop = made.loop()
    play(made, loop)
    assert made.toys.published == []
    made.store.resume("publish")
    play(made, loop)
    assert len(made.toys.published) == 1


def test_a_router_follows_its_pair(stage):
    made = stage(pair="pair-1")
    play(made, made.loop())
    made.pair = "pair-2"
    play(made, made.loop())
    assert [digest for _, digest in made.toys.published] == ["config of pair-1", "config of pair-2"]


def test_prompts_that_are_gone_stop_only_the_router(stage, caplog):
    made = stage(toys=Toys(dict(THREE)))
    loop = made.loop()

    def missing(world, base):
        raise FileNotFoundError("prompts.jsonl")

    loop.pair_digest = missing
    play(made, loop)
    assert len(made.toys.published) == 1
    assert "no router for org/base: prompts.jsonl" in caplog.text


def test_another_thread_or_a_signal_may_wake_and_stop_the_loop(stage):
    """SIGALRM arrives in the thread that waits on the inbox; that must not deadlock."""
    loop = stage().loop()
    before = signal.signal(signal.SIGALRM, lambda *_: loop.stop())
    waker = threading.Timer(0.05, lambda: [loop.wake() for _ in range(200)])
    waker.start()
    killer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGALRM))
    killer.start()
    try:
        loop.run()
    finally:
        signal.signal(signal.SIGALRM, before)
        loop.put_down()
        waker.join()
        killer.join()
