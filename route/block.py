"""Block execution: the base drafts m tokens, one forward of the aligned model settles them.

Where the router says base, a draft stays. Where it says aligned, the draft x ~ q (base) is kept
with probability min(1, p(x) / q(x)) for the aligned model's p, else replaced by a token from
norm(max(p - q, 0)) and the rest of the block is dropped: speculative sampling (Leviathan et al.,
arXiv 2211.17192) applied only where the router says aligned. Every token has exactly the law of the
eager loop. Ours; so is the use of one row of random numbers per *position*, which makes a text
independent of the block length, of other rows, and of how often the block was cut.

With rejection rate r per position a token costs (m + 1) r / (1 - (1 - r)^m) forwards; m follows the
rate measured so far. Caches must be able to forget, so sliding windows and state spaces are
refused, as are static caches, processors that look at the text, and stopping rules other than
length and end tokens: the eager loop does all those. Rows of a batch leave masked holes where they
were cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MaxLengthCriteria,
    MinPLogitsWarper,
    StaticCache,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from .decode import BaseInput, Generators, RoutedOutput, Sides, check_mode, fit_width, read_prompts
from .policy import History, decide, plausible
from .rules import Policy
from .side import can_forget
from .vocab import Vocabulary

LONGEST = 16
#: Processors that look at one position only, so that a block can be warped at once.
_POINTWISE = (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
#: The random numbers of one position.
_DRAFT, _COIN, _ACCEPT, _REDRAW = range(4)

Warp = Callable[[Tensor], Tensor]
"""Raw logits to the probabilities that are sampled from. [R, V] -> [R, V]"""


@dataclass
class Draft:
    """What the base proposes for the next m positions of every row."""

    tokens: Tensor  # [B, m]
    logits: Tensor  # [B, m, V]: the base's, raw
    probs: Tensor  # [B, m, V]: q, warped, special tokens masked


class Page:
    """The text so far, each row at its own length of at most T, and who wrote it."""

    def __init__(self, batch: int, most: int, pad: int, device: torch.device) -> None:
        self.most = most
        self.tokens = torch.full((batch, most), pad, device=device)
        self.written = torch.zeros(batch, dtype=torch.long, device=device)
        flags = {name: torch.zeros(batch, most, dtype=torch.bool, device=device) for name in _FLAGS}
        self.columns = {**flags, "doubt": torch.zeros(batch, most, device=device)}

    def add(self, rows: Tensor, tokens: Tensor, **columns: Tensor) -> None:
        """One more token for the rows [B] bool that are not done."""
        where = rows.nonzero().squeeze(1), self.written[rows]
        self.tokens[where] = tokens[rows]
        for name, values in columns.items():
            self.columns[name][where] = values[rows]
        self.written = self.written + rows.long()


_FLAGS = ("by_base", "emitted", "free", "content")


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
    check_block(model, base.model, logits_processor, stopping_criteria, generation_config)
    if isinstance(model_kwargs.get("past_key_values"), StaticCache):
        raise ValueError("block execution does not support StaticCache; use eager")
    sides = read_prompts(model, input_ids, generation_config, base, vocabulary, model_kwargs)
    if sides.base.foreign_ids:
        raise ValueError("block execution needs a base that knows all ids of the aligned model")
    batch, device = input_ids.shape[0], input_ids.device
    most = generation_config.max_length - input_ids.shape[1]
    pad, eos = generation_config._pad_token_tensor, generation_config._eos_token_tensor
    page = Page(batch, most, 0 if pad is None else int(pad), device)
    noise = uniform(batch, most, device, generators)  # [B, T, 4]
    running = torch.ones(batch, dtype=torch.bool, device=device)
    by_base = torch.zeros_like(running)
    # The last token of a text is always unread, on both sides.
    last_base = input_ids[:, -1] if base.ids is None else _last(base.ids, batch)
    last_aligned = input_ids[:, -1]
    for side in (sides.base, sides.aligned):
        side.keep(torch.zeros_like(page.written), 1)
    warp = _warp(logits_processor, generation_config.do_sample, input_ids)
    rejected, seen, streamed = 0, 0, 0

    while bool(running.any()):
        left = most - int(page.written[running].min())
        length = min(left, block or best_block((rejected + 1) / (seen + 4)))
        draft = propose(sides, last_base, length, page.written, noise, warp)
        read = torch.cat([last_aligned[:, None], draft.tokens[:, :-1]], 1)  # [B, m]
        aligned_logits = sides.aligned.read(read, length)  # [B, m, V]

        alive, before = running, page.written
        for j in range(length):
            u = noise[torch.arange(batch, device=device), page.written.clamp(max=most - 1)]
            history = History(page.written, last_aligned, by_base)
            token, writer, kept, columns = settle(
                policy, draft, aligned_logits, j, history, sides.vocabulary, u, warp
            )
            page.add(alive, token, by_base=writer, emitted=alive, **columns)
            last_aligned = torch.where(alive, token, last_aligned)
            by_base = torch.where(alive, writer, by_base)
            seen += int(alive.sum())
            rejected += int((alive & ~kept).sum())
            done = page.written >= most
            if eos is not None:
                done = done | torch.isin(token, eos)
            running = running & ~(alive & done)
            alive = alive & kept & ~done
            if not bool(alive.any()):
                break

        count = page.written - before  # [B]
        last_base = torch.where(count > 0, last_aligned, last_base)
        for side in (sides.base, sides.aligned):
            side.keep(count, length)
        if streamer is not None:
            ready = int(page.written[running].min() if bool(running.any()) else page.written.max())
            for column in range(streamed, ready):
                streamer.put(page.tokens[:, column].cpu())
            streamed = max(streamed, ready)

    if streamer is not None:
        streamer.end()
    longest = int(page.written.max())
    sequences = torch.cat([input_ids, page.tokens[:, :longest]], dim=1)
    if not generation_config.return_dict_in_generate:
        return sequences
    columns = {name: column[:, :longest] for name, column in page.columns.items()}
    return RoutedOutput(sequences=sequences, forwards=sides.forwards, **columns)


def propose(
    sides: Sides, last: Tensor, length: int, written: Tensor, noise: Tensor, warp: Warp
) -> Draft:
    """The base goes on by itself for `length` tokens, one forward each."""
    rows = torch.arange(len(last), device=last.device)
    tokens, logits, probs = [], [], []
    for j in range(length):
        logits.append(fit_width(sides.base.read(last[:, None])[:, -1], sides.width))
        probs.append(warp(logits[-1].masked_fill(sides.silent, -torch.inf)))
        last = pick(probs[-1], noise[rows, (written + j).clamp(max=noise.shape[1] - 1), _DRAFT])
        tokens.append(last)
    return Draft(torch.stack(tokens, 1), torch.stack(logits, 1), torch.stack(probs, 1))


def settle(
    policy: Policy,
    draft: Draft,
    aligned_logits: Tensor,
    j: int,
    history: History,
    vocabulary: Vocabulary,
    u: Tensor,
    warp: Warp,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Position j of a block: token, whether the base wrote it, whether the draft stays, the trace.

    u: [B, 4]. All results [B].
    """
    raw = aligned_logits[:, j]
    decision = decide(policy, draft.logits[:, j], raw, history, vocabulary, u[:, _COIN])
    x, q = draft.tokens[:, j], draft.probs[:, j]
    p = warp(raw.clone())  # a processor may work in place
    p_x, q_x = (side.gather(1, x[:, None]).squeeze(1) for side in (p, q))
    writer = decision.base
    if policy.veto > 0:
        writer = writer & plausible(x, raw, policy.veto)
    kept = torch.where(decision.base, writer, u[:, _ACCEPT] * q_x < p_x)
    rest = torch.where(decision.base[:, None], p, (p - q).clamp(min=0))  # a veto redraws from p
    token = torch.where(kept, x, pick(rest, u[:, _REDRAW]))
    trace = {"free": decision.free, "content": decision.content, "doubt": decision.doubt}
    return token, writer, kept, trace


