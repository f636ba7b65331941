"""Who writes the next token: the routers of base-aligned collaboration as pure functions.

With context c = [x, y_<t] the law is P(y_t | c) = w P_base(y_t | c) + (1 - w) P_aligned(y_t | c),
w in {0, 1}: a hard switch per token (Wang et al., "Optimizing Diversity and Quality through
Base-Aligned Model Collaboration", arXiv 2511.05650). Routers -RAND, -P, -H, -PUNC, -FC and the
combinations are the paper's. Ours, where the paper's text leaves it open:

* routing reads the unwarped distribution at temperature 1, so a threshold keeps its meaning when
  the sampling temperature changes;
* content rules read the base's top token unless `content_reads` says "aligned";
* a word stays with its writer while the base's top token would go on with it;
* the explicit ends "never" and "always", the aligned prefix, the plausibility veto, and the
  controls -RAND-PUNC and -RAND-FC.

Not promised: a writer may end a word where the base expected it to go on, and the other way round,
because the test reads the base's *top* token and the token is then *drawn*.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

from .vocab import Vocabulary

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


@dataclass(frozen=True)
class History:
    """What was written so far, as far as routing needs it."""

    step: Tensor  # [B] long: tokens written so far
    last: Tensor  # [B] long: the last token; at step 0 not read
    by_base: Tensor  # [B] bool: the writer of the last token


@dataclass(frozen=True)
class Decision:
    """Who writes, and why."""

    base: Tensor  # [B] bool: the base writes this token
    free: Tensor  # [B] bool: the router was asked: no word is open and the prefix is over
    content: Tensor  # [B] bool: the content rule holds (all false without one)
    doubt: Tensor  # [B] float: what the threshold was compared with (0 without a doubt rule)


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


def largest_probability(logits: Tensor) -> Tensor:
    """max_y P(y). [B, V] -> [B]"""
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def entropy(logits: Tensor) -> Tensor:
    """H(P) = -sum_y P(y) log P(y) in nats. [B, V] -> [B]; tokens of probability 0 count 0."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)


def doubt(router: Router, base_logits: Tensor, coin: Tensor | None) -> Tensor:
    """The signal of the router's doubt rule. [B, V] -> [B]"""
    match router.doubt:
        case Doubt.P:
            return largest_probability(base_logits)
        case Doubt.H:
            return entropy(base_logits)
        case Doubt.RAND if coin is not None:
            return coin
        case _:
            return base_logits.new_zeros(base_logits.shape[0])


def doubts(policy: Policy, signal: Tensor) -> Tensor:
    """Whether the doubt rule wants the base. [B] -> [B] bool.

    Every comparison is false on NaN, so a missing signal means aligned.
    """
    if policy.router.doubt is None:
        return torch.ones_like(signal, dtype=torch.bool)
    gamma = cutoff(policy.router, policy.threshold)
    return signal > gamma if policy.router.doubt is Doubt.H else signal < gamma


def content(router: Router, top: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Whether the content rule keeps the predicted token `top` for aligned. [B] -> [B] bool"""
    match router.content:
        case Content.PUNC:
            return vocabulary.punctuation[top]
        case Content.FC:
            return vocabulary.function[top]
        case _:
            return torch.zeros_like(top, dtype=torch.bool)


def word_open(last: Tensor, base_top: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Whether a word was begun and the base's top token goes on with it. [B] -> [B] bool"""
    return vocabulary.inside[last] & vocabulary.continues[base_top]


def decide(
    policy: Policy,
    base_logits: Tensor,
    aligned_logits: Tensor | None,
    history: History,
    vocabulary: Vocabulary,
    coin: Tensor | None = None,
) -> Decision:
    """Route one step of a batch.

    `base_logits`, `aligned_logits`: [B, V], raw; the aligned side is needed only where
    `policy.reads_aligned`. `coin`: [B] uniform on [0, 1), needed where `policy.tosses`.
    """
    base_top = base_logits.argmax(-1)  # [B]
    top = base_top  # [B]
    if policy.content_reads is Side.ALIGNED and aligned_logits is not None:
        top = aligned_logits.argmax(-1)
    signal = doubt(policy.router, base_logits, coin)
    kept = content(policy.router, top, vocabulary)
    wants = doubts(policy, signal) & ~kept
    held = (history.step > 0) & word_open(history.last, base_top, vocabulary)
    early = history.step < policy.aligned_prefix
    return Decision(
        base=torch.where(held, history.by_base, wants) & ~early,
        free=~held & ~early,
        content=kept,
        doubt=signal,
    )


def plausible(tokens: Tensor, aligned_logits: Tensor, veto: float) -> Tensor:
    """Whether P_aligned(y) >= veto * max P_aligned for the drawn tokens. [B], [B, V] -> [B] bool"""
    own = aligned_logits.gather(-1, tokens[:, None]).squeeze(-1)
    return own >= aligned_logits.amax(-1) + math.log(veto)
