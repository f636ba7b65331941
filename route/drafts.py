"""Drafts of the base and what the aligned model makes of them, position by position.

A token's law and its random numbers are those of its position: where the base writes, it is drawn
from q (the base's distribution); where the aligned model writes, a draft x ~ q is kept with
probability min(1, p(x) / q(x)), else replaced by a token from norm(max(p - q, 0)), which gives p
exactly (speculative sampling, Leviathan et al., arXiv 2211.17192). So a token is a function of p, q
and the four numbers of its position, and of nothing else: not of how many positions were drafted at
once, of other rows, or of what was guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .decode import Sides
from .noise import ACCEPT, COIN, DRAFT, REDRAW, pick
from .page import Page
from .policy import Decision, History, Seen, decide_seen, look, plausible
from .rules import Policy, Side
from .warp import Stops, Warp


@dataclass(frozen=True)
class Batch:
    """What stays while a batch is written, and the page that it is written on."""

    policy: Policy
    sides: Sides
    page: Page
    noise: Tensor  # [B, T, 4]
    warp: Warp
    stops: Stops
    eos: Tensor | None

    def lengths(self) -> list[int]:
        """Tokens of each row so far; empty where nothing reads the text, to save the wait."""
        return self.page.lengths() if self.warp.reads or self.stops else []

    def numbers(self, count: int, late: Tensor) -> Tensor:
        """Those of the next positions, of rows that are `late` [B] from one before. -> [B, m, 4]"""
        places = self.page.places(count) - late.long()[:, None]
        places = places.clamp(0, self.page.most - 1)
        return self.noise.gather(1, places[..., None].expand(-1, -1, 4))


@dataclass(frozen=True)
class Draft:
    """What the base proposes for the next m positions of every row."""

    tokens: Tensor  # [B, m]
    probs: list[Tensor]  # m times [B, V]: q, warped, special tokens masked
    seen: Seen  # [B, m]
    logits: list[Tensor]  # m times [B, V], raw, as forward by forward
    count: Tensor  # [B]: how many of the m are drafts, m or m - 1


@dataclass
class Settled:
    """What became of a draft."""

    tokens: Tensor  # [B, m]
    by_base: Tensor  # [B, m] bool
    count: Tensor  # [B]: how many of the m are text
    rejected: Tensor  # [B] bool: the last of these replaced its draft


def propose(batch: Batch, logits: Tensor, late: Tensor, count: int) -> Draft:
    """The base goes on by itself for `count` positions, with one forward for each but the first.

    logits: [B, V], the base's, raw, for the first. late: [B] bool, rows that read their newest
    token only now, while the others read their first draft; they get one draft less.
    """
    page, warp, base = batch.page, batch.warp, batch.sides.base
    u = batch.numbers(count, late)  # [B, m, 4]
    behind = late.long()
    lengths = (page.start + page.written - behind).tolist() if warp.reads else []
    tokens: list[Tensor] = []
    probs, seen, raw = [], [], []
    for j in range(count):
        if j > 0:
            logits = base.read(tokens[-1][:, None])[:, -1]
        coin = u[:, j, COIN] if batch.policy.tosses else None
        seen.append(look(batch.policy, logits, None, coin))
        probs.append(warp(logits + batch.sides.silence, page.ids, [n + j for n in lengths]))
        drawn = pick(probs[-1], u[:, j, DRAFT])
        tokens.append(torch.where(late, page.last, drawn) if j == 0 else drawn)
        raw.append(logits)
        if warp.reads:
            page.sketch(tokens[-1], j - behind)
    base_top = torch.stack(_in_step([one.base_top for one in seen], late), 1)
    doubt = torch.stack(_in_step([one.doubt for one in seen], late), 1)
    return Draft(
        tokens=torch.stack(_in_step(tokens, late), 1),
        probs=_in_step(probs, late),
        seen=Seen(base_top, base_top, doubt),
        logits=raw,
        count=count - behind,
    )


def _in_step(columns: Sequence[Tensor], late: Tensor) -> list[Tensor]:
    """The columns [B, ...] with late rows moved up by one; their last is left over."""
    rows = late.view(-1, *[1] * (columns[0].dim() - 1))
    return [torch.where(rows, after, now) for now, after in pairwise([*columns, columns[-1]])]


def route(batch: Batch, draft: Draft, aligned_logits: Tensor) -> Decision:
    """Who writes each of the m positions, if those before it stay as drafted. -> [B, m]

    aligned_logits: [B, m, V].
    """
    policy, page, seen = batch.policy, batch.page, draft.seen
    if policy.content_reads is Side.ALIGNED:
        seen = Seen(seen.base_top, aligned_logits.argmax(-1), seen.doubt)
    before = torch.cat([page.last[:, None], draft.tokens[:, :-1]], 1)  # [B, m]
    ahead = torch.arange(before.shape[1], device=before.device)[None]
    history = History(page.written[:, None] + ahead, before, page.last_by_base)
    return decide_seen(policy, seen, history, batch.sides.vocabulary)


def settle(
    batch: Batch, draft: Draft, decision: Decision, aligned_logits: Tensor, rows: Tensor
) -> Settled:
    """Walk some rows [B] bool from left to right until a draft is rejected or ends its text.

    aligned_logits: [B, m, V].
    """
    policy, page, tokens = batch.policy, batch.page, draft.tokens
    u = batch.numbers(tokens.shape[1], torch.zeros_like(rows))
    lengths = batch.lengths()
    alive = rows & page.running
    count = torch.zeros_like(page.written)
    by_base, rejected = decision.base.clone(), torch.zeros_like(alive)
    weights = torch.zeros_like(draft.probs[0])  # what replaces a rejected draft is drawn from
    for j, q in enumerate(draft.probs):
        alive = alive & (j < draft.count)
        x, base = tokens[:, j], decision.base[:, j]
        raw = aligned_logits[:, j].to(torch.float32)
        # A processor may work in place, so it gets a copy.
        p = batch.warp(raw.clone(), page.ids, [length + j for length in lengths])
        p_x, q_x = (side.gather(1, x[:, None]).squeeze(1) for side in (p, q))
        kept = u[:, j, ACCEPT] * q_x < p_x
        if policy.veto > 0:
            by_base[:, j] = base & plausible(x, raw, policy.veto)
        kept = torch.where(base, by_base[:, j], kept)
        new = alive & ~kept
        rest = torch.where(base[:, None], p, residual(p, q))  # a veto redraws from p
        weights = torch.where(new[:, None], rest, weights)
        count, rejected = count + alive.long(), rejected | new
        alive = alive & kept
        if batch.eos is not None:
            alive = alive & ~torch.isin(x, batch.eos)
    last = (count - 1).clamp(min=0)[:, None]
    redrawn = pick(weights, u[..., REDRAW].gather(1, last).squeeze(1))
    redrawn = torch.where(rejected, redrawn, tokens.gather(1, last).squeeze(1))
    within = count <= page.most - page.written  # rows ahead of others may draft beyond the end
    return Settled(
        tokens=tokens.scatter(1, last, redrawn[:, None]),
        by_base=by_base,
        count=torch.minimum(count, page.most - page.written),
        rejected=rejected & within,
    )


def residual(p: Tensor, q: Tensor) -> Tensor:
    """max(p - q, 0), not normalised; p where rounding leaves nothing. [B, V] -> [B, V]"""
    rest = (p - q).clamp(min=0)
    return torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)


def write_down(batch: Batch, done: Settled, decision: Decision) -> None:
    """Put what was settled on the page, and end the rows that are complete."""
    page = batch.page
    before = page.lengths() if batch.stops else []
    page.add(done.tokens, done.count, done.by_base, decision)
    ended = page.written >= page.most
    if batch.stops:
        ended = ended | _stop(batch.stops, page, before, done)
    if batch.eos is not None:
        ended = ended | (torch.isin(page.last, batch.eos) & (page.written > 0))
    page.end(ended, done.count, batch.sides.forwards)


def _stop(stops: Stops, page: Page, before: list[int], done: Settled) -> Tensor:
    """Cut rows where a criterion says so. -> [B] bool: which ones"""
    counts: list[int] = done.count.tolist()
    found = stops.first(page.ids, before, counts)
    cut = [n if at is None else at for n, at in zip(counts, found, strict=True)]
    device = done.count.device
    page.cut(torch.tensor([n - m for n, m in zip(counts, cut, strict=True)], device=device))
    done.count = torch.tensor(cut, device=device)
    return torch.tensor([at is not None for at in found], device=device)


def settle_next(batch: Batch, base_logits: Tensor, aligned_logits: Tensor, rows: Tensor) -> None:
    """Write one more token of some rows [B] bool, where both models' logits [B, V] are known."""
    draft = propose(batch, base_logits, torch.zeros_like(rows), 1)
    decision = route(batch, draft, aligned_logits[:, None])
    done = settle(batch, draft, decision, aligned_logits[:, None], rows)
    write_down(batch, done, decision)


def guess(batch: Batch, aligned_logits: Tensor) -> Tensor:
    """The next token, by the aligned model alone [B, V] -> [B]: what a draft x ~ q will most often
    become, because both are drawn with the same number."""
    u = batch.numbers(1, torch.zeros_like(batch.page.running))
    p = batch.warp(aligned_logits.clone(), batch.page.ids, batch.lengths())
    return pick(p, u[:, 0, DRAFT])
