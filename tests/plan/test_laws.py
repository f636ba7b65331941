"""Laws of the plan that hold for any facts whatever, consistent or not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.plan import SCOPE, plan, waits_for
from bot.sections import Order, Publish
from bot.steps import COMPUTE, HUB, SEND
from db.facts import Router, Search, Selection, Soup
from db.schema import PUBLICATION_STATES, REQUEST_VERBS

from .facts import BASE, NOW, QUIET, attempt, candidate, context, facts, publication, request

moments = st.integers(-2 * 86400, 7200).map(lambda seconds: NOW + timedelta(seconds=seconds))
ids = st.integers(1, 6)
members = st.lists(ids, max_size=3, unique=True).map(tuple)
flags = st.booleans()

candidates = st.builds(
    lambda key, state, base, moment, likes: candidate(
        key, state, role="base" if base else "finetune", created_at=moment, likes=likes
    ),
    ids,
    st.sampled_from(["sighted", "admitted"]),
    st.just(False) | flags,
    st.none() | moments,
    st.integers(0, 3),
)
soups = st.builds(
    Soup, ids, ids, st.sampled_from(["planned", "built", "passed", "failed"]), st.just("r")
)
NUMBERED = ("admit", "evaluate", "search", "build", "judge", "draft:soup", "publish")
steps_tried = st.sampled_from(
    [f"{verb}:{n}" for verb in NUMBERED for n in range(1, 7)]
    + [f"watch:{BASE}@aaaaaaaaaaaa", f"select:{BASE}@aaaaaaaaaaaa", "calibrate:pair"]
)
attempts = st.dictionaries(
    steps_tried,
    st.builds(
        attempt,
        st.sampled_from(["running", "waiting", "parked"]),
        st.integers(0, 9),
        st.none() | moments,
    ),
    max_size=6,
)
publications = st.lists(
    st.builds(
        publication,
        ids,
        st.sampled_from(PUBLICATION_STATES),
        st.sampled_from(["us/soup", "us/router"]),
    ),
    max_size=4,
    unique_by=lambda p: p.id,
).map(tuple)
situations = st.builds(
    facts,
    watched_at=st.none() | moments,
    open=st.lists(candidates, max_size=5, unique_by=lambda c: c.id).map(tuple),
    scored=members.map(lambda m: tuple(sorted(m))),
    base_scored=flags,
    first_unselected_at=st.none() | moments,
    last_scored_at=st.none() | moments,
    selection=st.none() | st.builds(Selection, ids, members, members, moments),
    search=st.none() | st.builds(Search, ids, ids, st.sampled_from(["open", "done"]), members),
    soup=st.none() | soups,
    passed=st.none() | soups,
    soup_drafted=flags,
    router=st.none() | st.builds(Router, ids, st.sampled_from(["pair", "old"]), st.just("c")),
    router_drafted=flags,
    publications=publications,
    published_today=st.integers(0, 6),
    spent_seconds=st.floats(0, 2e5),
    spent_bytes=st.integers(0, 10**12),
    attempts=attempts,
)
requests = st.lists(
    st.builds(
        request,
        st.sampled_from(REQUEST_VERBS),
        model=st.none() | ids.map(lambda n: f"author{n % 3}/model{n}"),
        force=flags,
        at=moments,
    ),
    max_size=3,
)
contexts = st.builds(
    lambda asked, more: context(*asked, **more),
    requests,
    st.fixed_dictionaries(
        {},
        optional={
            "paused": st.sampled_from([(), ("publish",)]),
            "pair": st.sampled_from([None, "pair"]),
            "order": st.sampled_from(list(Order)),
            "deny": st.just(("author1",)),
            "allow": st.just(("author2",)),
            "settle_seconds": st.floats(0, 1e5),
            "publish": st.sampled_from(["auto", "ask"]),
        },
    ),
)
many = settings(max_examples=80, deadline=None)
KEEPS_THE_TABLE = {"watch", "admit", "evaluate"}


@many
@given(situations, contexts)
def test_the_same_facts_give_the_same_steps_and_none_twice(found, told):
    steps = plan(found, told)
    assert steps == plan(replace(found), replace(told))
    assert [key for key, count in Counter(step.key for step in steps).items() if count > 1] == []
    assert {step.slot for step in steps} <= {HUB, COMPUTE, SEND}
    assert all((step.base, step.base_id) == (BASE, 1) for step in steps)


@many
@given(situations, contexts)
def test_parked_steps_do_not_come_back_and_waiting_ones_wait(found, told):
    for step in plan(found, told):
        tried = found.attempts.get(step.key)
        assert tried is None or tried.state != "parked"
        assert tried is None or tried.not_before is None or step.due >= tried.not_before


@many
@given(situations, contexts)
def test_nothing_when_paused(found, told):
    assert plan(found, replace(told, paused=frozenset({"all"}))) == []
    steps = plan(found, replace(told, paused=frozenset({"publish"})))
    assert "publish" not in {step.verb for step in steps}


@many
@given(situations, contexts)
def test_a_bot_that_publishes_nothing_only_keeps_the_table(found, told):
    section = told.section.model_copy(update={"publish": Publish.OFF})
    steps = plan(found, replace(told, section=section))
    assert {step.verb for step in steps} <= KEEPS_THE_TABLE
    before = plan(found, told)
    assert steps == [step for step in before if step.verb in KEEPS_THE_TABLE]


@many
@given(situations, contexts)
def test_requests_move_steps_forward_and_never_past_a_gate(found, told):
    """They add nothing but a choice made again, and a model that the lists of authors exclude."""
    calm = {step.key: step for step in plan(found, replace(told, requests=()))}
    named = {request.model for request in told.requests}
    for step in plan(found, told):
        if step.key in calm:
            # A named model may be on its way now, and is waited for like others of its wave.
            waits = step.verb == "select" and named - {None}
            assert waits or step.due <= max(calm[step.key].due, NOW)
        else:
            forced = step.verb == "select" and any(r.force for r in told.requests)
            assert forced or (step.verb == "evaluate" and step.model in named)


@many
@given(situations, contexts)
def test_a_request_waits_only_for_steps_of_its_kind(found, told):
    steps = plan(found, told)
    for asked in told.requests:
        assert not waits_for(asked, found, [])
        more = SCOPE["soup"] if asked.verb == "select" else set()
        others = [s for s in steps if s.verb not in {*SCOPE[asked.verb], *more, "watch"}]
        assert not waits_for(asked, found, others)


@many
@given(situations, contexts)
def test_the_base_is_always_watched_unless_that_is_parked(found, told):
    verbs = [step.verb for step in plan(found, told)]
    parked = found.attempts.get(f"watch:{BASE}@aaaaaaaaaaaa")
    assert verbs.count("watch") == (parked is None or parked.state != "parked")


@many
@given(situations, contexts)
def test_at_most_one_thing_at_a_time_is_done_about_soups_of_one_target(found, told):
    """Never two searches, and never two versions on their way to one place."""
    steps = plan(found, told)
    chain = Counter(step.verb for step in steps)
    assert max(chain[verb] for verb in ("select", "search", "build", "judge")) <= 1
    targets = [p.target for p in found.publications for s in steps if s.key == f"publish:{p.id}"]
    assert len(targets) == len(set(targets))


def test_every_verb_that_can_be_asked_for_is_understood():
    for verb in REQUEST_VERBS:
        assert not waits_for(request(verb), QUIET, [])
