"""The lease, attempts, and what people ask for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.event import listen, remove

from db import outcomes as o
from db import report
from db.lease import LeaseLost
from db.reader import Reader

from .story import (
    BASE,
    LEASE,
    NOW,
    STORY,
    TTL,
    drafted,
    dump,
    planned,
    register_benchmark,
    rows,
    sighted,
    tell,
)

SECOND = timedelta(seconds=1)


def attempts(store) -> dict[str, tuple[str, int]]:
    return {row.step: (row.state, row.failures) for row in rows(store, "attempts")}


# -- lease ---------------------------------------------------------------------------------------


def test_a_lease_is_held_until_it_runs_out(store, lease):
    assert store.take_lease("there", NOW + TTL - SECOND, TTL) is None
    taken = store.take_lease("there", NOW + TTL, TTL)
    assert taken is not None
    assert (taken.holder, taken.token) == ("there", lease.token + 1)


def test_a_renewed_lease_is_held_longer(store, lease):
    store.renew_lease(lease, NOW + TTL - SECOND, TTL)
    assert store.take_lease("there", NOW + TTL, TTL) is None


def test_a_dead_holder_need_not_be_waited_for(store, lease):
    assert store.take_lease("there", NOW, TTL, lambda holder: holder != "here") is None
    taken = store.take_lease("there", NOW, TTL, lambda holder: holder == "here")
    assert taken is not None
    assert taken.token == lease.token + 1


def test_a_lease_given_back_can_be_taken_at_once(store, lease):
    store.release_lease(lease, NOW)
    assert store.take_lease("there", NOW, TTL) is not None


def test_tokens_only_grow(store, lease):
    tokens = [lease.token]
    for turn in range(5):
        later = NOW + (turn + 1) * TTL
        taken = store.take_lease(f"holder {turn}", later, TTL)
        assert taken is not None
        tokens.append(taken.token)
        if turn % 2:
            store.release_lease(taken, later)
    assert tokens == sorted(set(tokens))


WRITES = {
    "keep": lambda store, lease: store.keep(lease, sighted("late"), NOW),
    "renew": lambda store, lease: store.renew_lease(lease, NOW, TTL),
    "begin": lambda store, lease: store.begin_attempt(lease, "admit:2", 1, NOW),
    "end": lambda store, lease: store.end_attempt(lease, "admit:1"),
    "interrupt": lambda store, lease: store.interrupt_attempt(lease, "admit:1", NOW),
    "settle": lambda store, lease: store.settle_interrupted(lease, NOW, 3),
    "answer": lambda store, lease: store.answer(lease, 1, "done", "", NOW),
    "fail": lambda store, lease: store.fail_attempt(
        lease, "admit:1", "x", NOW, not_before=None, parked=False
    ),
    "judge": lambda store, lease: store.judge_by(lease, 1, 1),
    "check": lambda store, lease: store.check_lease(lease),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_coordinator_that_lost_its_lease_changes_nothing(store, lease, write):
    store.ask("watch", None, None, False, NOW)
    store.begin_attempt(lease, "admit:1", 1, NOW)
    store.take_lease("there", NOW + TTL, TTL)
    before = dump(store)
    with pytest.raises(LeaseLost, match="here held the lease with token 1; it is 2 now"):
        write(store, lease)
    assert dump(store) == before


def test_giving_back_a_lost_lease_does_not_take_it_from_its_holder(store, lease):
    store.take_lease("there", NOW + TTL, TTL)
    store.release_lease(lease, NOW + TTL)
    assert store.take_lease("third", NOW + TTL, TTL) is None


# -- attempts ------------------------------------------------------------------------------------


def fail(store, lease, step="admit:1", *, parked=False) -> None:
    later = NOW + TTL
    store.begin_attempt(lease, step, 1, NOW)
    store.fail_attempt(lease, step, "broke", NOW, not_before=later, parked=parked, subject="org/x")


def test_failures_are_counted_and_told(store, lease):
    assert store.begin_attempt(lease, "admit:1", 1, NOW) == 0
    fail(store, lease)
    fail(store, lease)
    assert store.begin_attempt(lease, "admit:1", 1, NOW) == 2
    fail(store, lease, parked=True)
    assert attempts(store) == {"admit:1": ("parked", 3)}
    said = [(event.kind, event.text) for event in report.events_of(store.engine, "org/x")]
    assert said[-1] == ("step-parked", "admit:1: broke; parked until `bot retry`")
    assert said[0] == ("step-waiting", "admit:1: broke")


def test_success_wipes_the_slate(store, lease):
    fail(store, lease)
    store.end_attempt(lease, "admit:1")
    assert attempts(store) == {}


def test_stopping_in_good_order_is_no_failure(store, lease):
    store.begin_attempt(lease, "admit:1", 1, NOW)
    fail(store, lease, "admit:2")
    store.begin_attempt(lease, "admit:2", 1, NOW)
    for step in ("admit:1", "admit:2", "admit:3"):
        store.interrupt_attempt(lease, step, NOW)
    assert attempts(store) == {"admit:2": ("waiting", 1)}


def kill(store, lease, step="evaluate:2") -> int:
    """The step begins, and the process ends."""
    store.begin_attempt(lease, step, 1, NOW)
    return store.settle_interrupted(lease, NOW, limit=3)


def test_a_step_that_takes_its_process_down_again_and_again_is_parked(store, lease):
    assert [kill(store, lease) for _ in range(3)] == [1, 1, 1]
    assert attempts(store) == {"evaluate:2": ("parked", 0)}
    assert "interrupted" in report.events_of(store.engine, BASE)[-1].text
    assert store.settle_interrupted(lease, NOW, limit=3) == 0


def test_failures_of_another_kind_do_not_count_as_interruptions(store, lease):
    for _ in range(5):
        fail(store, lease, "evaluate:2")
    kill(store, lease)
    assert attempts(store) == {"evaluate:2": ("waiting", 5)}


def test_a_long_step_that_gets_further_each_time_is_never_parked(store, lease):
    tell(store, lease, STORY[:7])
    for trial in range(6):
        store.begin_attempt(lease, "search:1", 1, NOW)
        store.keep(lease, sighted(f"new-{trial}"), NOW, "search:1")
        store.settle_interrupted(lease, NOW, limit=2)
    assert attempts(store) == {"search:1": ("waiting", 0)}


@pytest.mark.parametrize(
    "nothing_new", [sighted("good"), o.Spent(1, "evaluate", 1.0), o.Noted(1, "x/y", "k", "t")]
)
def test_money_and_words_are_no_progress(store, lease, nothing_new):
    tell(store, lease, [sighted("good")])
    for _ in range(2):
        store.begin_attempt(lease, "evaluate:2", 1, NOW)
        store.keep(lease, nothing_new, NOW, "evaluate:2")
        store.settle_interrupted(lease, NOW, limit=2)
    assert attempts(store) == {"evaluate:2": ("parked", 0)}


def test_retry_forgets_what_it_is_told_to(store, lease):
    for step in ("admit:1", "admit:12", "evaluate:1"):
        fail(store, lease, step, parked=True)
    store.begin_attempt(lease, "admit:5", 1, NOW)
    assert store.retry("admit:1") == 2
    assert set(attempts(store)) == {"evaluate:1", "admit:5"}
    assert store.retry(None) == 1
    assert set(attempts(store)) == {"admit:5"}, "a step that runs is left alone"


@pytest.fixture
def blocked(told):
    tell(told, LEASE, [o.Moved(2, "blocked", error="quota")])
    return told


def published(store) -> list[tuple[str, str | None]]:
    return [(row.state, row.error) for row in rows(store, "publications")]


def test_retry_unblocks_only_what_it_is_told_to(blocked):
    assert blocked.retry("evaluate") == 0
    assert published(blocked)[1] == ("blocked", "quota")
    assert blocked.retry("publish:2") == 1
    assert published(blocked) == [("verified", None), ("approved", None)]


def test_publishing_goes_on_after_a_pause_without_another_word(blocked):
    fail(blocked, LEASE, "publish:2")
    fail(blocked, LEASE, "admit:1")
    assert blocked.resume("publish")
    assert published(blocked)[1] == ("approved", None)
    assert set(attempts(blocked)) == {"admit:1"}


# -- people --------------------------------------------------------------------------------------


def test_pause_and_resume(store, lease):
    store.pause("all", "moving house", NOW)
    store.pause("all", "still moving", NOW)
    assert report.status(store.engine, NOW).paused == {"all": "still moving"}
    assert Reader(store.engine).paused() == {"all"}
    assert (store.resume("all"), store.resume("all")) == (True, False)
    assert Reader(store.engine).paused() == frozenset()


def test_a_draft_is_approved_or_declined_once(store, lease):
    before = next(i for i, outcome in enumerate(STORY) if isinstance(outcome, o.Drafted))
    drafts = [drafted(f"recipe-{n}", n, soup=n, state="draft") for n in (1, 2)]
    tell(store, lease, [*STORY[:before], planned("recipe-2"), *drafts])
    assert store.approve(1, True, NOW)
    assert store.approve(2, False, NOW)
    assert published(store) == [("approved", None), ("dropped", "declined by a person")]
    assert not store.approve(1, False, NOW)
    assert not store.approve(99, True, NOW)
    said = [event.kind for event in report.events_of(store.engine, "stockpot/soup")]
    assert said[-2:] == ["publication-approved", "publication-dropped"]


def test_requests_are_answered_once_and_leave_the_list(store, lease):
    reader = Reader(store.engine)
    first = store.ask("evaluate", BASE, "org/x", True, NOW)
    second = store.ask("cycle", None, None, False, NOW)
    assert [(r.id, r.verb, r.model, r.force) for r in reader.open_requests()] == [
        (first, "evaluate", "org/x", True),
        (second, "cycle", None, False),
    ]
    store.answer(lease, first, "done", "3 events", NOW)
    assert [r.id for r in reader.open_requests()] == [second]
    assert report.request_line(store.engine, first).answer == "3 events"


def test_a_base_and_a_benchmark_are_registered_once(store, lease):
    assert store.register_base(BASE, "a" * 40, NOW) == 1
    assert store.register_base(BASE, "b" * 40, NOW) == 2, "another pin is another base"
    assert [c.role for c in rows(store, "candidates")] == ["base", "base"]


def test_what_failed_under_a_benchmark_is_over_with_it(store, lease):
    measuring = {"evaluate:2", f"select:{BASE}", "search:1", "build:1", "judge:1", "draft:soup:1"}
    others = {"admit:1", "draft:router:1", "publish:1"}
    for step in measuring | others:
        fail(store, lease, step, parked=True)
    store.judge_by(lease, 1, 1)
    assert set(attempts(store)) == measuring | others, "no other one judged before"
    other = register_benchmark(store, "other suite")
    store.judge_by(lease, 1, other)
    assert set(attempts(store)) == others
    fail(store, lease, "evaluate:2", parked=True)
    store.judge_by(lease, 1, other)
    assert set(attempts(store)) == others | {"evaluate:2"}, "it is the same one still"


def test_scores_and_backlog_are_those_of_the_benchmark_in_force(told):
    def scored() -> tuple[int, int]:
        cells = report.category_scores(told.engine, BASE)
        return report.status(told.engine, NOW).bases[0].scored, len(cells)

    told.judge_by(LEASE, 1, 1)
    assert scored() == (3, 6)
    told.judge_by(LEASE, 1, register_benchmark(told, "other suite"))
    assert scored() == (0, 0)
    assert len(rows(told, "scores")) > 6, "they are kept"


def test_the_status_is_that_of_one_moment(store, lease):
    """One view of the database, however many bases there are."""
    for name in ("one", "other"):
        store.register_base(f"org/{name}", "b" * 40, NOW)
    views = []
    begun = views.append  # one object, by which it is found again
    listen(store.engine, "begin", begun)
    found = report.status(store.engine, NOW)
    remove(store.engine, "begin", begun)
    assert len(found.bases) > 1
    assert len(views) == 1


def test_a_repository_that_moved_on_waits_once(told):
    def backlog() -> int:
        return report.status(told.engine, NOW).bases[0].backlog

    before = backlog()
    tell(told, LEASE, [sighted("moving", "1" * 40)])
    assert backlog() == before + 1
    tell(told, LEASE, [sighted("moving", "2" * 40)])
    assert backlog() == before + 1
