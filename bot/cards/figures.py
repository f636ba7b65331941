"""The numbers on a card, and how they are rounded.

Scores are shares of items in [0, 1] and are printed in percent points with one decimal and one
standard error. Where rounding would hide a sign, more decimals are shown. A NaN never reaches a
page: the constructors refuse it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from bot.cards.escape import Markdown, show_token


@dataclass(frozen=True)
class Score:
    """Share of `n` items answered rightly, with its standard error."""

    value: float
    stderr: float
    n: int

    def __post_init__(self) -> None:
        if not (0 <= self.value <= 1 and 0 <= self.stderr <= 1 and self.n >= 1):
            raise ValueError(f"not a score: {self}")


@dataclass(frozen=True)
class Difference:
    """A paired difference of two scores with its interval, in shares (0.01 is one point)."""

    value: float
    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        if not (-1 <= self.low <= self.high <= 1 and -1 <= self.value <= 1):
            raise ValueError(f"not a difference: {self}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence lies between 0 and 1, not {self.confidence}")

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A figure of any unit with its interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))) or self.low > self.high:
            raise ValueError(f"not an estimate: {self}")


def show_score(score: Score | None) -> Markdown:
    """`62.5 ± 2.4`; a dash where nothing was measured.

    With every item right, or none, the usual standard error is zero and says nothing, so the
    words `all` and `none` stand in its place.
    """
    if score is None:
        return Markdown("-")
    if score.stderr == 0 and score.value in (0, 1):
        return Markdown("100.0 (all)" if score.value else "0.0 (none)")
    return Markdown(f"{_fixed(100 * score.value)} ± {_fixed(100 * score.stderr)}")


def show_score_percent(score: Score | None) -> Markdown:
    """The same for running text, with its unit: `62.5 ± 2.4 %`."""
    if score is None:
        return Markdown("not measured")
    if score.stderr == 0 and score.value in (0, 1):
        return Markdown("100.0 % (all)" if score.value else "0.0 % (none)")
    return Markdown(f"{show_score(score)} %")


def show_points(share: float) -> Markdown:
    """A signed difference in percent points: `+3.2`."""
    return Markdown(_fixed(100 * share, sign=True))


def show_range(difference: Difference) -> Markdown:
    """The interval of a difference in percent points: `+0.9 to +5.5`."""
    return Markdown(f"{show_points(difference.low)} to {show_points(difference.high)}")


def show_change(difference: Difference) -> Markdown:
    """Difference and interval for a table cell: `+3.2 (+0.9 to +5.5)`."""
    return Markdown(f"{show_points(difference.value)} ({show_range(difference)})")


def show_estimate(estimate: Estimate) -> Markdown:
    """Figure and interval in three significant digits: `0.713 (0.69 to 0.73)`."""
    value, low, high = (f"{x:.3g}" for x in (estimate.value, estimate.low, estimate.high))
    return Markdown(f"{value} ({low} to {high})")


def show_signed(estimate: Estimate) -> Markdown:
    """A difference of any unit with its interval: `+0.02 (-0.01 to +0.05)`."""
    value, low, high = (f"{x:+.2g}" for x in (estimate.value, estimate.low, estimate.high))
    return Markdown(f"{value} ({low} to {high})")


def show_number(value: float) -> Markdown:
    """An integer with thousands separators, any other number in three significant digits."""
    if not math.isfinite(value):
        raise ValueError(f"not a number to print: {value}")
    return Markdown(f"{value:,}" if isinstance(value, int) else f"{value:.3g}")


def show_threshold(threshold: float | str | None) -> Markdown:
    """A threshold in three significant digits (`router.json` has all), or `never` or `always`."""
    if threshold is None:
        return Markdown("-")
    return show_token(threshold) if isinstance(threshold, str) else show_number(threshold)


def show_float(value: float) -> Markdown:
    """A Python float literal, for code."""
    return Markdown(repr(float(value)))


def show_percent(share: float) -> Markdown:
    """A share as percent with as few decimals as it has, two at most: `95 %`, `96.96 %`."""
    return Markdown(f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %")


def show_weight(weight: Fraction) -> Markdown:
    """A weight, exactly: `0.4`, or `1/3` where it has no finite decimal form of up to 6 digits."""
    scaled = weight * 10**6
    if scaled.denominator != 1:
        return Markdown(f"{weight} ({show_percent(float(weight))})")
    return Markdown(f"{float(weight):.6f}".rstrip("0").rstrip("."))


def _fixed(value: float, *, sign: bool = False) -> str:
    """One decimal, or up to three where fewer would turn a value that is not zero into zero."""
    decimals = 1
    while round(value, decimals) == 0 and value != 0 and decimals < 3:
        decimals += 1
    rounded = round(value, decimals) or 0.0  # -0.0 prints its sign
    return f"{rounded:{'+' if sign else ''}.{decimals}f}"
