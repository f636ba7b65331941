"""The gate: who is let through, on which items, and whether its intervals keep their word."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.bootstrap import Resampler
from merge.gate import judge, look_level, smallest_detectable_gain
from merge.objective import Goal, Objective
from merge.outcomes import Outcomes
from merge.splits import Leak, Split, Splits, split_clusters
from merge.tails import holm, student_quantile, student_two_sided

N = 400
CLUSTERS = {c: [f"{c}{i}" for i in range(N)] for c in ("add", "rev")}
SPLITS = Splits(0, (0, 0, 1), {k: Split.REPORT for ids in CLUSTERS.values() for k in ids})


def report(**right: int) -> Outcomes:
    """The first so many items of each category are right."""
    return Outcomes(Split.REPORT, {c: (np.arange(N) < right[c]).astype(np.int8) for c in CLUSTERS})


def verdict(soup: Outcomes, best: Outcomes, incumbent: Outcomes | None = None, **options):
    arguments = {"best_member": "org/best", "clusters": CLUSTERS, "splits": SPLITS, "level": 0.03}
    members = {"org/best": best, "org/other": report(add=1, rev=1)}
    return judge(soup, members, None, incumbent, None, **{**arguments, **options})


def test_a_clear_gain_is_published() -> None:
    decision = verdict(report(add=320, rev=320), report(add=280, rev=310), tune_value=0.85)
    assert decision.publish
    assert decision.reasons == ()
    gain = decision.differences["best member"]
    assert gain.mean == pytest.approx(50 / 800)
    assert (gain.gained, gain.lost, gain.n_items, gain.n_clusters) == (50, 0, 800, 800)
    assert gain.low < gain.mean < gain.high
    assert decision.optimism == pytest.approx(0.05)
    assert decision.scores["org/other"]["add"].value == 1 / N
    assert decision.categories["rev"].holm >= decision.categories["rev"].p


def test_no_gain_no_publication_and_the_figures_are_in_the_reason() -> None:
    decision = verdict(report(add=300, rev=301), report(add=300, rev=300))
    assert not decision.publish
    assert "best member" in decision.reasons[0]
    assert "+0.12 points" in decision.reasons[0]


def test_the_incumbent_must_be_beaten_too() -> None:
    soup, best = report(add=320, rev=320), report(add=280, rev=280)
    assert not verdict(soup, best, incumbent=soup).publish
    assert verdict(soup, best, incumbent=best).publish


def test_the_margin_applies_to_the_lower_bound() -> None:
    soup, best = report(add=320, rev=320), report(add=280, rev=280)
    low = verdict(soup, best).differences["best member"].low
    assert verdict(soup, best, margin=low - 1e-9).publish
    assert not verdict(soup, best, margin=low).publish


def test_a_category_that_falls_too_far_stops_it() -> None:
    soup, best = report(add=400, rev=280), report(add=280, rev=300)
    assert verdict(soup, best).publish
    assert verdict(soup, best, floor=0.05).publish
    stopped = verdict(soup, best, floor=0.04)
    assert not stopped.publish
    assert "'rev' falls by +5.00 points" in stopped.reasons[0]


def test_items_that_search_or_selection_saw_cannot_be_reported() -> None:
    """By label, by cluster, and by a wrong label on the right clusters."""
    splits = split_clusters(CLUSTERS, seed=0)
    for seen in (Split.TUNE, Split.SELECT):
        clusters = {c: [k for k in ids if splits.assignment[k] is seen]
                    for c, ids in CLUSTERS.items()}  # fmt: skip
        bits = {c: np.ones(len(ids), np.int8) for c, ids in clusters.items()}
        honest, lying = Outcomes(seen, bits), Outcomes(Split.REPORT, bits)
        for outcomes in (honest, lying):
            with pytest.raises(Leak):
                judge(outcomes, {"m": lying}, None, None, None, best_member="m",
                      clusters=clusters, splits=splits, level=0.05)  # fmt: skip
        with pytest.raises(Leak):
            judge(lying, {"m": lying, "n": honest}, None, None, None, best_member="m",
                  clusters=CLUSTERS, splits=SPLITS, level=0.05)  # fmt: skip


def test_unpaired_and_unfinished_outcomes_are_refused() -> None:
    short = Outcomes(Split.REPORT, {"add": np.ones(3), "rev": np.ones(3)})
    with pytest.raises(ValueError, match="items and clusters differ"):
        verdict(short, report(add=1, rev=1))
    partial = Outcomes(Split.REPORT, {c: np.full(N, -1) for c in CLUSTERS})
    with pytest.raises(ValueError, match="every item evaluated"):
        verdict(partial, report(add=1, rev=1))
    with pytest.raises(KeyError):
        verdict(report(add=1, rev=1), report(add=1, rev=1), best_member="org/unknown")
    with pytest.raises(ValueError, match="cannot be named 'soup'"):
        judge(report(add=1, rev=1), {"soup": report(add=1, rev=1)}, None, None, None,
              best_member="soup", clusters=CLUSTERS, splits=SPLITS, level=0.05)  # fmt: skip


def test_a_verdict_is_json() -> None:
    decision = verdict(report(add=320, rev=320), report(add=280, rev=310), floor=0.1)
    raw = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert raw["differences"]["best member"] == asdict(decision.differences["best member"])
    assert raw["overall"]["soup"] == 0.8


def test_looks_share_one_alpha() -> None:
    assert look_level(1) == pytest.approx(0.0304, abs=1e-4)
    assert 0.0499 < sum(look_level(k) for k in range(1, 2000)) < 0.05
    with pytest.raises(ValueError, match="from 1"):
        look_level(0)


def test_clusters_widen_the_interval() -> None:
    """Forty copies of one question are one question."""
    rng = np.random.default_rng(0)
    bits = np.repeat(rng.integers(0, 2, (2, 10)), 40, axis=1)
    a, b = (Outcomes(Split.REPORT, {"c": row}) for row in bits)
    together = Resampler({"c": [f"q{i // 40}" for i in range(400)]})
    apart = Resampler({"c": [f"q{i}" for i in range(400)]})

    def width(resampler: Resampler) -> float:
        models = resampler.resample(a), resampler.resample(b)
        difference = resampler.difference(*models, lambda s: s.mean(axis=-1), level=0.05)
        return difference.high - difference.low

    assert width(together) > 5 * width(apart)


def test_no_certainty_from_items_that_agree() -> None:
    """No discordant item among n bounds the discordance by about 3/n; it is not zero."""
    same = report(add=200, rev=200)
    gain = verdict(same, same, level=0.05).differences["best member"]
    assert (gain.mean, gain.p) == (0, 1)
    assert gain.high == -gain.low == pytest.approx(3 / 800, rel=0.01)


def test_a_handful_of_gained_items_is_no_proof() -> None:
    """Five gained and none lost: a fair coin does that in one of 16 tries, both ways counted."""
    few = verdict(report(add=205, rev=200), report(add=200, rev=200), level=0.05)
    gain = few.differences["best member"]
    assert gain.low <= 0
    assert gain.p >= 2**-4


def simulate(rng: np.random.Generator, gain: float, discordance: float, n: int, copies: int):
    """Two models on n clusters of `copies` items each: outcomes and clusters."""
    u = np.repeat(rng.random(n), copies)
    right = np.repeat(rng.random(n) < 0.7, copies).astype(np.int8)
    soup = np.where(u < discordance, (u < (discordance + gain) / 2).astype(np.int8), right)
    best = np.where(u < discordance, 1 - soup, right)
    ids = [f"k{i // copies}" for i in range(n * copies)]
    return Outcomes(Split.REPORT, {"c": soup}), Outcomes(Split.REPORT, {"c": best}), {"c": ids}


@pytest.mark.parametrize(("gain", "n", "copies"), [(0.02, 600, 1), (0.0, 150, 4), (0.05, 60, 2)])
def test_intervals_cover_the_truth(gain: float, n: int, copies: int) -> None:
    """400 draws at 90 %: coverage below 87 % would be two standard errors short."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        soup, best, clusters = simulate(rng, gain, 0.15, n, copies)
        resampler = Resampler(clusters, replicates=500)
        models = resampler.resample(soup), resampler.resample(best)
        found = resampler.difference(*models, lambda s: s.mean(axis=-1), level=0.1)
        covered += found.low <= gain <= found.high
    assert covered / 400 >= 0.87


