"""Coverage and Dominance: hand-worked cases, laws, and the intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from route.bootstrap import Resampler
from route.figures import Bounds
from route.indicators import Plane, Point, covered, front, pooled_bounds

unit = st.floats(0, 1, allow_nan=False)
points = st.lists(st.tuples(unit, unit), min_size=1, max_size=8)


def columns(pairs):
    return np.array(pairs, dtype=float).T


def test_the_area_of_a_union_of_rectangles():
    assert covered(*columns([(0.5, 0.4)])) == pytest.approx(0.2)
    assert covered(*columns([(0.2, 0.9), (0.6, 0.5), (0.5, 0.5)])) == pytest.approx(0.18 + 0.2)
    assert covered(*columns([(0.6, 0.5), (0.3, 0.4)])) == pytest.approx(0.3)  # one holds the other
    assert covered(*columns([(-0.5, 0.9), (0.7, -1)])) == 0.0
    assert covered(*columns([(1.2, 0.5)])) == pytest.approx(0.6)


@given(points, points)
def test_more_points_never_cover_less_and_order_is_nothing(some, more):
    whole = covered(*columns(some + more))
    assert whole >= covered(*columns(some)) - 1e-12
    assert whole == pytest.approx(covered(*columns(more + some)))
    assert whole <= covered(*columns(some)) + covered(*columns(more)) + 1e-12


@given(points)
def test_the_area_is_that_counted_on_a_grid(pairs):
    grid = (np.arange(200) + 0.5) / 200
    x, y = np.meshgrid(grid, grid)
    inside = np.any([(x <= d) & (y <= q) for d, q in pairs], axis=0)
    assert covered(*columns(pairs)) == pytest.approx(inside.mean(), abs=0.02)


def test_the_front_is_shared():
    parts = front(*columns([(0.1, 0.9), (0.5, 0.5), (0.5, 0.5), (0.4, 0.4), (0.5, 0.1)]))
    assert parts == pytest.approx([1 / 2, 1 / 4, 1 / 4, 0, 0])


@given(points)
def test_the_parts_of_a_front_sum_to_one(pairs):
    parts = front(*columns(pairs))
    assert parts.sum() == pytest.approx(1.0)
    best = max(range(len(pairs)), key=lambda i: pairs[i])
    assert parts[best] > 0


GROUPS = {"lexical": ("a", "b"), "semantic": ("c",)}


def point(method, a, b, c, q, prompts=30, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.02, (4, prompts))
    levels = zip("abcq", (a, b, c, q), noise, strict=True)
    return Point(method, {name: value + e - e.mean() for name, value, e in levels})


@pytest.fixture
def pool():
    return [
        point("router", 0.2, 0.3, 0.5, 0.9, seed=1),
        point("router", 0.6, 0.7, 0.9, 0.6, seed=2),
        point("random", 0.15, 0.25, 0.4, 0.8, seed=3),
        point("random", 0.55, 0.65, 0.8, 0.4, seed=4),
        point("aligned", 0.0, 0.1, 0.2, 1.0, seed=5),
        point("base", 1.0, 0.9, 1.0, 0.0, seed=6),
    ]


def test_averages_over_subspaces_groups_and_prompts(pool):
    bounds = pooled_bounds(pool, ["a", "b", "c", "q"])
    assert bounds["b"] == Bounds(0.1, 0.9)
    plane = Plane(pool, GROUPS, "q", bounds, Resampler(30, 0))
    found = {one.method: one for one in plane.indicators()}
    a = 0.2 * 0.9 + 0.4 * 0.6
    b = 0.25 * 0.9 + 0.5 * 0.6  # (0.3 - 0.1) / 0.8 and (0.7 - 0.1) / 0.8
    c = 0.375 * 0.9 + 0.5 * 0.6  # (0.5 - 0.2) / 0.8 and (0.9 - 0.2) / 0.8
    assert found["router"].groups["lexical"].value == pytest.approx((a + b) / 2, abs=1e-5)
    assert found["router"].coverage.value == pytest.approx(((a + b) / 2 + c) / 2, abs=1e-5)
    assert found["router"].dominance.value == pytest.approx(0.5)  # two of four, everywhere
    assert found["random"].dominance.value == 0.0
    assert sum(one.dominance.value for one in found.values()) == pytest.approx(1.0)
    assert [found[name].settings for name in ("router", "aligned")] == [2, 1]


def test_a_gain_is_paired(pool):
    plane = Plane(pool, GROUPS, "q", pooled_bounds(pool, [*"abcq"]), Resampler(30, 0))
    gain = plane.gain("router", "random").coverage
    levels = {one.method: one.coverage for one in plane.indicators()}
    assert gain.value == pytest.approx(levels["router"].value - levels["random"].value, abs=2e-6)
    assert gain.low > 0
    itself = plane.gain("router", "router").coverage
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)


def test_bounds_from_elsewhere_are_kept_to(pool):
    bounds = dict.fromkeys("abcq", Bounds(0.0, 2.0))
    wide = Plane(pool, GROUPS, "q", bounds, Resampler(30, 0))
    coverage = {one.method: one.coverage.value for one in wide.indicators()}
    assert coverage["base"] == 0.0
    assert coverage["aligned"] == pytest.approx((0.0 * 0.5 / 2 + 0.05 * 0.5 / 2 + 0.1 * 0.5) / 2)


def test_a_measure_that_never_moves_breaks_nothing(pool):
    still = [Point(one.method, {**one.values, "a": np.full(30, 0.5)}) for one in pool]
    plane = Plane(still, GROUPS, "q", pooled_bounds(still, [*"abcq"]), Resampler(30, 0))
    assert all(np.isfinite(one.coverage.value) for one in plane.indicators())
