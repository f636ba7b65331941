"""The two-model loop: at every step both models read, one of them writes.

Written as transformers' own sampling loop (`GenerationMixin._sample`, 5.23) with a second model in
it, so that preparation, warpers and stopping criteria are the stock ones: it is passed to
`GenerationMixin.generate` as `custom_generate`. Routing reads raw logits; the writer's row then
goes through the logits processors (temperature, top-k, top-p, min-p ...) and is sampled. The base's
special tokens and every end-of-sequence id are masked, so only the aligned model ends a text.

Costs two forwards per token (fewer where `lazy` and the base writes), two sets of weights and two
caches, whatever the router.
Not promised: beam search, assisted decoding, encoder-decoder models, `synced_gpus`.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers.generation.utils import GenerateDecoderOnlyOutput

from .noise import DRAFT, REDRAW, Dice, Generators
from .policy import Decision, History, decide, plausible
from .rules import Policy
from .side import ModelSide, cache_like, cache_name, given_cache
from .vocab import Vocabulary

_CACHE = cache_name([field.name for field in fields(GenerateDecoderOnlyOutput)]) or "cache"


@dataclass
class RoutedOutput(GenerateDecoderOnlyOutput):  # type: ignore[misc]
    """What `return_dict_in_generate=True` gives: the stock fields and who wrote what.

    T is the number of new tokens; after its end a row counts neither as emitted nor as base's.
    """

    by_base: Tensor | None = None  # [B, T] bool: written by the base
    emitted: Tensor | None = None  # [B, T] bool: part of the text (not padding after its end)
    free: Tensor | None = None  # [B, T] bool: the router was asked (no open word, prefix over)
    content: Tensor | None = None  # [B, T] bool: the content rule held
    doubt: Tensor | None = None  # [B, T] float: what the threshold was compared with
    forwards: dict[str, int] | None = None  # per model
    row_forwards: dict[str, Tensor] | None = None  # per model [B]: until the row's last token
    drafts: tuple[int, int] | None = None  # settled and rejected ones, by block execution
    guesses: tuple[int, int] | None = None  # made and right ones, by block execution


@dataclass(frozen=True)
class BaseInput:
    """The base's model and its prompt."""

    model: Any
    ids: Tensor | None = None
    """[B, L]; None where the base reads what the aligned model reads."""
    mask: Tensor | None = None
    """[B, L], left-padded; None where every token is real."""


def silent_ids(vocabulary: Vocabulary, eos: Tensor | None) -> Tensor:
    """What the base may never write: special tokens and whatever ends a text. -> [V] bool"""
    silent = vocabulary.special.clone()
    if eos is not None:
        silent[eos.to(silent.device)] = True
    return silent


@dataclass
class Sides:
    """Both models after their prompts, and what is fixed for the batch."""

    aligned: ModelSide
    base: ModelSide
    aligned_logits: Tensor  # [B, V]
    base_logits: Tensor  # [B, V]
    vocabulary: Vocabulary
    silence: Tensor  # [V]: what is added to the base's logits, -inf where it may never write

    @property
    def width(self) -> int:
        """V, the ids that a text can hold: those of the aligned head."""
        return self.aligned_logits.shape[1]

    @property
    def forwards(self) -> dict[str, int]:
        return {"base": self.base.forwards, "aligned": self.aligned.forwards}


