"""Block execution: the base drafts m tokens, one forward of the aligned model settles them.

Where the router says base, a draft stays; where it says aligned, it is kept or replaced by
speculative sampling (`drafts`), and behind a replaced one the block is dropped. Every token has
exactly the law of the eager loop. Ours; so is the rest of this page.

Where a whole block is kept, the aligned model's distribution for the next position is known before
the base's. It is used for a guess: the base reads its last draft and the guess in one forward. The
first half settles the position exactly as if nothing had been guessed, and where the guess was the
token, the second half is the base's next step already. So the aligned model's forward gives one
token more, and the text stays the same.

The length of the next block follows the rates of rejection and of right guesses so far (`lengths`).
Caches must be able to forget, dynamic or static: sliding windows, state spaces and quantised caches
are refused, and so is what `warp` cannot serve. Rows of a batch leave masked holes where they were
cut, which are closed when they become many. The host waits for the device twice a block (with stop
strings or processors that read the text, oftener).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .decode import BaseInput, RoutedOutput, check_mode, read_prompts
from .drafts import (
    Batch,
    Draft,
    Settled,
    guess,
    propose,
    route,
    settle,
    settle_next,
    write_down,
)
from .lengths import LONGEST, Rates
from .noise import Generators, uniform
from .page import Page
from .rules import Policy, Side
from .side import ModelSide, can_forget, given_cache
from .vocab import Vocabulary
from .warp import Stops, Warp, unsupported

#: Masked slots that a cache may hold per slot in use before they are closed.
WASTE = 0.25


@dataclass(frozen=True)
class Guess:
    """The next token of rows whose whole block was kept, before the base was asked."""

    rows: Tensor  # [B] bool
    tokens: Tensor  # [B]
    logits: Tensor  # [B, V]: the aligned model's, raw, which settle the position


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

    `block`: a fixed block length; else it follows the rates. The text does not depend on it. Random
    numbers are used otherwise than by the eager loop, so the same seed gives another text of the
    same law. Raises ValueError for what the module does not do.
    """
    check_mode(generation_config, synced_gpus, model_kwargs)
    cache = given_cache(model_kwargs)
    check_block(model, base.model, cache, logits_processor, stopping_criteria, generation_config)
    sides = read_prompts(model, input_ids, generation_config, base, vocabulary, model_kwargs)
    most = generation_config.max_length - input_ids.shape[1]
    batch = Batch(
        policy=policy,
        sides=sides,
        page=Page(input_ids, most, LONGEST, generation_config._pad_token_tensor),
        noise=uniform(len(input_ids), most, input_ids.device, generators),
        warp=Warp(logits_processor, generation_config.do_sample),
        stops=Stops(stopping_criteria),
        eos=generation_config._eos_token_tensor,
    )
    rates = Rates()
    write_all(batch, rates, block, streamer)
    if not generation_config.return_dict_in_generate:
        return batch.page.sequences()
    return output(batch, rates)


def write_all(batch: Batch, rates: Rates, block: int | None, streamer: Any) -> None:
    """Block after block until every row is over."""
    page, sides = batch.page, batch.sides
    # Both models have read the prompt, so the first token needs no draft.
    settle_next(batch, sides.base_logits, sides.aligned_logits, page.running)
    span, guessed, streamed = page.span().tolist(), None, 0
    while span[0] < page.most:
        # From here on the base has read all of a text but its newest token, the aligned model too,
        # or, where it has guessed, everything.
        logits, late, span = open_block(batch, guessed, span, rates)
        if span[0] >= page.most:
            break
        written = write_block(batch, logits, late, block or rates.best(), span)
        guessed, span = close_block(batch, written, rates)
        if streamer is not None and span[0] < page.most:
            streamed = page.stream(streamer, streamed, span[0])
    if streamer is not None:
        page.stream(streamer, streamed, int(page.written.max()))
        streamer.end()


def output(batch: Batch, rates: Rates) -> RoutedOutput:
    """What `return_dict_in_generate` gives."""
    return RoutedOutput(
        sequences=batch.page.sequences(),
        forwards=batch.sides.forwards,
        drafts=(rates.seen, rates.rejected),
        guesses=(rates.guessed, rates.right),
        **batch.page.columns(),
    )


def open_block(
    batch: Batch, guessed: Guess | None, span: list[int], rates: Rates
) -> tuple[Tensor, Tensor, list[int]]:
    """The base reads the newest token of every row, and the guess behind it, which is settled.

    Gives the base's logits [B, V] for the next position, the rows [B] whose guess was wrong (their
    newest token is not the one that was read), and the page's span.
    """
    base, page = batch.sides.base, batch.page
    if guessed is None:
        make_room(base, 1, 1, span[1], page.running)
        return base.read(page.last[:, None])[:, -1], torch.zeros_like(page.running), span
    make_room(base, 2, 2, span[1], page.running)
    both = base.read(torch.stack([page.last, guessed.tokens], 1), 2).float()
    settle_next(batch, both[:, 0], guessed.logits, guessed.rows)
    right = guessed.rows & (page.last == guessed.tokens)
    *span, total, found, longest, shortest = torch.cat(
        [
            page.span(),
            torch.stack([guessed.rows.sum(), right.sum()]),
            extremes(1 + right.long(), page.running),
        ]
    ).tolist()
    rates.add(guessed=total, right=found)
    if longest > 0:
        forget(base, 1 + right.long(), 2, page.running, longest, shortest)
    return torch.where(right[:, None], both[:, 1], both[:, 0]), guessed.rows & ~right, span


