"""From a base share to a threshold: along a published curve, or by writing."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from route.config import Pin, RouterConfig, VocabularyPin
from route.curve import ShareBeyondCurve, check_adjustable, from_curve
from route.figures import Calibration, Estimate, Setting
from route.rules import Router
from route.shares import tune
from route.thresholds import ShareOutOfReach


def config(router, *curve):
    """A router with thresholds calibrated at target shares."""
    at = Estimate(0.0, 0.0, 0.0)
    settings = tuple(
        Setting("s", "router", 1.0, at, at, at, at, 0.1, 2.0, {}, router, threshold, target)
        for target, threshold in curve
    )
    threshold = curve[0][1] if curve else "never" if router.doubt else None
    plain = RouterConfig(router, threshold, Pin("b"), Pin("a"), VocabularyPin(100, "0"))
    if not curve:
        return plain
    report = Calibration(1, 1, 1, 1, 0, "d", "q", "r", settings, (), (), None)
    return replace(plain, calibration=report)


def test_between_two_shares_the_threshold_is_between_theirs():
    p = config(Router.P, (0.1, 0.2), (0.3, 0.6), (0.2, 0.3))
    assert [from_curve(p, share) for share in (0.1, 0.15, 0.2, 0.25, 0.3)] == [
        0.2, 0.25, 0.3, 0.45, 0.6,
    ]  # fmt: skip
    h = config(Router.H, (0.1, 3.0), (0.5, 1.0))
    assert from_curve(h, 0.3) == 2.0
    assert from_curve(config(Router.P, (0.2, 0.3)), 0.2) == 0.3


def test_the_ends_of_a_curve_are_numbers():
    assert from_curve(config(Router.P, (0.0, "never"), (0.4, 0.5)), 0.2) == 0.25
    assert from_curve(config(Router.RAND, (0.0, "never"), (1.0, "always")), 0.3) == 0.3
    at_never = from_curve(config(Router.H, (0.0, "never"), (1.0, "always")), 0.0)
    assert at_never == pytest.approx(4.605, abs=1e-3)  # ln 100: no entropy is larger


def test_beyond_the_curve_the_range_is_named():
    curve = config(Router.P_PUNC, (0.1, 0.2), (0.35, 0.6))
    for share in (0.05, 0.36):
        with pytest.raises(ShareBeyondCurve, match=r"a share in \[0.1, 0.35\]"):
            from_curve(curve, share)


def test_a_share_that_needs_no_tuning_writes_nothing():
    def write(threshold):
        raise AssertionError(threshold)

    for router in (Router.P, Router.H_PUNC, Router.RAND, Router.RAND_PUNC):
        assert tune(router, 0.0, write) == "never"
    assert tune(Router.RAND, 0.3, write) == 0.3
    for router, share in ((Router.RAND_PUNC, 0.3), (Router.RAND, 1.1)):
        with pytest.raises(AssertionError, match="never"):
            tune(router, share, write)


def test_without_a_curve_or_a_threshold():
    assert from_curve(config(Router.P), 0.2) is None
    for router in (Router.PUNC, Router.FC):
        with pytest.raises(ValueError, match="fixed base share"):
            check_adjustable(router)
        with pytest.raises(ValueError, match="fixed base share"):
            tune(router, 0.2, lambda threshold: None)


def writer(first, second):
    """What a pair would report: doubts at ten positions, other ones once it is routed."""
    calls = []

    def write(threshold):
        calls.append(threshold)
        doubt = torch.tensor([first if threshold == "never" else second])
        free = torch.ones_like(doubt, dtype=torch.bool)
        free[0, 0] = False  # nobody asked the router there
        content = torch.zeros_like(free)
        content[0, 1:3] = True
        return SimpleNamespace(doubt=doubt, free=free, content=content)

    return write, calls


def test_tuning_takes_the_threshold_from_routed_text():
    tens = [i / 10 for i in range(11)]
    write, calls = writer(tens, [value / 2 for value in tens])
    assert tune(Router.P, 0.5, write) == pytest.approx(0.375)  # five of ten, halfway to the next
    assert calls == ["never", 0.75]
    with pytest.raises(ShareOutOfReach, match=r"at most 0.8"):
        tune(Router.P, 0.9, write)
