"""What the planner is shown: what is open, no more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from db import outcomes as o
from db.engine import reading
from db.facts import BaseFacts
from db.reader import Reader

from .story import (  # fmt: skip
    LEASE,
    NOW,
    STORY,
    admitted,
    drafted,
    planned,
    register_benchmark,
    scored,
    selected,
    sighted,
    tell,
)

HOUR = timedelta(hours=1)


def facts(store, *, benchmark: int = 1, now=NOW) -> BaseFacts:
    return Reader(store.engine).facts(1, benchmark, 2, now)


def row_of(candidate: int) -> list[o.Outcome]:
    return [
        scored("add", "0011", candidate_id=candidate),
        scored("sort", "1", candidate_id=candidate),
    ]


def names(found: BaseFacts) -> list[str]:
    return [f"{candidate.repo}@{candidate.sha[0]}" for candidate in found.open]


def test_a_new_base_is_its_own_first_candidate(store, lease):
    found = facts(store)
    assert [(c.repo, c.role, c.state) for c in found.open] == [("org/base", "base", "sighted")]
    assert (found.scored, found.base_scored, found.selection, found.soup) == ((), False, None, None)


def test_only_what_is_open_is_shown(told):
    found = facts(told)
    assert found.open == ()
    assert (found.scored, found.base_scored) == ((1, 2, 3), True)
    assert [(p.version, p.state) for p in found.publications] == [(2, "approved")]
    assert found.router is not None
    assert found.router_drafted is False


def test_a_row_of_scores_is_complete_or_not_there(store, lease):
    tell(store, lease, [sighted("x"), admitted(2), row_of(2)[0]])
    assert (facts(store).scored, names(facts(store))) == ((), ["org/base@a", "org/x@a"])
    tell(store, lease, [row_of(2)[1]], NOW + HOUR)
    found = facts(store)
    assert (found.scored, names(found)) == ((2,), ["org/base@a"])
    assert found.last_scored_at == found.first_unselected_at == NOW + HOUR


@pytest.mark.parametrize("verdict", [o.Rejected(2, "non-finite", "x"), o.Withdrawn(2, "gone")])
def test_scores_of_the_refused_do_not_count(store, lease, verdict):
    tell(store, lease, [sighted("x"), admitted(2), *row_of(2), verdict])
    assert facts(store).scored == ()


def test_a_repository_that_moves_on_stands_once(store, lease):
    tell(store, lease, [sighted("x"), admitted(2), sighted("x", "b" * 40)])
    assert names(facts(store)) == ["org/base@a", "org/x@b"]
    tell(store, lease, [o.Rejected(3, "gated", "")])
    assert names(facts(store)) == ["org/base@a", "org/x@a"], "the older one may be good still"
    tell(store, lease, [*row_of(2), sighted("x", "c" * 40), admitted(4)])
    assert facts(store).scored == (2,), "the older one counts until the newer one is scored"
    tell(store, lease, row_of(4))
    assert facts(store).scored == (4,)


def test_a_push_to_the_base_does_not_replace_the_base(store, lease):
    tell(
        store, lease, [admitted(1), *row_of(1), sighted("base", "b" * 40), admitted(2), *row_of(2)]
    )
    assert (facts(store).scored, facts(store).base_scored) == ((1, 2), True)


def test_another_benchmark_begins_anew(told):
    assert register_benchmark(told, "other suite") == 2
    found = facts(told, benchmark=2)
    assert (found.scored, found.selection, found.search, found.passed) == ((), None, None, None)
    assert len(found.open) == 3


def test_the_first_score_that_no_choice_has_seen(store, lease):
    tell(store, lease, STORY)
    assert facts(store).first_unselected_at is None
    tell(store, lease, [sighted("new"), admitted(6), *row_of(6)], NOW + HOUR)
    tell(store, lease, [sighted("newer"), admitted(7), *row_of(7)], NOW + 2 * HOUR)
    found = facts(store)
    assert (found.first_unselected_at, found.last_scored_at) == (NOW + HOUR, NOW + 2 * HOUR)


def test_the_soup_that_passed_is_shown_until_it_is_drafted_whatever_comes_later(store, lease):
    before = next(i for i, outcome in enumerate(STORY) if isinstance(outcome, o.Drafted))
    later = [selected(inputs=(1, 2)), o.SearchOpened(1, 2, 1, "grid", (2, 3))]
    tell(store, lease, [*STORY[:before], *later])
    found = facts(store)
    assert found.soup is None
    assert found.passed is not None
    assert (found.passed.id, found.soup_drafted) == (1, False)
    tell(store, lease, [drafted("recipe-1", 1)])
    assert facts(store).soup_drafted


def test_the_version_before_is_what_readers_of_the_target_get_or_may_get(told):
    before = Reader(told.engine).version_before

    def version() -> int | None:
        row = before(1, "stockpot/soup")
        return row and row.version

    assert version() == 1, "the second one waits to be sent"
    assert before(1, "stockpot/other") is None, "another target is another story"
    assert before(2, "stockpot/soup") is None
    tell(told, LEASE, [o.Moved(2, "unknown", parent="d" * 40)])
    assert version() == 2, "nobody knows that it is not there"
    tell(told, LEASE, [o.Moved(2, "blocked", error="somebody was there first")])
    assert version() == 1
    tell(told, LEASE, [o.Moved(2, "committed", commit_sha="e" * 40, tag="v2")])
    tell(told, LEASE, [o.Moved(2, "blocked", error="one file is not what was sent")])
    assert version() == 2, "a person is told, and nothing is hidden"


def test_what_was_spent_and_published_is_of_the_last_day(store, lease):
    tell(store, lease, STORY)
    tell(store, lease, [o.Spent(1, "evaluate", 1.5, 2_000_000_000_000)], NOW + HOUR)
    early, late = facts(store, now=NOW + HOUR), facts(store, now=NOW + 24.5 * HOUR)
    assert (early.spent_seconds, early.spent_bytes, early.published_today) == (
        4.0,
        2_000_000_000_010,
        1,
    )
    assert (late.spent_seconds, late.spent_bytes, late.published_today) == (
        1.5,
        2_000_000_000_000,
        0,
    )


def test_the_category_table_is_there_for_plain_sql(told):
    query = (
        "SELECT model, category, value, n FROM category_table WHERE role <> 'base' ORDER BY 1, 2"
    )
    with reading(told.engine) as connection:
        assert [tuple(row) for row in connection.execute(text(query))] == [
            ("org/good", "add", 0.5, 4),
            ("org/good", "sort", 0.75, 4),
            ("org/other", "add", 0.5, 4),
            ("org/other", "sort", 0.75, 4),
        ]


def test_reading_is_typed_and_unknown_ids_are_errors(told):
    reader = Reader(told.engine)
    assert [c.repo for c in reader.candidates([3, 2])] == ["org/other", "org/good"]
    assert reader.base_candidate(1).pin == "org/base@" + "a" * 40
    assert reader.candidate(2).files[0].size == 10
    assert [t.weights for t in reader.trials(1)] == ["1 0", "4/10 6/10"]
    assert [(m.numerator, m.denominator) for m in reader.soup_members(1)] == [(4, 10), (6, 10)]
    assert reader.known_weights(1)["weights-2"] == "org/good@" + "a" * 40
    look = reader.look_of(1, "splits")
    assert look is not None
    assert (look.k, reader.looks_taken(1, 1)) == (1, 1)
    for unknown in (reader.candidate, reader.soup, reader.search, reader.publication):
        with pytest.raises(LookupError):
            unknown(99)


def test_looks_are_counted_over_all_benchmarks_that_share_an_item(store, lease):
    def benchmark(digest: str, *judging: str) -> int:
        return store.register_benchmark(
            name="tiny",
            digest=digest,
            splits_digest=digest,
            seed=0,
            shares=(0.4, 0.3, 0.3),
            items={},
            judging=judging or None,
            now=NOW,
        )

    first, other, both = benchmark("1", "a", "b"), benchmark("2", "c"), benchmark("3", "b", "c")
    unknown, new = benchmark("4"), benchmark("5", "d")
    tell(store, lease, STORY[: STORY.index(planned())])
    taken = [(first, 1), (other, 1), (both, 3)]
    for n, (where, k) in enumerate(taken, 1):
        tell(
            store,
            lease,
            [
                replace(planned(f"recipe-{n}"), benchmark_id=where),
                o.LookTaken(1, n, f"{where}", k, 0.05 / k),
            ],
        )
    looks_taken = Reader(store.engine).looks_taken
    assert [looks_taken(1, b) for b in (first, other, both, new)] == [3, 3, 3, 0]
    assert looks_taken(1, unknown) == 3, "nobody knows what it has seen"
    tell(
        store,
        lease,
        [
            replace(planned("recipe-4"), benchmark_id=unknown),
            o.LookTaken(1, 4, f"{unknown}", 4, 0.01),
        ],
    )
    assert looks_taken(1, new) == 4
    benchmark("4", "e")
    assert looks_taken(1, new) == 0, "now it is known"


def test_the_oldest_of_two_equal_uploads_is_the_original(store, lease):
    copy = o.Admitted(3, "mit", 10, "weights-2", True, ())
    tell(store, lease, [sighted("x"), sighted("y"), admitted(2), copy])
    assert Reader(store.engine).known_weights(1) == {"weights-2": "org/x@" + "a" * 40}


def test_planned_soups_are_open(store, lease):
    tell(store, lease, STORY[:21])
    tell(store, lease, [planned()])
    soup = facts(store).soup
    assert soup is not None
    assert soup.state == "planned"
