import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.objective import Goal, Objective
from merge.outcomes import Outcomes
from merge.search import BadWeights, GridSearch, check_weights, parse_weights
from merge.simplex import corner, grid, uniform
from merge.splits import Leak, Split


def tune(**bits: str) -> Outcomes:
    return Outcomes.from_bits(Split.TUNE, bits)


def graded(weights) -> Outcomes:
    """More right answers the nearer the weights lie to (2/10, 3/10, 5/10)."""
    target = [Fraction(2, 10), Fraction(3, 10), Fraction(5, 10)]
    right = 40 - int(20 * sum(abs(w - t) for w, t in zip(weights, target, strict=True)))
    return tune(a="1" * right + "0" * (40 - right))


@pytest.mark.parametrize(("n", "points"), [(2, 9), (3, 36), (4, 84), (5, 126), (6, 126), (7, 84),
                                           (8, 36), (9, 9), (10, 1), (11, 0)])  # fmt: skip
def test_the_grid_is_the_papers(n: int, points: int) -> None:
    vectors = list(grid(n, 10, least=1))
    assert len(vectors) == points == math.comb(9, n - 1)
    assert all(sum(w) == 1 and min(w) >= Fraction(1, 10) for w in vectors)
    extra = n in (3, 4, 6, 7, 8, 9, 11)
    assert len(GridSearch(n).points) == points + extra
    assert len(GridSearch(n, corners=True).points) == points + extra + n


def test_one_member_has_one_soup() -> None:
    assert GridSearch(1).points == ((Fraction(1),),)


def test_a_search_is_a_conversation() -> None:
    search = GridSearch(3)
    asked = []
    while (weights := search.ask()) is not None:
        assert search.wanted(weights) is None
        asked.append(weights)
        search.tell(weights, graded(weights))
    assert len(asked) == 37
    found = search.best()
    assert found.weights == parse_weights(["0.2", "0.3", "0.5"])
    assert (found.value, found.trials, found.evaluations, found.full) == (1.0, 37, 37 * 40, 40)


@pytest.mark.parametrize("killed_after", [0, 1, 20, 37])
def test_a_killed_search_goes_on_where_it_was(killed_after: int) -> None:
    whole = [*GridSearch(3).points]
    again = GridSearch(3)
    for weights in whole[:killed_after]:
        again.tell(weights, graded(weights))
    rest = []
    while (weights := again.ask()) is not None:
        rest.append(weights)
        again.tell(weights, graded(weights))
    assert rest == whole[killed_after:]


def test_known_members_make_corners_free() -> None:
    known = [tune(a="1111"), tune(a="0000")]
    search = GridSearch(2, known=known, corners=True)
    for weights in search.points[:9]:
        search.tell(weights, tune(a="1100"))
    assert search.ask() is None
    found = search.best()
    assert (found.weights, found.trials) == (corner(2, 0), 9)


@given(st.permutations(range(9)))
def test_the_order_of_answers_does_not_matter(order) -> None:
    search = GridSearch(2)
    for i in order:
        search.tell(search.points[i], tune(a="1100"))
    assert search.best().weights == uniform(2), "of equals, the nearest to uniform"


def test_report_and_select_items_are_refused() -> None:
    search = GridSearch(2)
    for split in (Split.REPORT, Split.SELECT):
        with pytest.raises(Leak):
            search.tell(uniform(2), Outcomes.from_bits(split, {"a": "01"}))
        with pytest.raises(Leak):
            GridSearch(2, known=[Outcomes.from_bits(split, {"a": "01"})] * 2)


def test_partly_evaluated_vectors_cannot_win() -> None:
    search = GridSearch(2)
    search.tell(uniform(2), tune(a="11--"))
    with pytest.raises(ValueError, match="completely"):
        search.best()
    assert search.wanted(uniform(2))["a"].tolist() == [2, 3]
    search.tell(uniform(2), tune(a="--00"))
    assert search.best().value == 0.5


def test_the_objective_may_change_without_new_evaluations() -> None:
    steep = parse_weights(["3/4", "1/4"])
    trials = {uniform(2): tune(a="1110", b="1110"), steep: tune(a="1111", b="1100")}

    def best(objective: Objective):
        search = GridSearch(2, objective=objective, known=[tune(a="1111", b="0000")] * 2)
        search.points = tuple(trials)
        for weights, outcomes in trials.items():
            search.tell(weights, outcomes)
        return search.best().weights

    assert best(Objective()) == uniform(2)
    assert best(Objective(Goal.WEIGHTED, {"a": 3, "b": 1})) == steep
    assert best(Objective(Goal.WORST)) == uniform(2)
    assert best(Objective(Goal.WEIGHTED, {"a": 1, "b": 9}, floor=0.0)) == steep


def test_an_objective_has_a_standard_error() -> None:
    outcomes = tune(a="1100" * 10, b="1111" * 9 + "1110", c="1")
    errors = [outcomes.score(c).stderr for c in "ab"]
    mean = Objective().stderr(outcomes)
    assert mean == pytest.approx(math.hypot(*errors, 0.5) / 3), "one item tells nothing"
    official = Objective(Goal.WEIGHTED, {"a": 3, "b": 1, "c": 0})
    assert official.stderr(outcomes) == pytest.approx(math.hypot(0.75 * errors[0], errors[1] / 4))
    assert Objective(Goal.WORST).stderr(outcomes) == pytest.approx(errors[0])
    assert official.of(outcomes) == pytest.approx(0.75 * 0.5 + 0.25 * outcomes.score("b").value)


def test_objectives_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="needs them"):
        Objective(Goal.WEIGHTED)
    with pytest.raises(ValueError, match="'a' is -1"):
        Objective(Goal.WEIGHTED, {"a": -1})
    with pytest.raises(ValueError, match="differ in b"):
        Objective(Goal.WEIGHTED, {"b": 1, "a": 1}).value(tune(a="1").scores(), ["a"])
    with pytest.raises(ValueError, match="members' own outcomes"):
        GridSearch(2, objective=Objective(floor=0.1))


@pytest.mark.parametrize(("texts", "problem"), [
    (["1/2", "1/3"], "5/6"), (["1/2", "x"], "weight 1 is 'x'"), (["-1/2", "3/2"], "weight 0"),
    ([0.5, 0.5], "float"), (["1/0", "1"], "weight 0"), (["nan", "1"], "weight 0"),
])  # fmt: skip
def test_wrong_weights_are_named(texts, problem) -> None:
    with pytest.raises(BadWeights, match=problem):
        parse_weights(texts)


def test_weights_fit_the_members() -> None:
    with pytest.raises(BadWeights, match="2 weights for 3 members"):
        check_weights(uniform(2), 3)
    with pytest.raises(BadWeights, match="divides 1"):
        GridSearch(2, step=Fraction(3, 10))