def read_prompts(
    model: Any,
    input_ids: Tensor,
    generation_config: Any,
    base: BaseInput,
    vocabulary: Vocabulary,
    model_kwargs: dict[str, Any],
) -> Sides:
    """Let both models read their prompts. Raises ValueError where rows do not correspond."""
    batch, mask = len(input_ids), model_kwargs.get("attention_mask")
    times = generation_config.num_return_sequences or 1
    cache = given_cache(model_kwargs)
    most = generation_config.max_length - input_ids.shape[1]
    aligned = ModelSide(model, mask, cache, most=most)
    aligned_logits = aligned.read_prompt(input_ids[::times], times)
    width = aligned_logits.shape[1]

    ids = input_ids[::times]
    if base.ids is not None:
        ids, mask = base.ids, base.mask
        if len(ids) * times != batch:
            raise ValueError(
                f"{len(ids)} base prompts for {batch // times} prompts of the aligned model"
            )
        mask = None if mask is None else mask.repeat_interleave(times, dim=0)
    own = cache_like(cache, base.model, ids.shape[1] + most)
    other = ModelSide(base.model, mask, own, width=width, most=most)
    base_logits = other.read_prompt(ids, times)

    vocabulary = vocabulary.fit(width, input_ids.device)
    silent = silent_ids(vocabulary, getattr(generation_config, "_eos_token_tensor", None))
    silence = torch.zeros_like(aligned_logits[0]).masked_fill(silent, -torch.inf)
    return Sides(aligned, other, aligned_logits, base_logits, vocabulary, silence)


def routed_sample(
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
    lazy: bool = False,
    streamer: Any = None,
    synced_gpus: bool = False,
    **model_kwargs: Any,
) -> Tensor | RoutedOutput:
    """Continue `input_ids` [B, L] by the aligned `model` and the base. -> [B, L + T]

    Rows are independent: with one generator per row, row i of a batch is the row alone. A finished
    row gets the pad token until all are finished, as in transformers. `lazy`: the aligned model
    reads only when some row needs it, then all it has missed in one forward; the text is the same.
    """
    check_mode(generation_config, synced_gpus, model_kwargs)
    sides = read_prompts(model, input_ids, generation_config, base, vocabulary, model_kwargs)
    report = generation_config.return_dict_in_generate
    batch, device = input_ids.shape[0], input_ids.device
    most = generation_config.max_length - input_ids.shape[1]
    dice = Dice(batch, most, device, generators)
    pen = Pen(sides, policy, logits_processor, dice, generation_config.do_sample, lazy)
    ends = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
    running = torch.ones(batch, dtype=torch.bool, device=device)
    history = History(input_ids.new_zeros(batch), input_ids[:, -1], torch.zeros_like(running))
    trace = Trace(keep_scores=report and generation_config.output_scores)

    while True:
        # 1. Route and write.
        decision = pen.route(history, running)
        tokens, writer, scores = pen.write(input_ids, decision)
        if ends:
            tokens = torch.where(running, tokens, generation_config._pad_token_tensor)
        trace.add(decision, writer, running, scores, sides)
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        if streamer is not None:
            streamer.put(tokens.cpu())

        # 2. Stop, or read on.
        running = running & ~stopping_criteria(input_ids, trace.scores)
        if not bool(running.any()):
            break
        history = History(history.step + 1, tokens, writer)
        pen.read(tokens)

    if streamer is not None:
        streamer.end()
    return trace.output(input_ids, sides) if report else input_ids


