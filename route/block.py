"""Block execution: the base drafts m tokens, one forward of the aligned model settles them.

Where the router says base, a draft stays. Where it says aligned, the draft x ~ q (base) is kept
with probability min(1, p(x) / q(x)) for the aligned model's p, else replaced by a token from
norm(max(p - q, 0)) and the rest of the block is dropped: speculative sampling (Leviathan et al.,
arXiv 2211.17192) applied only where the router says aligned. Every token has exactly the law of the
eager loop. Ours; so is the use of one row of random numbers per *position*, which makes a text
independent of the block length, of other rows, and of how often the block was cut.

The length of the next block follows the rejection rate so far (`lengths`). Caches must be able to
forget, dynamic or static: sliding windows, state spaces and quantised caches are refused, and so is
what `warp` cannot serve. Rows of a batch leave masked holes where they were cut, which are closed
when they become many. The host waits for the device once a block (with stop strings or processors
that read the text, oftener).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .decode import BaseInput, RoutedOutput, Sides, check_mode, read_prompts
from .lengths import LONGEST, Rate
from .noise import ACCEPT, COIN, DRAFT, REDRAW, Generators, pick, uniform
from .page import Page
from .policy import Decision, History, Seen, decide_seen, look, plausible
from .rules import Policy, Side
from .side import ModelSide, can_forget
from .vocab import Vocabulary
from .warp import Stops, Warp, unsupported

#: Masked slots that a cache may hold per slot in use before they are closed.
WASTE = 0.25


@dataclass
class Draft:
    """What the base proposes for the next m positions of every row."""

    tokens: Tensor  # [B, m]
    probs: list[Tensor]  # m times [B, V]: q, warped, special tokens masked
    seen: Seen  # [B, m]
    logits: list[Tensor]  # m times [B, V], raw; empty unless asked for


@dataclass
class Settled:
    """What became of a draft."""

    tokens: Tensor  # [B, m]
    by_base: Tensor  # [B, m] bool
    count: Tensor  # [B]: how many of the m are text
    rejected: Tensor  # [B] bool: the last of these replaced its draft


def block_sample(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    base: BaseInput,
    policy: Policy,
    vocabulary: Vocabulary,
    generators: Generators = None,
    block: int | None = None,
    streamer: Any = None,
    synced_gpus: bool = False,
    **model_kwargs: Any,
) -> Tensor | RoutedOutput:
    """Continue `input_ids` [B, L] with the law of `routed_sample`. -> [B, L + T]

    `block`: a fixed block length; else it follows the rejection rate. The text does not depend on
    it. Random numbers are used otherwise than by the eager loop, so the same seed gives another
    text of the same law. Raises ValueError for what the module does not do.
    """
    check_mode(generation_config, synced_gpus, model_kwargs)
    cache = model_kwargs.get("past_key_values")
    check_block(model, base.model, cache, logits_processor, stopping_criteria, generation_config)
    sides = read_prompts(model, input_ids, generation_config, base, vocabulary, model_kwargs)
    device, eos = input_ids.device, generation_config._eos_token_tensor
    most = generation_config.max_length - input_ids.shape[1]
    page = Page(input_ids, most, LONGEST, generation_config._pad_token_tensor)
    noise = uniform(len(input_ids), most, device, generators)  # [B, T, 4]
    warp, stops = Warp(logits_processor, generation_config.do_sample), Stops(stopping_criteria)
    # The last token of a text is always unread, on both sides.
    last_base = input_ids[:, -1]
    if base.ids is not None:
        last_base = base.ids[:, -1].repeat_interleave(len(input_ids) // len(base.ids))
    for side in (sides.base, sides.aligned):
        side.keep(torch.zeros_like(page.written), 1, longest=0, even=True)
    rate, least, furthest, streamed = Rate(), 0, 0, 0

    while least < most:
        length = min(most - least, block or rate.best(), LONGEST)
        for side in (sides.base, sides.aligned):
            length = make_room(side, length, furthest, page.running)
        lengths = page.lengths() if warp.reads or stops else []
        u = noise.gather(1, page.places(length, most)[..., None].expand(-1, -1, 4))  # [B, m, 4]

        draft = propose(policy, sides, last_base, page, u, warp, lengths)
        read = torch.cat([page.last[:, None], draft.tokens[:, :-1]], 1)  # [B, m]
        aligned_logits = sides.aligned.read(read, length)  # [B, m, V]
        decision = route(policy, draft, aligned_logits, read, page, sides.vocabulary)
        done = settle(policy, decision, draft, aligned_logits, page, u, warp, lengths, eos)
        page.add(done.tokens, done.count, done.by_base, decision)
        stopped = _stop(stops, page, lengths, done) if stops else None

        ended = (page.written >= most) if stopped is None else (page.written >= most) | stopped
        ended = ended if eos is None else ended | torch.isin(page.last, eos)
        page.end(ended, done.count, sides.forwards)
        count, left = done.count, page.running
        least, furthest, rejected, seen, longest, shortest = torch.stack(
            [
                torch.where(left, page.written, most).min(),
                torch.where(left, page.written, 0).max(),
                done.rejected.sum(),
                count.sum(),
                count.max(),
                count.min(),
            ]
        ).tolist()
        rate.add(rejected, seen)
        if sides.base.foreign_ids:  # what the next token is drawn from if this one is skipped
            at = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, sides.width)
            sides.base.logits = torch.stack(draft.logits, 1).gather(1, at).squeeze(1)
        last_base = torch.where(count > 0, page.last, last_base)
        for side in (sides.base, sides.aligned):
            side.keep(count, length, longest, longest == shortest)
        if streamer is not None and least < most:
            streamed = page.stream(streamer, streamed, least)

    if streamer is not None:
        page.stream(streamer, streamed, int(page.written.max()))
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return page.sequences()
    return RoutedOutput(
        sequences=page.sequences(),
        forwards=sides.forwards,
        drafts=(rate.seen, rate.rejected),
        **page.columns(),
    )


def propose(
    policy: Policy,
    sides: Sides,
    last: Tensor,
    page: Page,
    u: Tensor,
    warp: Warp,
    lengths: list[int],
) -> Draft:
    """The base goes on by itself for m tokens, one forward each. last: [B]; u: [B, m, 4]."""
    tokens, probs, seen, kept = [], [], [], []
    for j in range(u.shape[1]):
        logits = sides.base.read(last[:, None])[:, -1]
        seen.append(look(policy, logits, None, u[:, j, COIN] if policy.tosses else None))
        probs.append(warp(logits + sides.silence, page.ids, [length + j for length in lengths]))
        last = pick(probs[-1], u[:, j, DRAFT])
        tokens.append(last)
        if warp.reads:
            page.sketch(last, j)
        if sides.base.foreign_ids:
            kept.append(logits)
    base_top = torch.stack([one.base_top for one in seen], 1)
    doubt = torch.stack([one.doubt for one in seen], 1)
    return Draft(torch.stack(tokens, 1), probs, Seen(base_top, base_top, doubt), kept)


def route(
    policy: Policy,
    draft: Draft,
    aligned_logits: Tensor,
    read: Tensor,
    page: Page,
    vocabulary: Vocabulary,
) -> Decision:
    """Who writes each of the m positions, if those before it stay as drafted. -> [B, m]

    read: [B, m], the token before each position.
    """
    seen = draft.seen
    if policy.content_reads is Side.ALIGNED:
        seen = Seen(seen.base_top, aligned_logits.argmax(-1), seen.doubt)
    ahead = torch.arange(read.shape[1], device=read.device)[None]
    history = History(page.written[:, None] + ahead, read, page.last_by_base)
    return decide_seen(policy, seen, history, vocabulary)


def settle(
    policy: Policy,
    decision: Decision,
    draft: Draft,
    aligned_logits: Tensor,
    page: Page,
    u: Tensor,
    warp: Warp,
    lengths: list[int],
    eos: Tensor | None,
) -> Settled:
    """Walk the block from left to right until a draft is rejected or ends its text.

    aligned_logits: [B, m, V]; u: [B, m, 4].
    """
    tokens, alive = draft.tokens, page.running
    count = torch.zeros_like(page.written)
    by_base, rejected = decision.base.clone(), torch.zeros_like(alive)
    weights = torch.zeros_like(draft.probs[0])  # what replaces a rejected draft is drawn from
    for j, q in enumerate(draft.probs):
        x, base = tokens[:, j], decision.base[:, j]
        raw = aligned_logits[:, j].to(torch.float32)
        # A processor may work in place, so it gets a copy.
        p = warp(raw.clone(), page.ids, [length + j for length in lengths])
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
        if eos is not None:
            alive = alive & ~torch.isin(x, eos)
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


def make_room(side: ModelSide, length: int, furthest: int, running: Tensor) -> int:
    """Close the holes of a cache where they are many or in the way; how long a block may be.

    Raises ValueError where a static cache is too short for the text.
    """
    in_use = side.prompt + furthest
    full = side.room is not None and side.room < length
    if full or side.slots - in_use > WASTE * in_use + LONGEST:
        side.compact(running)
    if side.room is None:
        return length
    if side.room < 1:
        raise ValueError("the static cache is shorter than the prompt and the new tokens together")
    return min(length, side.room)


def check_block(
    model: Any, base: Any, cache: Any, processors: Any, criteria: Any, generation_config: Any
) -> None:
    """Raise ValueError for what only the eager loop does, naming it."""
    named = unsupported(processors, criteria)
    for side, one, own in ((Side.ALIGNED, model, cache), (Side.BASE, base, None)):
        if not can_forget(one, own):
            named.append(f"the {side} {type(one).__name__} (its cache cannot take tokens back)")
    if generation_config.output_scores:
        named.append("output_scores")
    if named:
        raise ValueError(f"block execution does not support {', '.join(named)}; use eager")


def _stop(stops: Stops, page: Page, lengths: list[int], done: Settled) -> Tensor:
    """Cut rows where a criterion says so. -> [B] bool: which ones"""
    counts: list[int] = done.count.tolist()
    found = stops.first(page.ids, lengths, counts)
    cut = [n if at is None else at for n, at in zip(counts, found, strict=True)]
    device = done.count.device
    page.cut(torch.tensor([n - m for n, m in zip(counts, cut, strict=True)], device=device))
    done.count = torch.tensor(cut, device=device)
    return torch.tensor([at is not None for at in found], device=device)
