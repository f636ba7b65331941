"""Numbers are rounded, never prettified."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cards import figures
from bot.cards.figures import Difference, Estimate, Score


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.032, "+3.2"), (-0.032, "-3.2"), (0, "+0.0"), (-0.0, "+0.0"), (0.0003, "+0.03"),
     (-0.0003, "-0.03"), (0.00002, "+0.002"), (-1e-9, "+0.000"), (0.0996, "+10.0")],
)  # fmt: skip
def test_points(share, shown):
    assert figures.show_points(share) == shown


@given(st.floats(-1, 1))
def test_rounding_never_turns_a_sign_round(share):
    shown = float(figures.show_points(share))
    assert shown == 0 or (shown > 0) == (share > 0)
    assert abs(shown - 100 * share) <= 0.0501


@pytest.mark.parametrize(
    ("score", "shown"),
    [(Score(0.625, 0.024, 400), "62.5 ± 2.4"), (Score(1.0, 0.0, 40), "100.0 (all)"),
     (Score(0.0, 0.0, 40), "0.0 (none)"), (Score(1.0, 0.01, 40), "100.0 ± 1.0"), (None, "-")],
)  # fmt: skip
def test_scores(score, shown):
    assert figures.show_score(score) == shown


@pytest.mark.parametrize(
    ("weight", "shown"),
    [("2/5", "0.4"), ("1", "1"), ("1/3", "1/3 (33.33 %)"), ("1/8", "0.125"), ("0", "0")],
)
def test_weights_are_exact(weight, shown):
    assert figures.show_weight(Fraction(weight)) == shown


@given(st.fractions(0, 1, max_denominator=10**4))
def test_a_printed_weight_reads_back_as_itself(weight):
    assert Fraction(figures.show_weight(weight).split(" ")[0]) == weight


def test_numbers():
    assert figures.show_number(12000) == "12,000"
    assert figures.show_number(0.030396) == "0.0304"
    assert figures.show_percent(0.95) == "95 %"
    assert figures.show_percent(0.969604) == "96.96 %"
    assert figures.show_percent(0.3) == "30 %"
    assert figures.show_float(1) == "1.0"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Score(math.nan, 0.1, 10),
        lambda: Score(0.5, math.nan, 10),
        lambda: Score(62.5, 2.4, 10),
        lambda: Score(0.5, 0.1, 0),
        lambda: Difference(0.1, 0.2, 0.1, 0.95),
        lambda: Difference(math.nan, 0.0, 0.1, 0.95),
        lambda: Difference(0.1, 0.0, 0.2, 95),
        lambda: Estimate(1.0, math.nan, 2.0),
        lambda: Estimate(math.inf, 0.0, 1.0),
        lambda: figures.show_number(math.nan),
    ],
)
def test_what_is_no_number_is_refused(make):
    with pytest.raises(ValueError, match=r"not a|between"):
        make()
