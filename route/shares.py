"""The threshold for a base share, tuned on the spot by writing. Ours; see `route.calibrate` for the
thorough way, with figures."""

from collections.abc import Callable
from typing import Any

from .curve import check_adjustable
from .rules import Router, Threshold
from .thresholds import threshold_for

#: What `tune` is meant to see of a prompt: so many texts, and tokens of each.
TEXTS, TOKENS = 8, 64


def tune(router: Router, share: float, write: Callable[[Threshold], Any]) -> Threshold:
    """The threshold at which the base writes `share` of the asked positions of some prompts.

    write: texts at a threshold, as a `RoutedOutput`. The aligned model's own texts give a first
    threshold; routed texts differ, so they give the second, which counts. Nothing is written where
    the share alone tells: it is 0, or a coin's. Raises ShareOutOfReach, and ValueError for a router
    without a threshold.
    """
    check_adjustable(router)
    if share == 0 or (router is Router.RAND and 0 < share <= 1):
        return "never" if share == 0 else round(share, 6)
    threshold: Threshold = "never"
    for _ in range(2):
        seen = write(threshold)
        threshold = threshold_for(router, share, seen.doubt[seen.free], seen.content[seen.free])
    return threshold
