"""SoCE's selection against the published selections, an independent reading and its edges."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from merge.scores import BadTable, ScoreTable, read_csv
from merge.select import NoWeakPair, Population, Ties, correlate, soce

LEADERBOARD = Path(__file__).parents[3] / "shared" / "tables" / "bfcl_v3_leaderboard_2025-06-14.csv"
COARSE = (
    "Non-Live AST Acc",
    "Live Acc",
    "Multi Turn Acc",
    "Relevance Detection",
    "Irrelevance Detection",
)
# Correlations of the five coarse columns over the 109 models of the Berkeley leaderboard of
# 2025-06-14, and the candidates' rows there, in rank order; both rounded as printed.
CORRELATIONS = np.array(
    [
        [1.000, 0.558, 0.223, 0.430, 0.188],
        [0.558, 1.000, 0.507, 0.110, 0.731],
        [0.223, 0.507, 1.000, 0.082, 0.364],
        [0.430, 0.110, 0.082, 1.000, -0.405],
        [0.188, 0.731, 0.364, -0.405, 1.000],
    ]
)
ROWS = {
    "xLAM-2-70b": (88.44, 72.95, 75.00, 66.67, 78.91),
    "watt-tool-70B": (84.06, 77.74, 58.87, 94.44, 76.32),
    "xLAM-2-8b": (84.40, 66.90, 69.12, 77.78, 64.34),
    "ToolACE-2-8B": (87.58, 80.05, 37.00, 72.22, 90.11),
    "watt-tool-8B": (86.56, 76.50, 39.38, 83.33, 83.15),
    "BitAgent-8B": (86.92, 76.14, 38.62, 83.33, 82.38),
    "functionary-medium": (89.88, 76.63, 21.50, 72.22, 76.08),
    "CoALM-8B": (85.25, 72.95, 4.50, 83.33, 85.49),
    "CoALM-70B": (83.08, 71.92, 7.00, 66.67, 85.63),
}
POOLS = {
    "70B": (
        ("xLAM-2-70b", "CoALM-70B", "watt-tool-70B", "functionary-medium"),
        {"xLAM-2-70b", "CoALM-70B", "watt-tool-70B"},
    ),
    "8B": (
        ("xLAM-2-8b", "ToolACE-2-8B", "watt-tool-8B", "BitAgent-8B", "CoALM-8B"),
        {"xLAM-2-8b", "ToolACE-2-8B", "watt-tool-8B"},
    ),
}


def population_with(correlations: np.ndarray, size: int) -> np.ndarray:
    """[size, C] scores near 0 whose sample correlations are exactly these."""
    raw = np.random.default_rng(0).normal(size=(size, len(correlations)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(raw.T @ raw / size)).T
    return white @ np.linalg.cholesky(correlations).T


@pytest.mark.parametrize("pool", POOLS)
def test_published_selections_from_the_printed_correlations(pool: str) -> None:
    """A large synthetic population carries the printed correlations; the candidates' own rows are
    too few among it to move them across the threshold."""
    candidates, published = POOLS[pool]
    others = population_with(CORRELATIONS, 5000) * 10 + 70
    values = np.vstack([np.array(list(ROWS.values())), others])
    models = (*ROWS, *(f"other-{i}" for i in range(len(others))))
    selection = soce(ScoreTable(models, COARSE, values), candidates=candidates)
    assert set(selection.members) == published
    weak = {frozenset(pair[:2]) for pair in selection.weak_pairs}
    assert weak == {
        frozenset({"Multi Turn Acc", "Relevance Detection"}),
        frozenset({"Relevance Detection", "Irrelevance Detection"}),
    }


@pytest.mark.skipif(not LEADERBOARD.exists(), reason="the leaderboard table is not at hand")
@pytest.mark.parametrize("pool", POOLS)
def test_published_selections_from_the_leaderboard(pool: str) -> None:
    table = read_csv(LEADERBOARD, COARSE)

    def full(short: str) -> str:
        matching = [m for m in table.models if m.lower().startswith(short.lower())]
        assert len(matching) == 1
        return matching[0]

    candidates, published = POOLS[pool]
    selection = soce(table, candidates=[full(c) for c in candidates])
    assert selection.members == tuple(m for m in table.models if m in map(full, published))
    np.testing.assert_allclose(correlate(table.values), CORRELATIONS, atol=5e-4)
    absolute = soce(table, candidates=[full(c) for c in candidates], absolute=True)
    assert len(absolute.members) == 2, "with |rho| the paper's third expert does not qualify"


@pytest.mark.skipif(not LEADERBOARD.exists(), reason="the leaderboard table is not at hand")
def test_score_columns_of_the_leaderboard_are_found() -> None:
    assert len(read_csv(LEADERBOARD).categories) == 18


def naive_soce(table: ScoreTable, tau: float, absolute: bool) -> tuple[set, dict]:
    """Algorithm 1 as printed, in loops."""
    models, categories = range(len(table.models)), range(len(table.categories))

    def pearson(i: int, j: int) -> float | None:
        both = [
            (x, y)
            for x, y in (table.values[m, [i, j]].tolist() for m in models)
            if not (np.isnan(x) or np.isnan(y))
        ]
        if len({x for x, _ in both}) < 2 or len({y for _, y in both}) < 2:
            return None
        return float(np.corrcoef(np.array(both).T)[0, 1])

    weak, experts = set(), {}
    for i in categories:
        for j in categories:
            r = pearson(i, j)
            if i != j and r is not None and (abs(r) if absolute else r) < tau:
                weak.add(frozenset({table.categories[i], table.categories[j]}))
    for i in categories:
        if any(table.categories[i] in pair for pair in weak):
            scores = [(s, -m) for m in models if not np.isnan(s := table.values[m, i])]
            experts[table.categories[i]] = table.models[-max(scores)[1]]
    return weak, experts


@given(
    values=arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 5)),
                  elements=st.one_of(st.integers(0, 8).map(float), st.just(np.nan))),
    tau=st.sampled_from([-0.305, 0.1003, 0.4999]),
    absolute=st.booleans(),
)  # fmt: skip
def test_agrees_with_the_printed_algorithm(values, tau, absolute) -> None:
    models = tuple(f"m{i}" for i in range(values.shape[0]))
    table = ScoreTable(models, tuple("abcde"[: values.shape[1]]), values)
    selection = soce(table, tau=tau, absolute=absolute)
    weak, experts = naive_soce(table, tau, absolute)
    assert {frozenset(p[:2]) for p in selection.weak_pairs} == weak
    assert selection.experts == experts
    assert selection.members == tuple(m for m in models if m in experts.values())


@given(
    arrays(np.float64, (6, 4), elements=st.integers(0, 50).map(float)),
    st.permutations(range(4)),
    st.floats(0.5, 20),
)
def test_neither_column_order_nor_units_matter(values, order, scale) -> None:
    models, names = tuple("uvwxyz"), np.array(list("abcd"))
    plain = soce(ScoreTable(models, tuple(names), values), tau=0.1003)
    moved = soce(ScoreTable(models, tuple(names[order]), values[:, order] * scale), tau=0.1003)
    assert plain.members == moved.members
    assert plain.experts == moved.experts


def tabled(rows: dict[str, list[float]]) -> ScoreTable:
    return ScoreTable(tuple(rows), ("a", "b", "c")[: len(next(iter(rows.values())))],
                      np.array(list(rows.values())))  # fmt: skip


def test_no_weak_pair_selects_nothing_unless_told() -> None:
    table = tabled({"p": [1, 1], "q": [2, 2], "r": [3, 3.1], "s": [4, 4]})
    printed = soce(table)
    assert (printed.experts, printed.members) == ({}, ())
    assert "no pair is correlated below 0.1" in printed.notes[0]
    assert soce(table, no_weak_pair=NoWeakPair.ALL).members == ("s",)


def test_one_expert_for_everything_is_said() -> None:
    table = tabled({"p": [9, 9], "q": [1, 2], "r": [2, 1], "s": [0, 3], "t": [3, 0], "u": [9, 0]})
    selection = soce(table, tau=0.9)
    assert selection.members == ("p",)
    assert any("nothing to soup" in note for note in selection.notes)


def test_ties() -> None:
    table = tabled({"p": [5, 0, 1], "q": [5, 3, 9], "r": [0, 5, 2], "s": [1, 4, 0]})
    assert soce(table).experts["a"] == "p"
    assert soce(table, ties=Ties.OVERALL).experts["a"] == "q"
    assert set(soce(table, ties=Ties.KEEP).members) == {"p", "q", "r"}
    assert any("tie in 'a': p = q" in note for note in soce(table).notes)


def test_constant_and_missing_columns_are_undefined_not_weak() -> None:
    nan = np.nan
    table = tabled({"p": [5, 0.1, nan], "q": [3, 0.1, nan], "r": [1, 0.1, 2], "s": [0, 0.1, nan]})
    selection = soce(table, tau=1.1)
    assert selection.correlations["a"] == {"a": 1.0, "b": None, "c": None}
    assert selection.weak_pairs == ()
    assert any("b, c" in note for note in selection.notes)


def test_a_category_nobody_in_the_pool_was_scored_on_has_no_expert() -> None:
    nan = np.nan
    table = tabled({"p": [5, nan], "q": [3, 1], "r": [1, 3], "s": [0, 4]})
    selection = soce(table, candidates=["p"])
    assert selection.experts == {"a": "p"}
    assert any("no candidate has a score in 'b'" in note for note in selection.notes)


def test_few_models_are_called_few() -> None:
    selection = soce(tabled({"p": [5, 1], "q": [1, 5]}))
    assert selection.members == ("p", "q")
    assert "2 models" in selection.notes[0]
    assert soce(tabled({"p": [5, 1], "q": [1, 5]}), min_models=3).members == ()


def test_more_experts_than_the_grid_can_weigh_is_said() -> None:
    values = np.eye(12)
    names = tuple(map(str, range(12)))
    selection = soce(ScoreTable(names, names, values))
    assert len(selection.members) == 12
    assert any("at most 10" in note for note in selection.notes)


def test_more_members_than_a_search_can_take_are_cut_to_those_that_lead_most() -> None:
    values = np.eye(12)
    values[5, 7] = 2.0
    names = tuple(map(str, range(12)))
    whole = soce(ScoreTable(names, names, values))
    assert whole.limited(12) is whole
    few = whole.limited(3)
    assert few.members == ("0", "1", "5")
    assert few.experts == {"0": "0", "1": "1", "5": "5", "7": "5"}
    assert few.notes[-1] == "11 experts: 3 that lead most are taken"


def test_population_is_a_choice() -> None:
    table = tabled({"p": [1, 2], "q": [2, 1], "r": [10, 10], "s": [20, 20]})
    assert soce(table, candidates=["p", "q"]).members == ()
    among = soce(table, candidates=["p", "q"], population=Population.CANDIDATES)
    assert among.members == ("p", "q")


def test_unknown_and_repeated_candidates() -> None:
    table = tabled({"p": [1, 2], "q": [2, 1]})
    with pytest.raises(BadTable, match="unknown model 'z'"):
        soce(table, candidates=["z"])
    with pytest.raises(BadTable, match="candidate 'p' appears twice"):
        soce(table, candidates=["p", "p"])
    with pytest.raises(BadTable, match="at least one candidate"):
        soce(table, candidates=[])


def test_json_has_the_documented_shape() -> None:
    raw = soce(tabled({"p": [5, 1], "q": [1, 5], "r": [2, 3]})).to_json()
    assert raw["weak_pairs"][0][:2] == ["a", "b"]
    assert raw["correlations"]["a"]["b"] == raw["weak_pairs"][0][2]
    assert raw["experts"] == {"a": "p", "b": "q"}
    assert raw["members"] == ["p", "q"]
