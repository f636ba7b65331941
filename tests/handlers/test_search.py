"""The bot's search: only what is wanted is evaluated, nothing twice, whatever happens between."""

from __future__ import annotations

from collections import Counter

import pytest

from bot.errors import Broken, Gone, Misconfigured, Rejected
from bot.judge import judge
from bot.reasons import Reason
from bot.search import search
from bot.select import select
from db import outcomes as o
from db.report import events_of
from merge.search import GridSearch
from merge.splits import Split

from .family import Family


def opened(kitchen, n=3, **section):
    """Experts are chosen; the search is next."""
    made = kitchen(Family(n), **section)
    made.score("org/base", *made.family.names)
    made.run(select)
    return made


def finished(kept):
    (done,) = [outcome for outcome in kept if isinstance(outcome, o.Searched)]
    return done.best


def test_a_search_costs_a_fraction_of_the_grid(kitchen):
    town = opened(kitchen)
    best = finished(town.run(search, 1))
    items = sum(town.base.benchmark.sizes(Split.TUNE).values())
    of_soups = [soup for soup, _, _ in town.oven.asked if soup.count("=") > 1]
    assert best["evaluations"] == len(of_soups)
    assert best["full"] == items
    assert best["grid"] == len(GridSearch(3).points) == 37
    assert len(of_soups) <= (0.2 * 37 + 2) * items, "at most two for the greedy soup"
    assert best["value"] >= best["best_member_value"]
    assert best["value"] >= best["greedy_value"]
    partly = [t for t in town.world.reader.trials(1) if "-" in "".join(t.outcomes.values())]
    assert partly


@pytest.mark.parametrize("strategy", ["surrogate", "grid", "race", "greedy"])
def test_no_item_is_asked_twice_and_the_greedy_soup_is_there(kitchen, strategy):
    town = opened(kitchen, strategy=strategy)
    best = finished(town.run(search, 1))
    assert max(Counter(town.oven.asked).values()) == 1
    assert best["greedy_value"] >= best["best_member_value"]


@pytest.mark.parametrize(
    ("strategy", "killed_after"),
    [*(("surrogate", k) for k in (1, 4, 13, 14, 20, 30)), ("race", 60), ("grid", 30)],
)
def test_a_killed_search_ends_as_if_it_had_not_been(kitchen, strategy, killed_after):
    whole = opened(kitchen, strategy=strategy)
    expected = finished(whole.run(search, 1))
    town = opened(kitchen, strategy=strategy)
    town.run(search, 1, stop_after=killed_after)
    lost = len(town.oven.asked)
    assert finished(town.run(search, 1)) == expected
    assert lost < len(town.oven.asked)
    assert sorted(set(town.oven.asked)) == sorted(whole.oven.asked)
    stored = {t.weights: t.outcomes for t in town.world.reader.trials(1)}
    assert stored == {t.weights: t.outcomes for t in whole.world.reader.trials(1)}


def test_what_earlier_searches_know_is_not_asked_again(kitchen):
    """A fourth expert: the three before it are known alone, and so are their soups."""
    town = kitchen(Family(4))
    town.score("org/base", *town.family.names[:3])
    town.run(select)
    town.run(search, 1)
    before = len(town.oven.asked)
    town.score(town.family.names[3])
    town.run(select)
    best = finished(town.run(search, 2))
    again = town.oven.asked[before:]
    assert max(Counter(town.oven.asked).values()) == 1
    assert {soup for soup, _, _ in again if soup.count("=") == 1} == {"tune: org/m3=1"}
    assert best["evaluations"] == sum(soup.count("=") > 1 for soup, _, _ in again)


@pytest.mark.parametrize("lie", ["", "0101", "x" * 36, "-" * 36])
def test_an_answer_about_other_items_is_refused(kitchen, lie):
    town = opened(kitchen)
    town.oven.lie = {"rev": lie}
    with pytest.raises((Broken, ValueError)):
        town.run(search, 1)
    assert town.world.reader.trials(1) == []


def test_the_objective_of_the_settings_is_the_searched_one(kitchen):
    town = opened(kitchen, objective="worst")
    best = finished(town.run(search, 1))
    (winner,) = [t for t in town.world.reader.trials(1) if t.weights == best["weights"]]
    shares = [bits.count("1") / len(bits) for bits in winner.outcomes.values()]
    assert best["value"] == pytest.approx(min(shares))


LOST = [Gone("org/m1"), Rejected(Reason.GATED, "org/m1", "closed since")]


@pytest.mark.parametrize("error", LOST)
@pytest.mark.parametrize("begun", [False, True])
def test_a_member_that_is_lost_ends_its_search_and_the_choice_is_made_anew(kitchen, error, begun):
    town = opened(kitchen)
    if begun:
        town.run(search, 1, stop_after=14)
    asked = len(town.oven.asked)
    town.world.hub.lost = {"org/m1": error}
    town.run(search, 1)
    assert len(town.oven.asked) == asked
    assert town.due("search") == []
    told = events_of(town.store.engine, "us/soup", base="org/base")
    assert [e.kind for e in told][-1] == "member-lost"
    assert "org/m1@" in told[-1].text

    assert town.due("select")
    town.run(select)
    assert town.due("search")
    finished(town.run(search, 2))
    (_, again) = (town.world.reader.selection(n) for n in (1, 2))
    names = {row.repo for row in town.candidates() if row.id in again.members}
    assert names == {"org/m0", "org/m2"}


def test_a_member_that_comes_back_is_searched_for_after_all(kitchen):
    town = opened(kitchen)
    town.world.hub.lost = {"org/m1": LOST[0]}
    town.run(search, 1)
    town.world.hub.lost = {}
    row = next(c for c in town.candidates() if c.repo == "org/m1")
    town.keep(o.Admitted(row.id, "mit", 10, "weights-org/m1", True, ()))
    assert town.due("search")
    finished(town.run(search, 1))


@pytest.mark.parametrize("error", LOST)
def test_a_base_that_is_lost_is_no_lost_member(kitchen, error):
    town = opened(kitchen)
    town.run(search, 1)
    town.world.hub.lost = {"org/base": error}
    town.keep(o.SoupBuilt(1, {"model.safetensors": {"sha256": "0" * 64, "size": 10}}))
    with pytest.raises(Misconfigured, match="the base org/base@"):
        town.run(judge, 1)
    assert {c.state for c in town.candidates()} == {"admitted"}
