"""From base share to threshold.

Operators think in base share: the part of the positions where the router is asked (the starts of
words and whatever else is not inside one) that the base writes. The share becomes a threshold as a
quantile of the router's signal at those positions; positions that a content rule keeps for the
aligned model count as its share. Ours; the paper sets thresholds by hand.
"""

from torch import Tensor

from .rules import Doubt, Router, Threshold


class ShareOutOfReach(ValueError):
    """A content rule keeps so many positions for the aligned model that the share is impossible."""

    def __init__(self, router: Router, share: float, most: float) -> None:
        self.most = most
        super().__init__(
            f"router {router} cannot reach base share {share:.3g} on this pair: its content rule "
            f"leaves the base at most {most:.3g}; ask for a share in [0, {most:.3g}]"
        )


def reachable(content: Tensor) -> float:
    """The largest base share: positions that no content rule keeps. [K] bool -> number in [0, 1]"""
    return float((~content).double().mean()) if len(content) else 0.0


def threshold_for(router: Router, share: float, doubt: Tensor, content: Tensor) -> Threshold:
    """The threshold that gives `share` at the positions observed.

    `doubt`: [K] signal where the router was asked; `content`: [K] bool, its content rule held.
    Raises ShareOutOfReach, and ValueError for a router without a threshold.
    """
    if router.doubt is None:
        raise ValueError(f"router {router} has a fixed share and no threshold")
    most = reachable(content)
    wanted = round(share * len(content))  # positions for the base
    if not 0 <= share <= 1 or wanted > int((~content).sum()):
        raise ShareOutOfReach(router, share, most)
    if router.doubt is Doubt.RAND:
        return "never" if share == 0 else min(1.0, round(share / most, 6))
    ordered = doubt[~content].double().sort(descending=router.doubt is Doubt.H).values
    if wanted == 0:
        return "never"
    if wanted == len(ordered):
        return "always"
    return round(float(ordered[wanted - 1 : wanted + 1].mean()), 6)  # halfway to the next one
