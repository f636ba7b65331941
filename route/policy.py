"""Who writes the next token: the routers as pure functions of distributions and history.

Ours, where the paper's text leaves it open: routing reads the unwarped distribution at temperature
1, so a threshold keeps its meaning when the sampling temperature changes; content rules read the
base's top token unless `content_reads` says "aligned"; a word stays with its writer while the
base's top token would go on with it; with a missing signal (NaN) the aligned model writes.

Not promised: a writer may end a word where the base expected it to go on, and the other way round,
because the test reads the base's *top* token and the token is then *drawn*.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .rules import Content, Doubt, Policy, Router, Side, cutoff
from .vocab import Vocabulary


@dataclass(frozen=True)
class History:
    """What was written so far, as far as routing needs it.

    [B] for one position of each row, [B, m] for m positions in a row, seen from each of them.
    """

    step: Tensor  # [B] or [B, m] long: tokens written before
    last: Tensor  # [B] or [B, m] long: the token before; at step 0 not read
    by_base: Tensor  # [B] bool: the writer of the token before (before the first of m)


@dataclass(frozen=True)
class Seen:
    """What routing reads of the distributions: two numbers a position. All [B] or [B, m]."""

    base_top: Tensor  # long: the base's most probable token
    top: Tensor  # long: that of the model which the content rules read
    doubt: Tensor  # float: what the threshold is compared with


@dataclass(frozen=True)
class Decision:
    """Who writes, and why. All [B] or [B, m]."""

    base: Tensor  # bool: the base writes this token
    free: Tensor  # bool: the router was asked: no word is open and the prefix is over
    content: Tensor  # bool: the content rule holds (all false without one)
    doubt: Tensor  # float: what the threshold was compared with (0 without a doubt rule)


def largest_probability(logits: Tensor) -> Tensor:
    """max_y P(y). [B, V] -> [B]"""
    return logits.softmax(-1).amax(-1)


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


def look(
    policy: Policy, base_logits: Tensor, aligned_top: Tensor | None, coin: Tensor | None
) -> Seen:
    """What routing reads at one position. base_logits: [B, V], raw; the rest [B].

    `aligned_top`: the aligned model's most probable token, needed where the content rules read it;
    `coin`: uniform on [0, 1), needed where `policy.tosses`.
    """
    base_top = base_logits.argmax(-1)
    read_aligned = policy.content_reads is Side.ALIGNED and aligned_top is not None
    return Seen(
        base_top=base_top,
        top=aligned_top if read_aligned and aligned_top is not None else base_top,
        doubt=doubt(policy.router, base_logits, coin),
    )


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
    top = None
    if policy.content_reads is Side.ALIGNED and aligned_logits is not None:
        top = aligned_logits.argmax(-1)
    return decide_seen(policy, look(policy, base_logits, top, coin), history, vocabulary)


def decide_seen(policy: Policy, seen: Seen, history: History, vocabulary: Vocabulary) -> Decision:
    """Route one position of every row [B], or m positions in a row [B, m]."""
    kept = content(policy.router, seen.top, vocabulary)
    held = (history.step > 0) & word_open(history.last, seen.base_top, vocabulary)
    early = history.step < policy.aligned_prefix
    wants = doubts(policy, seen.doubt) & ~kept & ~early
    return Decision(
        base=hand_on(wants, held & ~early, history.by_base),
        free=~held & ~early,
        content=kept,
        doubt=seen.doubt,
    )


def hand_on(wants: Tensor, held: Tensor, before: Tensor) -> Tensor:
    """`wants` where a position is not held, else what holds at the position to the left.

    before: [B], what holds left of the first position. [B] or [B, m] -> the same
    """
    if wants.dim() == 1:
        return torch.where(held, before, wants)
    places = torch.arange(wants.shape[1], device=wants.device).expand_as(wants)
    source = torch.where(held, -1, places).cummax(1).values  # the last position that is not held
    return torch.where(source < 0, before[:, None], wants.gather(1, source.clamp(min=0)))


def plausible(tokens: Tensor, aligned_logits: Tensor, veto: float) -> Tensor:
    """Whether P_aligned(y) >= veto * max P_aligned for the drawn tokens. [B], [B, V] -> [B] bool"""
    own = aligned_logits.gather(-1, tokens[:, None]).squeeze(-1)
    return own >= aligned_logits.amax(-1) + math.log(veto)
