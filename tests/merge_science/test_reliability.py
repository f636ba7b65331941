"""Noise of correlations against simulated skills and exact cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.outcomes import Outcomes
from merge.reliability import explain, interval, reliabilities, reliability
from merge.scores import ScoreTable
from merge.select import soce
from merge.splits import Split


def test_interval_of_the_leaderboards_weakest_pair() -> None:
    """r = 0.08 over 109 models: about +-0.19."""
    low, high = interval(0.08, 109)
    assert (low, high) == (pytest.approx(-0.11, abs=0.005), pytest.approx(0.264, abs=0.005))
    assert interval(0.9, 3) == (-1, 1)


@given(st.floats(-1, 1), st.integers(4, 1000))
def test_intervals_hold_their_r(r: float, n: int) -> None:
    low, high = interval(r, n)
    assert -1 <= low <= r + 1e-9
    assert r - 1e-9 <= high <= 1


def simulated(n_models: int, sizes: dict[str, int], rho: float, seed: int):
    """Skills with correlation rho between the two categories, read through items."""
    rng = np.random.default_rng(seed)
    skill = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n_models)
    difficulty = {c: rng.normal(0, 0.5, n) for c, n in sizes.items()}
    return {
        f"m{m}": Outcomes(
            Split.SELECT,
            {c: rng.random(sizes[c]) < 1 / (1 + np.exp(difficulty[c] - skill[m, k]))
             for k, c in enumerate(sizes)},
        )
        for m in range(n_models)
    }  # fmt: skip


def test_disattenuation_recovers_the_skills_correlation() -> None:
    sizes = {"big": 400, "small": 18}
    raw, corrected = [], []
    for seed in range(8):
        models = simulated(300, sizes, 0.7, seed)
        values = np.array([o.scores() for o in models.values()])
        rel = reliabilities(models, {c: [f"{c}{i}" for i in range(n)] for c, n in sizes.items()})
        assert rel["small"] < 0.85 < 0.95 < rel["big"]
        raw.append(np.corrcoef(values.T)[0, 1])
        corrected.append(raw[-1] / np.sqrt(rel["big"] * rel["small"]))
    assert np.mean(raw) < 0.66
    assert np.mean(corrected) == pytest.approx(0.7, abs=0.03)


def test_alpha_is_the_mean_of_all_split_halves() -> None:
    """Four parts: three ways to halve them (Cronbach 1951)."""
    parts = np.random.default_rng(0).integers(0, 2, (40, 4)) + np.arange(40)[:, None] / 20
    halves = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    rulon = [
        2 * (1 - (parts[:, a].sum(1).var() + parts[:, b].sum(1).var()) / parts.sum(1).var())
        for a, b in halves
    ]
    assert reliability(parts) == pytest.approx(np.mean(rulon))
    assert reliability(np.ones((5, 3))) == 0
    assert reliability(np.eye(3)) == 0


def test_copies_of_one_question_are_no_agreement() -> None:
    models = simulated(50, {"c": 20, "d": 20}, 0.5, 1)
    copied = {
        name: Outcomes(o.split, {"c": np.repeat(o.values["c"], 4), "d": o.values["d"]})
        for name, o in models.items()
    }
    apart = {"c": [f"q{i}" for i in range(80)], "d": [f"d{i}" for i in range(20)]}
    together = {**apart, "c": [f"q{i // 4}" for i in range(80)]}
    once = reliabilities(models, {"c": apart["c"][:20], "d": apart["d"]})
    assert reliabilities(copied, together)["c"] == pytest.approx(once["c"])
    assert reliabilities(copied, apart)["c"] > once["c"] + 0.1


def test_sentences_name_pairs_and_doubt() -> None:
    models = simulated(12, {"a": 30, "b": 30}, 0.0, 3)
    clusters = {c: [f"{c}{i}" for i in range(30)] for c in "ab"}
    values = np.array([o.scores() for o in models.values()])
    table = ScoreTable(tuple(models), ("a", "b"), values)
    r = soce(table).correlations["a"]["b"]
    (sentence,) = explain(soce(table, tau=r + 0.05), models, clusters=clusters, tau=r + 0.05)
    assert sentence.startswith("'a' and 'b' may not be weak: r = ")
    assert "over 12 models, without item noise" in sentence
    assert explain(soce(table, tau=0.999), models, clusters=clusters, tau=0.999) == ()
    strong = soce(table, tau=r - 0.01)
    assert explain(strong, models, clusters=clusters, tau=r - 0.01) == (
        "pairs that 12 models cannot tell from weak ones: 1 more",
    )
    assert explain(strong, models, clusters=clusters, tau=-0.99) == ()


def test_of_many_doubtful_pairs_the_worst_are_named() -> None:
    rng = np.random.default_rng(0)
    names = tuple("abcdef")
    models = {
        f"m{m}": Outcomes(Split.SELECT, {c: rng.random(20) < rng.random() for c in names})
        for m in range(10)
    }
    values = np.array([o.scores() for o in models.values()])
    found = soce(ScoreTable(tuple(models), names, values), tau=0.4)
    clusters = {c: [f"{c}{i}" for i in range(20)] for c in names}
    sentences = explain(found, models, clusters=clusters, tau=0.4)
    named = [s for s in sentences if "may not be weak" in s]
    assert len(named) == 5
    assert any(s.endswith("more weak pairs are in doubt") for s in sentences)
    worst = [float(s.partition(" to ")[2].split()[0]) for s in named]
    assert worst == sorted(worst, reverse=True)