def best_block(rejection: float) -> int:
    """The block length with the fewest forwards per token at this rejection rate per position."""
    r = min(max(rejection, 1e-6), 1 - 1e-6)
    return min(range(1, LONGEST + 1), key=lambda m: (m + 1) * r / (1 - (1 - r) ** m))


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """The token at height u of the cumulated weights, which need no sum of 1. [B, V], [B] -> [B]"""
    heights = weights.double().cumsum(-1)
    at = torch.searchsorted(heights, u.double()[:, None] * heights[:, -1:], right=True)
    return at.squeeze(1).clamp(max=weights.shape[1] - 1)


def uniform(batch: int, most: int, device: torch.device, generators: Generators) -> Tensor:
    """Four numbers on [0, 1) for every position. -> [B, T, 4]"""
    if isinstance(generators, list):
        return torch.stack([torch.rand(most, 4, generator=g, device=device) for g in generators])
    return torch.rand(batch, most, 4, generator=generators, device=device)


def check_block(
    model: Any, base: Any, processors: Any, criteria: Any, generation_config: Any
) -> None:
    """Raise ValueError for what only the eager loop does, naming it."""
    named = [type(one).__name__ for one in processors if not isinstance(one, _POINTWISE)]
    known = (MaxLengthCriteria, EosTokenCriteria)
    named += [type(one).__name__ for one in criteria if not isinstance(one, known)]
    named += [type(one).__name__ for one in (model, base) if not can_forget(one)]
    if generation_config.output_scores:
        named.append("output_scores")
    if named:
        raise ValueError(f"block execution does not support {', '.join(named)}; use eager")


def _warp(processors: Any, do_sample: bool, ids: Tensor) -> Warp:
    def warp(logits: Tensor) -> Tensor:
        scores: Tensor = processors(ids, logits)
        if do_sample:
            return scores.softmax(-1)
        return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[1]).float()

    return warp


def _last(ids: Tensor, batch: int) -> Tensor:
    return ids[:, -1].repeat_interleave(batch // len(ids))
