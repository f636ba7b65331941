"""The routers by name, what they are set to, and the range of their thresholds.

Base-aligned collaboration writes with c_t = [x, y_<t] and
P(y_t | c_t) = w P_base(y_t | c_t) + (1 - w) P_aligned(y_t | c_t), w in {0, 1}: a hard switch per
token (Wang et al., "Optimizing Diversity and Quality through Base-Aligned Model Collaboration",
arXiv 2511.05650). Routers -RAND, -P, -H, -PUNC, -FC and the combinations are the paper's. Ours: the
explicit ends "never" and "always", the aligned prefix, the plausibility veto, and the controls
-RAND-PUNC and -RAND-FC. Standard library only, so that whoever publishes a router loads no model.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Threshold = float | Literal["never", "always"]


class Side(StrEnum):
    """One of the two models."""

    BASE = "base"
    ALIGNED = "aligned"


class Doubt(StrEnum):
    """The signal that a threshold is compared with."""

    RAND = "rand"
    """A coin: base if u < threshold, u uniform on [0, 1). Larger threshold, more base."""
    P = "p"
    """The base's largest probability: base if max P_base < threshold. Larger, more base."""
    H = "h"
    """The base's entropy in nats: base if H(P_base) > threshold. Larger, *less* base."""


class Content(StrEnum):
    """The class of predicted tokens that always go to the aligned model."""

    PUNC = "punc"
    FC = "fc"


class Router(StrEnum):
    """A doubt rule, a content rule, or both."""

    RAND = "rand"
    P = "p"
    H = "h"
    PUNC = "punc"
    FC = "fc"
    P_PUNC = "p-punc"
    P_FC = "p-fc"
    H_PUNC = "h-punc"
    RAND_PUNC = "rand-punc"
    RAND_FC = "rand-fc"

    @property
    def doubt(self) -> Doubt | None:
        first = self.value.split("-")[0]
        return Doubt(first) if first in list(Doubt) else None

    @property
    def content(self) -> Content | None:
        last = self.value.split("-")[-1]
        return Content(last) if last in list(Content) else None

    @property
    def control(self) -> "Router":
        """The random router with the same content rule: what this one is compared with."""
        return Router("-".join(["rand", *([self.content] if self.content else [])]))


@dataclass(frozen=True)
class Policy:
    """A router with everything it is set to.

    Raises ValueError where router and threshold do not fit together.
    """

    router: Router
    threshold: Threshold | None = None
    """None exactly for -PUNC and -FC, which have no threshold."""
    aligned_prefix: int = 0
    """The first tokens that the aligned model always writes (ours)."""
    veto: float = 0.0
    """A base token y counts only if P_aligned(y) >= veto * max P_aligned (ours); 0 switches off."""
    content_reads: Side = Side.BASE
    """Whose top token the content rules look at."""

    def __post_init__(self) -> None:
        check_threshold(self.router, self.threshold)
        if self.aligned_prefix < 0:
            raise ValueError(f"aligned_prefix counts tokens, got {self.aligned_prefix}")
        if not 0 <= self.veto <= 1:
            raise ValueError(f"veto is a share of the largest probability, got {self.veto}")

    @property
    def tosses(self) -> bool:
        """Whether a coin is needed. At the ends none is, so the random stream stays plain."""
        return self.router.doubt is Doubt.RAND and 0 < cutoff(self.router, self.threshold) < 1

    @property
    def reads_aligned(self) -> bool:
        """Whether the aligned model is consulted even where the base writes."""
        content = self.router.content is not None and self.content_reads is Side.ALIGNED
        return content or self.veto > 0


def check_threshold(router: Router, threshold: Threshold | None) -> None:
    """Raise ValueError unless `threshold` is in the range of `router`."""
    if router.doubt is None:
        if threshold is not None:
            raise ValueError(f"router {router} has no threshold, got {threshold!r}")
        return
    if isinstance(threshold, str) and threshold in ("never", "always"):
        return
    top = math.inf if router.doubt is Doubt.H else 1.0
    if isinstance(threshold, bool | str) or threshold is None or not 0 <= threshold <= top:
        raise ValueError(
            f'router {router} needs a threshold in [0, {top:g}] or "never" or "always", '
            f"got {threshold!r}"
        )


def cutoff(router: Router, threshold: Threshold | None) -> float:
    """The number that `threshold` stands for: beyond every value of the signal at the ends."""
    assert threshold is not None
    if threshold == "never":
        return math.inf if router.doubt is Doubt.H else 0.0
    if threshold == "always":
        return {Doubt.RAND: 1.0, Doubt.P: math.inf, Doubt.H: -math.inf}[router.doubt or Doubt.P]
    return float(threshold)
