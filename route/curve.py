"""The threshold for a base share, read off the curve that a router was published with.

The share is the part of the positions where the router is asked that the base writes. Ours.
Standard library only.
"""

import math

from .config import RouterConfig
from .rules import Doubt, Router, Threshold


class ShareBeyondCurve(ValueError):
    """The share asked for lies outside what the router was calibrated for."""

    def __init__(self, router: Router, share: float, least: float, most: float) -> None:
        self.least, self.most = least, most
        super().__init__(
            f"router {router} was calibrated for base shares from {least:.3g} to {most:.3g}, not "
            f"for {share:.3g}; ask for a share in [{least:.3g}, {most:.3g}]"
        )


def from_curve(config: RouterConfig, share: float) -> Threshold | None:
    """The threshold at `share`, between two calibrated ones by linear interpolation.

    None where the router was published without a curve. Raises ShareBeyondCurve, and ValueError
    for a router without a threshold.
    """
    check_adjustable(config.router)
    settings = config.calibration.curve if config.calibration is not None else ()
    curve = sorted(
        (one.target, _number(config, one.threshold))
        for one in settings
        if one.kind == "router" and one.target is not None and one.threshold is not None
    )
    if not curve:
        return None
    if not curve[0][0] <= share <= curve[-1][0]:
        raise ShareBeyondCurve(config.router, share, curve[0][0], curve[-1][0])
    right = next(i for i, (target, _) in enumerate(curve) if target >= share)
    (low, at_low), (high, at_high) = curve[max(0, right - 1)], curve[right]
    part = (share - low) / (high - low) if share < high else 1.0
    return round(at_low + part * (at_high - at_low), 6)


def check_adjustable(router: Router) -> None:
    """Raise ValueError for a router without a threshold."""
    if router.doubt is None:
        raise ValueError(f"router {router} has a fixed base share: leave the share out")


def _number(config: RouterConfig, threshold: Threshold) -> float:
    """The ends as the nearest number that a signal can have."""
    if isinstance(threshold, float):
        return threshold
    top = math.log(config.vocabulary.size) if config.router.doubt is Doubt.H else 1.0
    largest = "never" if config.router.doubt is Doubt.H else "always"
    return top if threshold == largest else 0.0
