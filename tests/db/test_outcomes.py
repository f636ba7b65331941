"""Every outcome: what it leaves behind, and that saying it twice changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest
from sqlalchemy import text

from db import outcomes as o
from db import report
from db.engine import reading

from .story import (  # fmt: skip
    BASE,
    NOW,
    SEARCHED,
    SHA,
    STORY,
    admitted,
    drafted,
    dump,
    planned,
    rows,
    selected,
    sighted,
    tell,
)

FIRST = {
    kind: next(i for i, o in enumerate(STORY) if type(o) is kind) for kind in get_args(o.Outcome)
}
HOUR = timedelta(hours=1)
CYCLE = (
    "base-moved admitted scored scored selected search-opened soup-planned searched soup-built "
    "look scored judged reopened judged calibrated soup-planned"
)


def kinds(store, subject: str) -> list[str]:
    return [event.kind for event in report.events_of(store.engine, subject)]


def test_the_story_has_every_kind_of_outcome():
    assert {type(outcome) for outcome in STORY} == set(get_args(o.Outcome))


@pytest.mark.parametrize("kind", get_args(o.Outcome), ids=lambda kind: kind.__name__)
def test_said_twice_it_changes_nothing(store, lease, kind):
    tell(store, lease, STORY[: FIRST[kind] + 1])
    before = dump(store)
    tell(store, lease, [STORY[FIRST[kind]]])
    assert dump(store) == before


LATER = {o.Watched: {"bases"}, o.Selected: {"selections"}, o.Spent: {"spending"}}


@pytest.mark.parametrize("kind", get_args(o.Outcome), ids=lambda kind: kind.__name__)
def test_said_again_later_it_changes_times_at_most(store, lease, kind):
    tell(store, lease, STORY[: FIRST[kind] + 1])
    before = dump(store)
    tell(store, lease, [STORY[FIRST[kind]]], NOW + HOUR)
    after = dump(store)
    assert {name for name in after if after[name] != before[name]} == LATER.get(kind, set())
    if kind is not o.Spent:
        assert {name: len(found) for name, found in after.items()} == {
            name: len(found) for name, found in before.items()
        }


def test_the_whole_story_told_twice_is_the_story(store, lease):
    tell(store, lease, STORY)
    before = dump(store)
    said_again = [outcome for outcome in STORY if not isinstance(outcome, o.Moved)]
    tell(store, lease, said_again)
    after = dump(store)
    # The refused and the withdrawn are still so; nothing is published, judged or chosen twice.
    assert after.keys() == before.keys()
    for name in after:
        assert len(after[name]) == len(before[name]), name


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (
            "org/good",
            ["sighted", "admitted", "examined", "scored", "scored", "expert"] + ["in-soup"] * 2,
        ),
        ("org/bad", ["sighted", "rejected"]),
        ("org/gone", ["sighted", "withdrawn"]),
        ("org/nobody", ["not-found"]),
        ("publish", ["paused"]),
        (
            "stockpot/soup",
            [
                "drafted",
                "publication-unknown",
                "publication-committed",
                "publication-verified",
                "drafted",
            ],
        ),
        (
            BASE,
            CYCLE.split(),
        ),
    ],
)
def test_explain_can_tell_what_happened(told, subject, expected):
    assert kinds(told, subject) == expected


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("org/good", ["mit", "50.0 ± 10.0 percent of 4 select items", "4/10 in soup"]),
        ("org/bad", ["gated", "ask first"]),
        (BASE, ["soce chose org/good, org/other", "best 4/10 6/10", "look 1", "passed: +2 points"]),
        ("stockpot/soup", ["version 1 of the soup drafted (approved)"]),
    ],
)  # fmt: skip
def test_the_events_carry_the_figures(told, subject, words):
    said = "\n".join(event.text for event in report.events_of(told.engine, subject))
    assert [word for word in words if word not in said] == []


def test_an_event_without_data_is_null_for_plain_sql(store, lease):
    tell(store, lease, STORY[:1])
    with reading(store.engine) as connection:
        assert connection.execute(text("SELECT data IS NULL FROM events")).scalar() == 1


# -- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [o.Rejected(2, "gated", "x"), o.Withdrawn(2, "gone")])
def test_a_person_may_ask_for_another_look(store, lease, verdict):
    tell(store, lease, [sighted("good"), verdict, sighted("good")])
    assert rows(store, "candidates")[1].state != "sighted"
    tell(store, lease, [sighted("good", again=True)])
    row = rows(store, "candidates")[1]
    assert (row.state, row.reason, row.detail) == ("sighted", None, None)
    assert kinds(store, "org/good")[-1] == "sighted"


def test_another_look_does_not_disturb_an_admitted_one(store, lease):
    tell(store, lease, [sighted("good"), admitted(2)])
    before = dump(store)
    tell(store, lease, [sighted("good", again=True)])
    assert dump(store) == before


def test_every_verdict_can_follow_every_other(store, lease):
    tell(store, lease, [sighted("good")])
    verdicts = [o.Rejected(2, "gated", "x"), o.Withdrawn(2, "gone"), admitted(2)]
    for first in verdicts:
        for second in verdicts:
            tell(store, lease, [first, second])
            row = rows(store, "candidates")[1]
            assert (row.state == "rejected") == (row.reason is not None)


def test_a_push_is_another_candidate(store, lease):
    tell(store, lease, [sighted("good"), sighted("good", "b" * 40)])
    assert [(c.repo, c.sha[0]) for c in rows(store, "candidates")[1:]] == [
        ("org/good", "a"),
        ("org/good", "b"),
    ]


def test_a_base_that_moves_is_told_once_for_each_move(store, lease):
    for head in (SHA, "b" * 40, "b" * 40, None, "c" * 40):
        tell(store, lease, [o.Watched(1, head, None, swept=False)])
    assert kinds(store, BASE) == ["base-moved", "base-moved"]
    row = rows(store, "bases")[0]
    assert (row.head, row.sha, row.watched_at, row.swept_at) == ("c" * 40, SHA, NOW, None)


# -- soups ---------------------------------------------------------------------------------------


def test_an_expert_that_loses_its_place_is_told(store, lease):
    tell(store, lease, [*STORY[:19], selected(members=(3, 2)), selected(members=(3, 3))])
    said = [e.text for e in report.events_of(store.engine, "org/good") if e.kind == "expert"]
    assert said == ["expert of add (soce)", "expert of sort (soce)", "no longer an expert (soce)"]


def test_the_same_choice_made_again_is_remembered_as_made_now(store, lease):
    """A forced request asks for a choice later than itself."""
    tell(store, lease, STORY)
    tell(store, lease, [selected()], NOW + HOUR)
    assert [row.created_at for row in rows(store, "selections")] == [NOW + HOUR]
    tell(store, lease, [selected(inputs=(1, 2))])
    assert len(rows(store, "selections")) == 2


def test_a_soup_found_again_before_it_was_judged_goes_on_in_the_later_search(store, lease):
    tell(store, lease, STORY[: FIRST[o.SoupBuilt]])
    later = [selected(inputs=(1, 2)), o.SearchOpened(1, 2, 1, "grid", (2, 3)), planned(search=2)]
    tell(store, lease, later)
    assert [(s.search_id, s.state) for s in rows(store, "soups")] == [(2, "planned")]


def test_a_soup_found_again_after_its_verdict_keeps_it(store, lease):
    tell(store, lease, STORY)
    before = rows(store, "soups")
    later = [selected(inputs=(1, 2)), o.SearchOpened(1, 2, 1, "grid", (2, 3)), planned(search=2)]
    tell(store, lease, [*later, o.SoupBuilt(1, {}), o.Judged(1, False, {"x": 1}, "no")])
    after = rows(store, "soups")
    assert [(s.search_id, s.state, s.verdict) for s in after] == [
        (s.search_id, s.state, s.verdict) for s in before
    ]


def test_answers_about_one_vector_add_up(store, lease):
    """A race asks for some items first; what was answered once stays."""
    tell(store, lease, STORY[: STORY.index(planned())])
    before = rows(store, "trials")
    for bits in ("0-1-", "01--", "11-0"):
        tell(store, lease, [o.Tried(1, "1/2 1/2", {"add": bits, "sort": "----"})])
    assert rows(store, "trials")[:-1] == before
    assert rows(store, "trials")[-1].outcomes == {"add": "0110", "sort": "----"}


def test_a_finished_search_stays_as_it_finished(store, lease):
    tell(store, lease, STORY)
    tell(store, lease, [o.Searched(1, {**SEARCHED, "trials": 99})])
    assert rows(store, "searches")[0].best == SEARCHED


def test_notes_are_repeated_only_when_something_else_was_said_between(store, lease):
    note = o.Noted(1, "x/y", "conflict", "edited")
    other = replace(note, text="edited again")
    tell(store, lease, [note, note, other, other, note])
    said = [event.text for event in report.events_of(store.engine, "x/y")]
    assert said == ["edited", "edited again", "edited"]


# -- publications --------------------------------------------------------------------------------


def states(store) -> list[str]:
    return [row.state for row in rows(store, "publications")]


def test_what_an_older_version_still_waited_for_ends_with_a_newer_one(store, lease):
    tell(store, lease, STORY[: FIRST[o.Drafted]])
    soups = [planned(f"recipe-{n}") for n in (2, 3, 4, 5)]
    waiting = zip(("draft", "approved", "blocked", "dropped"), (2, 3, 4, 5), strict=True)
    drafts = [drafted(f"recipe-{n}", n, soup=n, state=state) for state, n in waiting]
    tell(store, lease, [*soups, *drafts, drafted("recipe-1", 6)])
    tell(
        store,
        lease,
        [o.Moved(5, "committed", commit_sha="d" * 40, tag="v6"), o.Moved(5, "verified")],
    )
    assert states(store) == ["dropped", "dropped", "dropped", "dropped", "verified"]
    said = [event.text for event in report.events_of(store.engine, "stockpot/soup")]
    assert said.count("version 3: dropped (overtaken by version 6)") == 1


def test_what_stood_in_the_way_is_forgotten_when_it_goes_on(store, lease):
    tell(store, lease, STORY[: FIRST[o.Moved]])
    tell(store, lease, [o.Moved(1, "blocked", error="quota"), o.Moved(1, "unknown")])
    row = rows(store, "publications")[0]
    assert (row.state, row.error, row.sent_at) == ("unknown", None, NOW)
