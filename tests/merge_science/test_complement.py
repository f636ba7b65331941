"""Selection by item outcomes, hysteresis and cross-fitting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from merge.crossfit import cross_fit, decided_by, exchange, exchanged, judge_procedure
from merge.gate import judge
from merge.outcomes import Outcomes
from merge.select import (
    Method,
    Selection,
    complementary,
    default_method,
    disagreement,
    keep_incumbents,
    relative_distance,
)
from merge.splits import Leak, Split, Splits, split_clusters

N = 200
CATEGORIES = ("add", "rev", "sort")
CLUSTERS = {c: [f"{c}{i}" for i in range(N)] for c in CATEGORIES}


def model(seed: int, split: Split = Split.SELECT, **skill: float) -> Outcomes:
    rng = np.random.default_rng(seed)
    return Outcomes(split, {c: rng.random(N) < skill.get(c, 0.3) for c in CATEGORIES})


def rerun(of: Outcomes, seed: int, flips: float = 0.05) -> Outcomes:
    rng = np.random.default_rng(seed)
    return Outcomes(of.split, {c: b ^ (rng.random(len(b)) < flips) for c, b in of.values.items()})


SPECIALISTS = {
    "org/add": model(1, add=0.9),
    "org/weak": model(2, add=0.2, rev=0.2, sort=0.2),
    "org/rev": model(3, rev=0.9),
    "org/sort": model(4, sort=0.9),
}


def test_specialists_are_found_and_the_weak_one_is_not() -> None:
    selection = complementary(SPECIALISTS, clusters=CLUSTERS)
    assert selection.members == ("org/add", "org/rev", "org/sort")
    assert selection.experts == {"add": "org/add", "rev": "org/rev", "sort": "org/sort"}
    assert selection.method == "complementary"


def test_a_rerun_of_a_member_adds_nothing() -> None:
    """Two runs that differ on 5 % of the items are one model, whatever the order of the table."""
    for names in (["org/add", "copy"], ["copy", "org/add"]):
        pool = {**SPECIALISTS, "copy": rerun(SPECIALISTS["org/add"], 9)}
        ordered = {name: pool[name] for name in [*names, "org/rev", "org/sort"]}
        chosen = set(complementary(ordered).members)
        assert len(chosen & {"org/add", "copy"}) == 1
        assert chosen >= {"org/rev", "org/sort"}


def test_near_copies_by_weight_are_left_out_first() -> None:
    pool = {**SPECIALISTS, "fork": model(5, add=0.9, rev=0.6)}

    def distance(a: str, b: str) -> float:
        return 0.01 if {a, b} == {"fork", "org/add"} else 1.0

    selection = complementary(pool, distance=distance)
    assert "org/add" not in selection.members
    assert "org/add is left out: nearly the weights of fork" in selection.notes


@given(arrays(np.float64, (2, 5), elements=st.floats(-3, 3).map(lambda v: round(v, 3))))
def test_distance_from_cosine_and_norms(vectors) -> None:
    a, b = vectors
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = float(a @ b) / (norms[0] * norms[1]) if min(norms) > 0 else 0.0
    expected = np.linalg.norm(a - b) / max(norms) if max(norms) > 0 else 0.0
    assert relative_distance(cosine, *norms) == pytest.approx(expected, abs=1e-6)


def test_equal_models_are_one_model() -> None:
    same = model(7, add=0.6, rev=0.6, sort=0.6)
    selection = complementary({"a": same, "b": same})
    assert selection.members == ("a",)
    assert any("nothing to soup" in note for note in selection.notes)


def test_at_most_so_many_members() -> None:
    assert len(complementary(SPECIALISTS, max_members=2).members) == 2


def test_a_tiny_category_alone_does_not_make_a_member() -> None:
    """Eighteen items, one model ahead by four of them: an expert by argmax, noise by size."""
    big = np.random.default_rng(0).random(400) < 0.7
    small = np.arange(18)
    ahead = Outcomes(Split.SELECT, {"big": big & (np.arange(400) % 4 > 0), "tiny": small < 17})
    steady = Outcomes(Split.SELECT, {"big": big, "tiny": small < 13})
    assert complementary({"ahead": ahead, "steady": steady}).members == ("steady",)


def test_incumbents_stay_among_equals() -> None:
    twin = rerun(SPECIALISTS["org/add"], 11, flips=0.02)
    pool = {**SPECIALISTS, "twin": twin}
    for incumbent in ("twin", "org/add"):
        assert incumbent in complementary(pool, incumbents=[incumbent]).members


def test_selection_takes_select_items_only() -> None:
    for split in (Split.TUNE, Split.REPORT):
        with pytest.raises(Leak):
            complementary({"a": model(0, split)})
        with pytest.raises(Leak):
            keep_incumbents(proposal(add="a"), {}, {"a": model(0, split)}, clusters=CLUSTERS)


def test_the_method_follows_the_population() -> None:
    assert default_method(8) is Method.COMPLEMENTARY
    assert default_method(109) is Method.SOCE


def proposal(**experts: str) -> Selection:
    return Selection("soce", {}, (), experts, tuple(dict.fromkeys(experts.values())))


def test_disagreement_is_told() -> None:
    first = complementary(SPECIALISTS)
    assert disagreement(first, first) == ()
    told = disagreement(first, proposal(add="org/add", rev="org/weak"))
    assert told == (
        "chosen by complementary but not by soce: org/rev, org/sort",
        "chosen by soce but not by complementary: org/weak",
    )


def test_an_expert_goes_only_beyond_noise() -> None:
    old = model(1, add=0.6, rev=0.6)
    pool = {"old": old, "lucky": rerun(old, 3, 0.1), "better": model(2, add=0.9, rev=0.6)}
    held = keep_incumbents(proposal(add="lucky"), {"add": "old"}, pool, clusters=CLUSTERS)
    assert held.experts == {"add": "old"}
    assert held.members == ("old",)
    assert "'add' keeps old: lucky is" in held.notes[-1]
    replaced = keep_incumbents(proposal(add="better"), {"add": "old"}, pool, clusters=CLUSTERS)
    assert replaced.experts == {"add": "better"}


def test_withdrawn_and_new_experts_are_not_challenged() -> None:
    pool = {"new": model(1, add=0.6)}
    fresh = proposal(add="new", rev="new")
    assert keep_incumbents(fresh, {"add": "gone"}, pool, clusters=CLUSTERS) is fresh
    assert keep_incumbents(fresh, {}, pool, clusters=CLUSTERS) is fresh


def test_noise_rarely_replaces_an_incumbent() -> None:
    """Ten equal models: the argmax of a category is somebody else in nine of ten draws; the
    incumbent goes in few."""
    replaced = 0
    for seed in range(60):
        pool = {f"m{i}": model(100 * seed + i, add=0.6) for i in range(10)}
        top = max(pool, key=lambda name: pool[name].score("add").value)
        kept = keep_incumbents(proposal(add=top), {"add": "m0"}, pool, clusters=CLUSTERS)
        replaced += kept.experts["add"] != "m0"
    assert replaced <= 15


def test_cross_fitting_reports_every_item_once_and_judges_the_pool() -> None:
    fit = cross_fit(CLUSTERS, seed=0, folds=5)
    for splits in fit.rounds:
        sizes = [len(splits.clusters(split)) for split in Split]
        assert sizes[2] == 120
        assert abs(sizes[0] - 274) <= 3
    soup, best = (model(s, Split.REPORT, add=a, rev=a, sort=a) for s, a in ((1, 0.8), (2, 0.6)))

    def parts(whole: Outcomes) -> list[Outcomes]:
        return [
            whole.take({c: s.positions(ids, Split.REPORT) for c, ids in CLUSTERS.items()})
            for s in fit.rounds
        ]

    pooled, ids = fit.pool(parts(soup), CLUSTERS)
    assert pooled.n_evaluated == 3 * N
    assert {c: sorted(k) for c, k in ids.items()} == {c: sorted(k) for c, k in CLUSTERS.items()}
    assert pooled.macro() == pytest.approx(soup.macro())
    verdict = judge(pooled, {"m": fit.pool(parts(best), CLUSTERS)[0]}, None, None, None,
                    best_member="m", clusters=ids, splits=fit, level=0.05)  # fmt: skip
    assert verdict.publish


def test_a_procedure_is_judged_on_every_item_once() -> None:
    """Each round picks its own best member; the soup is better than any of them."""
    skills = {"soup": dict.fromkeys(CATEGORIES, 0.8), "a": {"add": 0.9}, "b": {"rev": 0.9}}
    report = {name: model(s, Split.REPORT, **skills[name]) for s, name in enumerate(skills)}
    seen = []

    def play(splits):
        seen.append(splits)
        best = "ab"[len(seen) % 2]
        return {
            role: report[name].take(
                {c: splits.positions(ids, Split.REPORT) for c, ids in CLUSTERS.items()}
            )
            for role, name in (("soup", "soup"), ("best member", best), ("uniform", "soup"))
        }

    fit = cross_fit(CLUSTERS, seed=0, folds=4)
    verdict = judge_procedure(fit, CLUSTERS, play, level=0.05)
    assert tuple(seen) == fit.rounds
    assert verdict.publish
    assert verdict.differences["best member"].n_items == 3 * N
    assert verdict.differences["uniform"].mean == 0
    assert verdict.overall["soup"] == pytest.approx(report["soup"].macro())
    with pytest.raises(Leak):
        judge_procedure(fit, CLUSTERS, lambda _: {"soup": model(0), "best member": model(1)},
                        level=0.05)  # fmt: skip


def test_an_exchange_reports_tune_items_too_and_select_items_never() -> None:
    splits = split_clusters(CLUSTERS, seed=0)
    fit = exchange(splits)
    first, second = fit.rounds
    assert second.clusters(Split.REPORT) == first.clusters(Split.TUNE)
    assert second.clusters(Split.TUNE) == first.clusters(Split.REPORT)
    assert second.clusters(Split.SELECT) == first.clusters(Split.SELECT)
    ones = [
        Outcomes(split, {c: np.ones(len(splits.positions(k, split))) for c, k in CLUSTERS.items()})
        for split in (Split.REPORT, Split.TUNE)
    ]
    _, ids = fit.pool([ones[0], exchanged(ones[1])], CLUSTERS)
    told = {k for found in ids.values() for k in found}
    assert told == first.clusters(Split.REPORT) | first.clusters(Split.TUNE)
    fit.require(Split.REPORT, told, "here")
    with pytest.raises(Leak):
        fit.require(Split.REPORT, first.clusters(Split.SELECT), "here")
    with pytest.raises(Leak):
        fit.pool(ones, CLUSTERS)
    with pytest.raises(Leak):
        exchanged(Outcomes(Split.SELECT, ones[0].values))


def test_a_soup_that_is_behind_on_its_own_items_is_not_let_through_by_the_other_round() -> None:
    rng = np.random.default_rng(0)
    fit = exchange(split_clusters(CLUSTERS, seed=0))

    def answers(splits: Splits, split: Split, skill: float) -> Outcomes:
        n = {c: len(splits.positions(k, split)) for c, k in CLUSTERS.items()}
        return Outcomes(Split.REPORT, {c: rng.random(m) < skill for c, m in n.items()})

    best = [answers(splits, Split.REPORT, 0.3) for splits in fit.rounds]
    behind, ahead = (
        answers(s, Split.REPORT, k) for s, k in zip(fit.rounds, (0.2, 0.99), strict=True)
    )
    pools = [fit.pool(pair, CLUSTERS) for pair in ([behind, ahead], best)]
    pooled = judge(pools[0][0], {"m": pools[1][0]}, None, None, None, best_member="m",
                   clusters=pools[0][1], splits=fit, level=0.05)  # fmt: skip
    first = fit.rounds[0]
    ids = {c: [i for i in k if first.assignment[i] is Split.REPORT] for c, k in CLUSTERS.items()}
    own = judge(behind, {"m": best[0]}, None, None, None, best_member="m", clusters=ids,
                splits=first, level=0.05)  # fmt: skip
    assert pooled.publish
    decision = decided_by(pooled, own)
    assert not decision.publish
    assert decision.reasons == ("the soup itself does not gain on its own report items",)
    assert decision.deciding == pooled.differences


def test_cross_fitting_refuses_what_does_not_fit() -> None:
    fit = cross_fit(CLUSTERS, seed=0, folds=2)
    tune = model(0, Split.TUNE)
    with pytest.raises(Leak):
        fit.pool([tune, tune], CLUSTERS)
    with pytest.raises(ValueError, match="outcomes for 2 rounds"):
        fit.pool([tune], CLUSTERS)
    with pytest.raises(ValueError, match="200 outcomes for 100 items"):
        fit.pool([model(0, Split.REPORT)] * 2, CLUSTERS)
    with pytest.raises(Leak):
        fit.require(Split.TUNE, ["add1"], "a search")
    with pytest.raises(ValueError, match="at least 2"):
        cross_fit(CLUSTERS, seed=0, folds=1)


@pytest.mark.parametrize(
    "clusters",
    [{c: CLUSTERS[c] for c in ("add", "rev")}, {**CLUSTERS, "add": ["x"], "rev": ["x"] * 399}],
    ids=["a category without", "shifted"],
)
def test_cluster_ids_must_fit_each_category(clusters) -> None:
    with pytest.raises(ValueError, match="cluster ids, 200 items"):
        complementary(SPECIALISTS, clusters=clusters)


@pytest.mark.parametrize("weights", [(0, 0, 0), (1, -1, 1), (1, float("nan"), 1), (1, 1)])
def test_importances_are_weights_of_these_categories(weights) -> None:
    with pytest.raises(ValueError, match="weight"):
        complementary(SPECIALISTS, importance=dict(zip(CATEGORIES, weights, strict=False)))