class Pen:
    """Both models while they write: who is asked, whose token is drawn, who reads it when."""

    def __init__(
        self, sides: Sides, policy: Policy, processors: Any, dice: Dice, do_sample: bool, lazy: bool
    ) -> None:
        self._sides, self._policy, self._processors = sides, policy, processors
        self._dice, self._do_sample, self._lazy = dice, do_sample, lazy
        self._step = 0
        self._unread: list[Tensor] = []  # [B] each: what the aligned model has yet to read

    def route(self, history: History, running: Tensor) -> Decision:
        """The aligned model reads first unless it can wait for who writes."""
        policy, sides = self._policy, self._sides
        coin = self._dice.toss(self._step) if policy.tosses else None
        if not self._lazy or policy.reads_aligned:
            self._catch_up()
        decision = decide(
            policy, sides.base_logits, sides.aligned_logits, history, sides.vocabulary, coin
        )
        if self._unread and bool((running & ~decision.base).any()):
            self._catch_up()
        return decision

    def write(self, ids: Tensor, decision: Decision) -> tuple[Tensor, Tensor, Tensor]:
        """A token of every row [B], whether the base wrote it [B], and its scores [B, V]."""
        sides, veto = self._sides, self._policy.veto
        scores = self._processors(ids, _rows(decision.base, sides))
        tokens, writer = self._draw(scores), decision.base
        if veto > 0:
            writer = writer & plausible(tokens, sides.aligned_logits, veto)
            # A processor may work in place, so it gets a copy.
            own_scores = self._processors(ids, sides.aligned_logits.clone())
            vetoed = decision.base & ~writer
            tokens = torch.where(vetoed, self._draw(own_scores, REDRAW), tokens)
            scores = torch.where(vetoed[:, None], own_scores, scores)
        return tokens, writer, scores

    def read(self, tokens: Tensor) -> None:
        """The base reads them now, the aligned model when it has to. tokens: [B]"""
        self._step += 1
        self._unread.append(tokens)
        self._sides.base_logits = self._sides.base.read(tokens[:, None])[:, -1]

    def _draw(self, scores: Tensor, purpose: int = DRAFT) -> Tensor:
        if not self._do_sample:
            return scores.argmax(-1)
        return self._dice.draw(scores.softmax(-1), self._step, purpose)

    def _catch_up(self) -> None:
        """Let the aligned model read what it has missed, in one forward."""
        if self._unread:
            read = self._sides.aligned.read(torch.stack(self._unread, 1))
            self._sides.aligned_logits = read[:, -1]
            self._unread.clear()


def _rows(by_base: Tensor, sides: Sides) -> Tensor:
    """Each row's logits from who writes it, special tokens masked on the base's side. -> [B, V]"""
    return torch.where(by_base[:, None], sides.base_logits + sides.silence, sides.aligned_logits)


class Trace:
    """Who wrote what and why, step by step."""

    def __init__(self, keep_scores: bool = False) -> None:
        self._steps: list[tuple[Tensor, ...]] = []
        self._forwards: list[dict[str, int]] = []
        self._keep_scores = keep_scores
        self.scores: tuple[Tensor, ...] = ()

    def add(
        self, decision: Decision, writer: Tensor, running: Tensor, scores: Tensor, sides: Sides
    ) -> None:
        row = (writer & running, running, decision.free & running, decision.content & running)
        self._steps.append((*row, decision.doubt))
        self._forwards.append(sides.forwards)
        if self._keep_scores:
            self.scores += (scores,)

    def output(self, sequences: Tensor, sides: Sides) -> RoutedOutput:
        """The stock output and the columns of the trace, each [B, T]."""
        names = ("by_base", "emitted", "free", "content", "doubt")
        columns: dict[str, Any] = {
            name: torch.stack(column, 1)
            for name, column in zip(names, zip(*self._steps, strict=True), strict=True)
        }
        last = columns["emitted"].sum(1) - 1  # [B]
        return RoutedOutput(
            sequences=sequences,
            scores=self.scores or None,
            forwards=sides.forwards,
            row_forwards={
                side: torch.tensor([one[side] for one in self._forwards], device=last.device)[last]
                for side in sides.forwards
            },
            **{_CACHE: sides.aligned.cache},
            **columns,
        )


def check_mode(generation_config: Any, synced_gpus: bool, model_kwargs: dict[str, Any]) -> None:
    """Raise ValueError for what the loop does not do, instead of quietly doing something else."""
    refused = {
        "num_beams": (generation_config.num_beams or 1) > 1,
        "prompt_lookup_num_tokens": generation_config.prompt_lookup_num_tokens is not None,
        "guidance_scale": (generation_config.guidance_scale or 1) != 1,
        "output_logits": bool(generation_config.output_logits),
        "output_attentions": bool(generation_config.output_attentions),
        "output_hidden_states": bool(generation_config.output_hidden_states),
        "use_cache=False": model_kwargs.get("use_cache") is False,
        "inputs_embeds": model_kwargs.get("inputs_embeds") is not None,
        "synced_gpus": synced_gpus,
    }
    names = [name for name, given in refused.items() if given]
    if names:
        raise ValueError(f"routed decoding does not support {', '.join(names)}")