@dataclass(frozen=True)
class Block:
    """A block that was drafted, read and settled."""

    draft: Draft
    late: Tensor  # [B] bool: rows that got one draft less, see `propose`
    logits: Tensor  # [B, m + 1, V]: the aligned model's, raw; [B, m, V] where it had no room
    done: Settled


def write_block(batch: Batch, logits: Tensor, late: Tensor, wanted: int, span: list[int]) -> Block:
    """The base drafts, the aligned model reads, and what stands is written down.

    logits: [B, V], the base's, for the first position. wanted: how many drafts, at most.
    """
    page = batch.page
    length, width = fit(batch, wanted, span)
    draft = propose(batch, logits, late, length)
    read = torch.cat([page.last[:, None], draft.tokens], 1)[:, :width]
    aligned_logits = batch.sides.aligned.read(read, width)
    decision = route(batch, draft, aligned_logits[:, :length])
    done = settle(batch, draft, decision, aligned_logits[:, :length], page.running)
    write_down(batch, done, decision)
    return Block(draft, late, aligned_logits, done)


def fit(batch: Batch, wanted: int, span: list[int]) -> tuple[int, int]:
    """The number of drafts m, and of tokens that the aligned model reads: m + 1, or m without room
    for more; the last slot of a cache is enough to settle one draft."""
    (least, furthest), page, sides = span, batch.page, batch.sides
    length = min(page.most - least, wanted, LONGEST)
    length = 1 + make_room(sides.base, length - 1, 0, furthest, page.running)
    width = make_room(sides.aligned, length + 1, 1, furthest, page.running)
    return max(width - 1, 1), width


def close_block(batch: Batch, block: Block, rates: Rates) -> tuple[Guess | None, list[int]]:
    """Both models forget what was dropped; the next token is guessed where a whole block was kept.

    Gives the page's span as well.
    """
    page, sides, done = batch.page, batch.sides, block.done
    length, width = block.draft.tokens.shape[1], block.logits.shape[1]
    whole = page.running & ~done.rejected & (done.count == block.draft.count)
    if width == length or sides.base.foreign_ids:  # a guess may be one of these
        whole = torch.zeros_like(whole)
    base_read, aligned_read = done.count - 1 + block.late.long(), done.count + whole.long()
    *span, seen, rejected, wholes, longest, shortest, most_read, least_read = torch.cat(
        [
            page.span(),
            torch.stack([done.count.sum(), done.rejected.sum(), whole.sum()]),
            extremes(base_read, page.running),
            extremes(aligned_read, page.running),
        ]
    ).tolist()
    rates.add(seen=seen, rejected=rejected)
    if span[0] >= page.most:
        return None, span
    forget(sides.base, base_read, length - 1, page.running, longest, shortest)
    forget(sides.aligned, aligned_read, width, page.running, most_read, least_read)
    if sides.base.foreign_ids:
        recall(sides.base, block.draft, done)
    return (guess_next(batch, block, whole) if wholes else None), span


def guess_next(batch: Batch, block: Block, rows: Tensor) -> Guess:
    """By what the aligned model gives behind the block. rows: [B] bool, those kept as a whole."""
    logits = block.logits.gather(1, _at(block.draft.count, block.logits)).squeeze(1).float()
    return Guess(rows, guess(batch, logits), logits)


def extremes(count: Tensor, running: Tensor) -> Tensor:
    """The largest and the smallest count [B] of the rows that go on; 0 and more if none does."""
    longest = torch.where(running, count, 0).max()
    return torch.stack([longest, torch.where(running, count, 2 * LONGEST).min()])


def forget(
    side: ModelSide, count: Tensor, of: int, running: Tensor, longest: int, shortest: int
) -> None:
    """Keep the first `count` [B] of the last `of` tokens read; rows that are over have no say."""
    side.keep(torch.where(running, count, longest), of, longest, longest == shortest)


def recall(base: ModelSide, draft: Draft, done: Settled) -> None:
    """Put back the logits that the newest token was drawn from: the next one is, too, if the base
    cannot read it."""
    logits = torch.stack(draft.logits, 1)
    base.logits = logits.gather(1, _at((done.count - 1).clamp(min=0), logits)).squeeze(1)


def _at(places: Tensor, logits: Tensor) -> Tensor:
    """[B] as an index of [B, m, V] along m."""
    return places[:, None, None].expand(-1, 1, logits.shape[2])


def make_room(side: ModelSide, wanted: int, least: int, furthest: int, running: Tensor) -> int:
    """Close the holes of a cache where they are many or in the way, or where the model may take
    slots for positions; how many more tokens, up to `wanted`, can be read.

    Raises ValueError where a static cache has no room for `least`.
    """
    in_use = side.prompt + furthest
    full = side.room is not None and side.room < wanted
    if full or not side.positioned or side.slots - in_use > WASTE * in_use + LONGEST:
        side.compact(running)
    if side.room is None:
        return wanted
    if side.room < least:
        raise ValueError("the static cache is shorter than the prompt and the new tokens together")
    return min(wanted, side.room)


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