def test_the_stated_gain_is_detected_as_often_as_stated() -> None:
    rng = np.random.default_rng(3)
    gain = smallest_detectable_gain(500, level=0.05, power=0.8, discordance=0.1)
    hits = 0
    for _ in range(300):
        soup, best, clusters = simulate(rng, gain, 0.1, 500, 1)
        resampler = Resampler(clusters, replicates=500)
        models = resampler.resample(soup), resampler.resample(best)
        hits += resampler.difference(*models, lambda s: s.mean(axis=-1), level=0.05).low > 0
    assert 0.72 <= hits / 300 <= 0.88


def test_detectable_gain_by_category() -> None:
    even = smallest_detectable_gain({"a": 500, "b": 500}, level=0.05)
    assert even == pytest.approx(smallest_detectable_gain(1000, level=0.05))
    assert smallest_detectable_gain({"a": 990, "b": 10}, level=0.05) > 3 * even
    with pytest.raises(ValueError, match="at least 1"):
        smallest_detectable_gain({"a": 0}, level=0.05)


def test_other_objectives_are_judged_too() -> None:
    soup, best = report(add=320, rev=320), report(add=400, rev=240)
    assert not verdict(soup, best).publish
    assert verdict(soup, best, objective=Objective(Goal.WORST)).publish


def test_student_tails_against_tables() -> None:
    """Values of the t table: two-sided 5 % and 0.1 %."""
    for df, five, tenth in [(1, 12.706, 636.62), (4, 2.776, 8.610), (30, 2.042, 3.646),
                            (1000, 1.962, 3.300)]:  # fmt: skip
        assert student_quantile(0.05, df) == pytest.approx(five, rel=1e-3)
        assert student_quantile(0.001, df) == pytest.approx(tenth, rel=1e-3)
        assert student_two_sided(five, df) == pytest.approx(0.05, rel=5e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_never_below_p(p_values) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert all(x[1] <= y[1] for x, y in itertools.pairwise(pairs))
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))


@pytest.mark.parametrize("limit", ["margin", "floor"])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    """A fall is never larger than nan: such a floor would let everything through."""
    with pytest.raises(ValueError, match=f"the {limit} is not a number"):
        verdict(report(add=320, rev=320), report(add=280, rev=280), **{limit: float("nan")})


def test_clusters_that_all_differ_alike_leave_room_for_others() -> None:
    gain = verdict(report(add=N, rev=N), report(add=0, rev=0)).differences["best member"]
    assert gain.mean == gain.high == 1
    assert gain.low == pytest.approx(1 - 2 * (1 - 0.03 ** (1 / (2 * N))))
    assert gain.p < 1e-9
