"""Race, greedy and surrogate: what any search promises, and what these promise beyond it."""

import csv
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.objective import Goal, Objective
from merge.outcomes import Outcomes
from merge.racing import RaceSearch
from merge.search import GridSearch, make_search
from merge.simplex import corner, parse_weights, uniform
from merge.splits import Leak, Split
from merge.subsets import Subsets
from merge.surrogate import SurrogateSearch, allowance

ITEMS = Path(__file__).parents[3] / "shared" / "tables" / "bfcl_v1_items_2024-08-11.csv"
STRATEGIES = ["grid", "race", "greedy", "surrogate"]


def converse(search, truth, told=None, lazy=True):
    """Drive a search to its end; the trials in order. lazy: evaluate only what is wanted."""
    trials = [] if told is None else told
    while (weights := search.ask()) is not None:
        wanted = search.wanted(weights)
        outcomes = truth(weights)
        if lazy and wanted is not None:
            outcomes = outcomes.only(wanted)
        search.tell(weights, outcomes)
        trials.append((weights, outcomes))
    return trials


def start(strategy, members, **options):
    return make_search(strategy, len(members), known=members, **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_at_any_point_a_replay_asks_the_same(family, strategy) -> None:
    truth = family(3, seed=1)
    whole = converse(start(strategy, truth.members), truth)
    for killed_after in sorted({0, 1, 2, len(whole) // 2, *range(len(whole) - 2, len(whole) + 1)}):
        again = start(strategy, truth.members)
        for weights, outcomes in whole[:killed_after]:
            again.tell(weights, outcomes)
        rest = converse(again, truth)
        assert [w for w, _ in rest] == [w for w, _ in whole[killed_after:]]
        assert [o for _, o in rest] == [o for _, o in whole[killed_after:]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_item_is_evaluated_twice(family, strategy) -> None:
    truth = family(3, seed=2)
    trials = converse(start(strategy, truth.members), truth)
    for weights in {w for w, _ in trials}:
        for category in truth.members[0].categories:
            seen = sum(o.values[category] >= 0 for w, o in trials if w == weights)
            assert seen.max() <= 1
    assert not {w for w, _ in trials} & {corner(3, i) for i in range(3)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_driver_that_evaluates_everything_is_welcome(family, strategy) -> None:
    truth = family(2, seed=3)
    search = start(strategy, truth.members)
    trials = converse(search, truth, lazy=False)
    assert len({w for w, _ in trials}) == len(trials)
    assert search.best().outcomes.complete


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_takes_report_items(family, strategy) -> None:
    seen = family(2, seed=0, split=Split.REPORT)
    with pytest.raises(Leak):
        make_search(strategy, 2, known=seen.members)
    search = make_search(strategy, 2, known=family(2, seed=0).members)
    with pytest.raises(Leak):
        search.tell(uniform(2), seen(uniform(2)))


@pytest.mark.parametrize(("n", "budget"), [(2, None), (3, None), (5, None), (16, 8.0)])
def test_the_surrogate_keeps_its_budget_and_never_loses_to_a_member(family, n, budget) -> None:
    truth = family(n, seed=n, mixing=-3.0, items=20)  # mixing ruins everything
    search = SurrogateSearch(truth.members, budget=budget)
    converse(search, truth)
    found = search.best()
    assert found.evaluations <= (budget or allowance(n)) * found.full
    assert found.value >= max(member.macro() for member in truth.members)
    assert sum(found.weights) == 1


@pytest.mark.parametrize(("n", "share"), [(3, 0.2), (4, 0.1), (5, 0.1), (6, 0.1)])
def test_the_allowance_is_a_small_part_of_the_papers_grid(n, share) -> None:
    assert 2 * n <= allowance(n) <= share * len(GridSearch(n).points)


@pytest.mark.parametrize("n", [3, 4])
def test_the_surrogate_is_as_good_as_the_papers_grid_for_a_fraction_of_it(family, n) -> None:
    """In the median over seeds, and never much worse; the grid's winner is the best of 37 and 85
    in-sample values."""
    gaps = []
    for seed in range(8):
        truth = family(n, seed=seed, items=200)
        searches = GridSearch(n), SurrogateSearch(truth.members, seed=seed)
        for search in searches:
            converse(search, truth)
        paper, ours = (search.best() for search in searches)
        gaps.append(ours.value - paper.value)
        assert ours.evaluations <= allowance(n) / len(GridSearch(n).points) * paper.evaluations
    assert np.median(gaps) >= -0.001
    assert min(gaps) >= -0.006


def test_the_surrogate_follows_its_seed(family) -> None:
    truth = family(5, seed=0)

    def asked(seed: int) -> list:
        return [w for w, _ in converse(SurrogateSearch(truth.members, seed=seed), truth)]

    assert asked(0) == asked(0)
    assert asked(0) != asked(1)


def test_the_surrogate_keeps_a_floor(family) -> None:
    """Without a floor the best mixture gives up a category; with one it does not."""
    truth = family(3, seed=5)
    objective = Objective(Goal.WEIGHTED, {f"c{k}": 9.0 if k < 2 else 1.0 for k in range(6)})
    reference = max(truth.members, key=lambda m: float(objective.value(m.scores(), m.categories)))
    for floor in (0.0, 0.1):
        kept = Objective(objective.goal, objective.weights, floor=floor)
        search = SurrogateSearch(truth.members, objective=kept)
        converse(search, truth)
        assert (search.best().outcomes.scores() >= reference.scores() - floor - 1e-12).all()


def test_a_race_finds_the_best_of_real_looking_arms() -> None:
    rng = np.random.default_rng(0)
    skill = rng.normal(0.6, 0.08, 36)
    difficulty = {"a": rng.random(400), "b": rng.random(60), "c": rng.random(200)}
    arms = {
        corner(36, i): Outcomes(
            Split.TUNE,
            {c: rng.random(len(d)) < np.clip(skill[i] + 0.8 * (d - 0.5), 0, 1)
             for c, d in difficulty.items()},
        )
        for i in range(36)
    }  # fmt: skip
    search = RaceSearch(list(arms), sizes=arms[corner(36, 0)].sizes)
    converse(search, arms.__getitem__)
    found = search.best()
    assert found.value >= max(o.macro() for o in arms.values()) - 0.003
    assert found.evaluations <= 0.2 * 36 * found.full


@pytest.mark.skipif(not ITEMS.exists(), reason="the item outcomes are not at hand")
def test_a_race_of_real_models() -> None:
    """36 of the 71 models of the Berkeley leaderboard (2024-08-11), 1,700 items each."""
    bits: dict[str, dict[str, str]] = {}
    with ITEMS.open(newline="") as file:
        for row in csv.DictReader(file):
            bits.setdefault(row["model"], {})[row["category"]] = row["outcome_bits"]
    models = [Outcomes.from_bits(Split.TUNE, {c: b[c] for c in sorted(b)}) for b in bits.values()]
    regrets = []
    for seed in range(5):
        drawn = np.random.default_rng(seed).choice(len(models), 36, replace=False)
        arms = {corner(36, k): models[m] for k, m in enumerate(drawn)}
        search = RaceSearch(list(arms), sizes=models[0].sizes, seed=seed)
        converse(search, arms.__getitem__)
        regrets.append(max(o.macro() for o in arms.values()) - search.best().value)
        assert search.best().evaluations <= 0.2 * 36 * 1700
    assert np.median(regrets) <= 0.003


def test_greedy_is_the_published_recipe(family) -> None:
    truth = family(4, seed=7)
    search = make_search("greedy", 4, known=truth.members)
    converse(search, truth)
    order = sorted(range(4), key=lambda i: -truth.members[i].macro())
    kept, value = [], -1.0
    for i in order:
        tried = tuple(Fraction(int(j in [*kept, i]), len(kept) + 1) for j in range(4))
        if truth(tried).macro() >= value:
            kept, value = [*kept, i], truth(tried).macro()
    assert search.best().value == value
    assert {i for i, w in enumerate(search.best().weights) if w} == set(kept)


def test_an_unfinished_greedy_soup_is_no_answer(family) -> None:
    with pytest.raises(ValueError, match="open"):
        make_search("greedy", 2, known=family(2, seed=0).members).best()


@pytest.mark.parametrize("strategy", ["greedy", "surrogate"])
def test_searches_that_need_the_members_say_so(strategy) -> None:
    with pytest.raises(ValueError, match="members"):
        make_search(strategy, 2)
    with pytest.raises(ValueError, match="'fancy' is not a valid Strategy"):
        make_search("fancy", 2)


@given(
    seed=st.integers(0, 9),
    fractions=st.lists(st.floats(0.02, 1), min_size=2, max_size=3).map(sorted),
)
@settings(max_examples=40)
def test_subsets_are_nested_stratified_and_of_the_size_asked(seed, fractions) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"big": 300, "small": 30}
    members = [
        Outcomes(Split.TUNE, {c: rng.integers(0, 2, n) for c, n in sizes.items()}) for _ in range(3)
    ]
    subsets = Subsets(sizes, members, seed=seed)
    drawn = [subsets.draw(f) for f in fractions]
    for small, large in itertools.pairwise(drawn):
        assert all(set(small[c]) <= set(large[c]) for c in sizes)
    for items, fraction in zip(drawn, fractions, strict=True):
        total = sum(map(len, items.values()))
        assert total <= max(fraction * 330, 2 * len(subsets.groups))
        assert total >= fraction * 330 - len(subsets.groups)
        assert all(len(p) for p in items.values())


def test_the_estimate_is_exact_when_complete_and_unbiased_before(family) -> None:
    truth = family(3, seed=4)
    weights = parse_weights(["1/2", "3/10", "1/5"])
    mixture = np.array([0.5, 0.3, 0.2])
    answer = truth(weights)
    estimates, variances = [], []
    for seed in range(300):
        subsets = Subsets(answer.sizes, truth.members, seed=seed)
        part = answer.only(subsets.draw(1 / 3))
        scores, variance = subsets.estimate(part, mixture)
        estimates.append(scores.mean())
        variances.append(variance.sum() / len(variance) ** 2)
    error = np.std(estimates) / np.sqrt(300)
    assert abs(np.mean(estimates) - answer.macro()) < 4 * error
    assert 0.5 < np.var(estimates) / np.mean(variances) < 1.5
    exact, none = subsets.estimate(answer, mixture)
    np.testing.assert_allclose(exact, answer.scores())
    np.testing.assert_allclose(none, 0, atol=1e-15)
