"""The bot's selection: two methods, both shown; near copies; incumbents."""

from __future__ import annotations

import numpy as np
import pytest

from bot.select import method_for, select
from db import outcomes as o
from db.report import events_after
from merge.select import Method

from .family import CATEGORIES, Family


def chosen(town):
    kept = town.run(select)
    (selection,) = [outcome for outcome in kept if isinstance(outcome, o.Selected)]
    names = {row.id: row.repo for row in town.candidates()}
    return selection, {names[i] for i in selection.members}


def test_specialists_are_chosen_and_both_methods_are_shown(kitchen):
    town = kitchen(Family(4))
    town.score("org/base", *town.family.names)
    selection, members = chosen(town)
    assert (selection.method, members) == ("complementary", set(town.family.names))
    assert set(selection.figures["correlations"]) == set(CATEGORIES)
    assert selection.figures["rival"]["method"] == "soce"


@pytest.mark.parametrize("method", ["soce", "complementary"])
def test_a_disagreement_is_told(kitchen, method):
    """By correlations a fifth model comes in that adds nothing to the others."""
    town = kitchen(Family(5, seed=3), method=method, tau=1.0)
    town.score("org/base", *town.family.names)
    selection, members = chosen(town)
    assert selection.method == method
    rival = {row.repo for row in town.candidates() if row.id in
             selection.figures["rival"]["members"]}  # fmt: skip
    assert bool(selection.figures["disagreement"]) == (rival != members)
    (event,) = [e for e in events(town) if e.kind == "selected"]
    for sentence in selection.figures["disagreement"]:
        assert sentence in event.text


def events(town):
    return events_after(town.store.engine, 0)


def test_that_nobody_may_be_chosen_is_a_choice_until_there_are_others(kitchen):
    town = kitchen(Family(2), allow=("friend",))
    town.score("org/base", town.family.names[0])
    assert town.due("select")
    selection, members = chosen(town)
    assert (members, selection.experts) == (set(), {})
    assert town.due("select") == town.due("search") == []
    assert [e.kind for e in events(town)][-2:] == ["selected", "no-soup"]

    town.score(town.family.names[1], author="friend")
    assert town.due("select")
    _, members = chosen(town)
    assert members == {town.family.names[1]}


def test_the_method_follows_the_number_of_models_unless_it_is_named(kitchen):
    town = kitchen(Family(2))
    assert method_for(town.base, 29) is Method.COMPLEMENTARY
    assert method_for(town.base, 30) is Method.SOCE
    assert method_for(kitchen(Family(2), method="soce").base, 2) is Method.SOCE


@pytest.mark.parametrize(("cosine", "both"), [(0.98, False), (0.54, True)])
def test_a_copy_by_weights_is_left_out_siblings_are_not(kitchen, cosine, both):
    """Siblings trained alike reach a cosine of 0.54; a copy is near 1."""
    family = Family(2)
    one, other = np.eye(128)[:2]
    near = cosine * one + np.sqrt(1 - cosine**2) * other
    town = kitchen(family)
    town.score("org/base", *family.names, places={"org/m0": (one, 0.1), "org/m1": (near, 0.1)})
    selection, members = chosen(town)
    assert (len(members) == 2) is both
    assert any("nearly the weights of" in note for note in selection.figures["notes"]) is not both


def test_noise_of_correlations_is_said(kitchen):
    town = kitchen(Family(4), method="soce")
    town.score("org/base", *town.family.names)
    selection, _ = chosen(town)
    weak = selection.figures["weak_pairs"]
    noted = [note for note in selection.figures["notes"] if "95 % interval" in note]
    assert len(noted) == min(len(weak), 5) > 0
    assert "over 5 models, without item noise" in noted[0]
