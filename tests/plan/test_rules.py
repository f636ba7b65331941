"""The rules of the plan, one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.order import in_order, is_welcome
from bot.sections import Order
from db.facts import Router, Search, Selection, Soup

from .facts import (
    BASE,
    DAY,
    HOUR,
    NOW,
    QUIET,
    attempt,
    candidate,
    due,
    facts,
    planned,
    publication,
    request,
    verbs,
    when,
)

FRESH = {"scored": (1, 2, 3, 4), "first_unselected_at": NOW, "last_scored_at": NOW}
CHOSEN = Selection(2, (1, 2, 3, 4), (2, 4), NOW)
LATER = NOW + timedelta(seconds=1)
EARLIER = NOW - timedelta(seconds=1)


def test_where_nothing_is_left_to_do_the_base_is_watched_in_its_time():
    found = planned(QUIET, poll_seconds=900)
    assert [(step.key, step.due - NOW) for step in found] == [
        (f"watch:{BASE}@aaaaaaaaaaaa", timedelta(seconds=900))
    ]


# -- watch, admit, evaluate ----------------------------------------------------------------------


@pytest.mark.parametrize("watched_at", [None, NOW - DAY, NOW + DAY])
def test_a_base_is_watched_now_when_never_or_long_ago_or_before_the_clock_was_set_back(watched_at):
    assert verbs(planned(facts(watched_at=watched_at))) == ["watch"]


@pytest.mark.parametrize(
    "asked", [request("watch"), request("cycle"), request("select", model="x/y")]
)
def test_a_request_is_worth_one_listing(asked):
    assert verbs(planned(facts(watched_at=EARLIER), asked)) == ["watch"]
    assert verbs(planned(facts(watched_at=NOW), asked)) == []


def test_any_of_several_requests_may_ask_for_a_listing():
    old, new = request("watch", at=EARLIER), request("watch", at=LATER)
    assert verbs(planned(QUIET, old, new)) == ["watch"]


def test_the_base_is_admitted_first_then_the_oldest():
    base = candidate(9, "sighted", role="base", created_at=None)
    found = facts(open=(candidate(4, "sighted"), candidate(5, "sighted"), base))
    assert due(planned(found)) == ["admit:9", "admit:5", "admit:4"]


def test_denied_authors_are_judged_and_so_explained_but_never_scored():
    found = facts(open=(candidate(3, "sighted"), candidate(6)))
    assert due(planned(found, deny=("author0",))) == ["admit:3"]
    assert due(planned(found, allow=("author1",))) == ["admit:3"]
    assert due(planned(found, allow=("author0",))) == ["evaluate:6", "admit:3"]


def test_a_fine_tune_is_looked_at_beside_its_base_and_waits_for_it():
    base = candidate(9, "sighted", role="base")
    found = {"open": (base, candidate(4)), "base_scored": False}
    asked = request("evaluate", model="author1/model4", force=True)
    assert due(planned(facts(**found), asked)) == ["admit:9"]
    found["open"] = (replace(base, state="admitted"), candidate(4))
    assert due(planned(facts(**found))) == ["evaluate:9", "evaluate:4"]
    found["open"] = (candidate(4),)
    assert due(planned(facts(**found))) == [], "a base that was refused or withdrawn"


def test_a_request_that_names_a_model_goes_past_order_and_lists():
    found = facts(open=(candidate(4), candidate(5), candidate(6)), watched_at=NOW)
    asked = request("evaluate", model="author0/model6")
    assert due(planned(found, asked, deny=("author0",)))[0] == "evaluate:6"
    assert due(planned(found))[0] == "evaluate:4"


@pytest.mark.parametrize("spent", [{"spent_seconds": 3600.0}, {"spent_bytes": 10**9}])
def test_a_spent_budget_waits_unless_forced(spent):
    found = facts(open=(candidate(4),), **spent)
    budget = {"compute_hours_per_day": 1.0, "download_gb_per_day": 1.0}
    assert when(planned(found, **budget), "evaluate") > NOW
    assert when(planned(found, request("evaluate"), **budget), "evaluate") > NOW
    assert when(planned(found, request("evaluate", force=True), **budget), "evaluate") == NOW
    two = request("evaluate"), request("evaluate", force=True)
    assert when(planned(found, *two, **budget), "evaluate") == NOW
    other = request("evaluate", model="x/y", force=True)
    assert when(planned(found, other, **budget), "evaluate") > NOW


def ranks(order: Order, *candidates) -> list[int]:
    return [c.id for c in in_order(candidates, order)]


def test_the_orders():
    base = candidate(9, role="base")
    five, six = candidate(5, likes=3, downloads=1), candidate(6, likes=2, downloads=4)
    late = candidate(7, created_at=None, seen_at=NOW, likes=1, downloads=2)
    everyone = (base, five, six, late)
    assert ranks(Order.NEWEST, *everyone) == [9, 7, 5, 6]
    assert ranks(Order.LIKES, *everyone) == [9, 5, 6, 7]
    assert ranks(Order.DOWNLOADS, *everyone) == [9, 6, 7, 5]


def test_authors_take_turns():
    a, b, c = ({"author": name} for name in "abc")
    crowd = [candidate(1, **a), candidate(2, **a), candidate(3, **a), candidate(4, **b)]
    crowd += [candidate(5, **c), candidate(6, **b)]
    assert ranks(Order.AUTHORS, *crowd) == [1, 4, 5, 2, 6, 3]


# -- select --------------------------------------------------------------------------------------


def test_experts_are_chosen_when_new_scores_have_settled():
    assert when(planned(facts(**FRESH), settle_seconds=3600), "select") == NOW + HOUR


def test_patience_runs_out_whatever_still_arrives():
    """New scores come in all the time; the first has waited long enough."""
    found = facts(**{**FRESH, "first_unselected_at": NOW - DAY}, open=(candidate(8),))
    assert due(planned(found, patience_seconds=86400, settle_seconds=3600))[0].startswith("select")


def test_a_wave_is_waited_for():
    found = facts(**FRESH, open=(candidate(8, "sighted"),))
    assert when(planned(found, settle_seconds=0, patience_seconds=7200), "select") == NOW + 2 * HOUR


@pytest.mark.parametrize(
    ("waiting", "settings"),
    [
        ({"open": (candidate(8),), "attempts": {"evaluate:8": attempt()}}, {}),
        ({"open": (candidate(8),), "attempts": {"evaluate:8": attempt("parked", 0)}}, {}),
        ({"open": (candidate(8, "sighted"),), "attempts": {"admit:8": attempt("parked")}}, {}),
        ({"open": (candidate(8, "sighted"),), "attempts": {"admit:8": attempt()}}, {}),
        ({"open": (candidate(8),)}, {"deny": ("author2",)}),
        ({"open": (candidate(8),), "spent_seconds": 1e6}, {}),
    ],
)
def test_what_will_not_come_soon_is_not_waited_for(waiting, settings):
    found = facts(**FRESH, **waiting)
    assert when(planned(found, settle_seconds=0, **settings), "select") == NOW


def test_a_request_does_not_wait_for_the_wave():
    assert when(planned(facts(**FRESH), request("select")), "select") == NOW
    assert when(planned(facts(**FRESH), request("soup")), "select") == NOW


def test_only_force_chooses_again_among_the_same_and_only_once():
    assert verbs(planned(QUIET, request("select"))) == []
    forced = request("select", force=True)
    assert verbs(planned(QUIET, forced)) == ["select"]
    chosen = Selection(2, (1, 2, 3), (2, 3), NOW)
    assert verbs(planned(facts(selection=chosen), forced)) == []


@pytest.mark.parametrize("missing", [{"scored": (1,)}, {"base_scored": False}])
def test_nothing_is_chosen_without_two_or_without_the_base(missing):
    found = facts(**{**FRESH, **missing})
    assert "select" not in {step.verb for step in planned(found, request("soup", force=True))}


UNDER_WAY = {
    "search": ({"selection": CHOSEN}, "search:2"),
    "open search": ({"search": Search(1, 1, "open", (2, 3)), "soup": None}, "search:1"),
    "planned soup": ({"soup": Soup(5, 1, "planned", "r")}, "build:5"),
    "built soup": ({"soup": Soup(5, 1, "built", "r")}, "judge:5"),
    "passed soup": ({"passed": Soup(5, 1, "passed", "r")}, "draft:soup:5"),
}


@pytest.mark.parametrize(("state", "key"), UNDER_WAY.values(), ids=UNDER_WAY)
def test_one_search_at_a_time_and_a_parked_one_does_not_hold_up_the_next(state, key):
    found = facts(**{**FRESH, "scored": (1, 2, 3, 4, 5), **state})
    steps = planned(found, settle_seconds=0)
    assert key in due(steps)
    assert "select" not in verbs(steps)
    again = planned(
        facts(**{**vars(found), "attempts": {key: attempt("parked")}}), settle_seconds=0
    )
    assert verbs(again) == ["select"]


# -- search to draft -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["approved", "unknown"])
def test_a_soup_is_judged_when_the_version_before_it_is_settled(state):
    found = {"soup": Soup(5, 1, "built", "r"), "scored": (1, 2, 3, 4)}
    sending = facts(**found, publications=(publication(1, state),))
    assert due(planned(sending, settle_seconds=0)) == ["publish:1"]
    for settled in ("draft", "committed", "blocked"):
        waiting = facts(**found, publications=(publication(1, settled),))
        assert "judge:5" in due(planned(waiting))
    elsewhere = facts(**found, publications=(publication(1, state, target="us/other"),))
    assert "judge:5" in due(planned(elsewhere))


def test_a_choice_of_the_same_members_needs_no_search():
    found = facts(selection=Selection(2, (1, 2, 3, 4), (2, 3), NOW), scored=(1, 2, 3, 4))
    assert verbs(planned(found)) == []


@pytest.mark.parametrize("members", [(), (2,)])
def test_one_expert_makes_no_soup_even_after_a_search_that_was_given_up(members):
    found = facts(
        selection=Selection(2, (1, 2, 3), members, NOW), search=Search(1, 1, "open", (2, 3))
    )
    assert verbs(planned(found)) == []


def test_a_search_given_up_by_an_older_choice_is_made_anew():
    found = facts(
        selection=Selection(2, (1, 2, 3), (2, 3), NOW), search=Search(1, 1, "open", (2, 3))
    )
    assert due(planned(found)) == ["search:2"]


def test_a_soup_that_passed_is_drafted_even_if_another_search_came_between():
    passed = Soup(4, 1, "passed", "r4")
    found = facts(passed=passed, selection=CHOSEN, soup=None, scored=(1, 2, 3, 4))
    assert due(planned(found)) == ["draft:soup:4", "search:2"]
    assert due(planned(facts(passed=passed, soup_drafted=True))) == []


def test_what_was_begun_comes_before_what_is_new():
    found = facts(
        **FRESH,
        open=(candidate(8), candidate(9, "sighted")),
        passed=Soup(4, 1, "passed", "r4"),
        publications=(publication(1, "approved"),),
        watched_at=None,
    )
    order = [step.verb for step in planned(found, pair="pair")]
    assert order == ["publish", "draft", "calibrate", "evaluate", "admit", "watch"]


def test_a_pair_is_calibrated_once_and_then_drafted():
    assert due(planned(QUIET, pair="new")) == ["calibrate:new"]
    done = facts(router=Router(3, "new", "config"))
    assert due(planned(done, pair="new")) == ["draft:router:3"]
    assert due(planned(facts(**{**vars(done), "router_drafted": True}), pair="new")) == []
    assert due(planned(done, pair="newer")) == ["calibrate:newer"], "the old one is not drafted"
    assert due(planned(done, pair=None)) == []


# -- publish -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "sent"),
    [
        (("approved",), [1]),
        (("draft",), []),
        (("blocked",), []),
        (("approved", "approved"), [2]),
        (("unknown", "approved"), [1]),
        (("committed", "approved"), [1]),
        (("approved", "unknown", "approved"), [2]),
        (("approved", "draft"), [1]),
        (("blocked", "approved"), [2]),
    ],
)
def test_of_each_target_what_is_in_doubt_is_settled_first_else_the_newest_is_sent(states, sent):
    waiting = tuple(publication(n, state) for n, state in enumerate(states, 1))
    assert due(planned(facts(publications=waiting))) == [f"publish:{n}" for n in sent]


def test_targets_do_not_wait_for_each_other():
    waiting = (publication(1, "unknown"), publication(2, "approved", target="us/router"))
    assert due(planned(facts(publications=waiting))) == ["publish:1", "publish:2"]


def test_the_cap_holds_back_what_is_new_and_force_lifts_it():
    full = {"published_today": 4, "publications": (publication(1, "approved"),)}
    assert when(planned(facts(**full)), "publish") > NOW
    assert when(planned(facts(**full), request("publish")), "publish") > NOW
    assert when(planned(facts(**full), request("publish", force=True)), "publish") == NOW
    doubt = {**full, "publications": (publication(1, "unknown"),)}
    assert when(planned(facts(**doubt)), "publish") == NOW


def test_pausing_publishing_pauses_only_that():
    found = facts(publications=(publication(1, "unknown"),), open=(candidate(4),))
    assert verbs(planned(found, request("publish", force=True), paused=("publish",))) == [
        "evaluate"
    ]


# -- failures ------------------------------------------------------------------------------------


def test_a_failed_step_waits_its_time_and_then_runs():
    found = facts(open=(candidate(4),), attempts={"evaluate:4": attempt(not_before=NOW + HOUR)})
    assert when(planned(found), "evaluate") == NOW + HOUR
    assert when(planned(found, now=NOW + 2 * HOUR), "evaluate") == NOW + 2 * HOUR


def test_a_step_that_ran_when_the_process_ended_runs_again():
    found = facts(open=(candidate(4),), attempts={"evaluate:4": attempt("running", 0)})
    assert due(planned(found)) == ["evaluate:4"]


def test_names_of_authors_have_no_case():
    assert is_welcome("Alice", ("alice",), ())
    assert not is_welcome("EVIL", (), ("evil",))
    assert not is_welcome("evil", ("Evil",), ("EVIL",))
