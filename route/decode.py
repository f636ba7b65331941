"""The two-model loop: at every step both models read, one of them writes.

Written as transformers' own sampling loop (`GenerationMixin._sample`, 5.23) with a second model in
it, so that preparation, warpers and stopping criteria are the stock ones: it is passed to
`GenerationMixin.generate` as `custom_generate`. Routing reads raw logits; the writer's row then
goes through the logits processors (temperature, top-k, top-p, min-p ...) and is sampled. The base's
special tokens and every end-of-sequence id are masked, so only the aligned model ends a text.

Costs two forwards per token, two sets of weights and two caches, whatever the router.
Not promised: beam search, assisted decoding, encoder-decoder models, `synced_gpus`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.utils import GenerateDecoderOnlyOutput

from .policy import Decision, History, Policy, decide, plausible
from .side import ModelSide, cache_like
from .vocab import Vocabulary

Generators = torch.Generator | list[torch.Generator] | None
"""One stream for the batch, one per row, or torch's default stream."""


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


@dataclass(frozen=True)
class BaseInput:
    """The base's model and its prompt."""

    model: Any
    ids: Tensor | None = None
    """[B, L]; None where the base reads what the aligned model reads."""
    mask: Tensor | None = None
    """[B, L], left-padded; None where every token is real."""


def draw(scores: Tensor, do_sample: bool, generators: Generators) -> Tensor:
    """One token per row: sampled from softmax(scores), or the best. [B, V] -> [B]"""
    if not do_sample:
        return scores.argmax(-1)
    probs = scores.softmax(-1)
    if isinstance(generators, list):
        rows = [
            torch.multinomial(row[None], 1, generator=generator)
            for row, generator in zip(probs, generators, strict=True)
        ]
        return torch.cat(rows).squeeze(1)
    return torch.multinomial(probs, 1, generator=generators).squeeze(1)


def toss(batch: int, device: torch.device, generators: Generators) -> Tensor:
    """One uniform number on [0, 1) per row. -> [B]"""
    if isinstance(generators, list):
        return torch.cat([torch.rand(1, generator=one, device=device) for one in generators])
    return torch.rand(batch, generator=generators, device=device)


def fit_width(logits: Tensor, width: int) -> Tensor:
    """The base's logits on the aligned head's ids: padded heads differ in width. [B, V'] -> [B, V]

    Ids that the base lacks get probability 0, ids that only the base has are dropped.
    """
    if logits.shape[1] >= width:
        return logits[:, :width]
    missing = logits.new_full((logits.shape[0], width - logits.shape[1]), -torch.inf)
    return torch.cat([logits, missing], dim=1)


def silent_ids(vocabulary: Vocabulary, eos: Tensor | None) -> Tensor:
    """What the base may never write: special tokens and whatever ends a text. -> [V] bool"""
    silent = vocabulary.special.clone()
    if eos is not None:
        silent[eos.to(silent.device)] = True
    return silent


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
    streamer: Any = None,
    synced_gpus: bool = False,
    **model_kwargs: Any,
) -> Tensor | RoutedOutput:
    """Continue `input_ids` [B, L] by the aligned `model` and the base. -> [B, L + T]

    Rows are independent: with one generator per row, row i of a batch is the row alone. A finished
    row gets the pad token until all are finished, as in transformers.
    """
    check_mode(generation_config, synced_gpus, model_kwargs)
    batch, device = input_ids.shape[0], input_ids.device
    aligned_mask = model_kwargs.get("attention_mask")
    base_ids, base_mask = (
        (input_ids, aligned_mask)
        if base.ids is None
        else expand(base.ids, base.mask, batch, generation_config.num_return_sequences or 1)
    )
    cache = model_kwargs.get("past_key_values")
    aligned_side = ModelSide(model, aligned_mask, cache)
    aligned_logits = aligned_side.read_prompt(input_ids)  # [B, V]
    width = aligned_logits.shape[1]
    room = base_ids.shape[1] + generation_config.max_length - input_ids.shape[1]
    base_side = ModelSide(base.model, base_mask, cache_like(cache, base.model, room), ids=width)
    base_logits = fit_width(base_side.read_prompt(base_ids), width)  # [B, V]

    vocabulary = vocabulary.fit(width, device)
    silent = silent_ids(vocabulary, getattr(generation_config, "_eos_token_tensor", None))
    pad = generation_config._pad_token_tensor
    ends = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
    running = torch.ones(batch, dtype=torch.bool, device=device)
    history = History(0, input_ids[:, -1], torch.zeros_like(running))
    do_sample = generation_config.do_sample
    report = generation_config.return_dict_in_generate
    keep_scores = report and generation_config.output_scores
    keep_logits = report and generation_config.output_logits
    trace = Trace()
    scores_kept: tuple[Tensor, ...] = ()
    logits_kept: tuple[Tensor, ...] = ()

    while True:
        coin = toss(batch, device, generators) if policy.tosses else None
        decision = decide(policy, base_logits, aligned_logits, history, vocabulary, coin)
        raw = torch.where(
            decision.base[:, None], base_logits.masked_fill(silent, -torch.inf), aligned_logits
        )
        if keep_logits:
            logits_kept += (raw.clone(),)  # a processor may work in place
        scores = logits_processor(input_ids, raw)
        tokens, writer = draw(scores, do_sample, generators), decision.base
        if policy.veto > 0:
            writer = writer & plausible(tokens, aligned_logits, policy.veto)
            own_scores = logits_processor(input_ids, aligned_logits)
            vetoed = decision.base & ~writer
            tokens = torch.where(vetoed, draw(own_scores, do_sample, generators), tokens)
            scores = torch.where(vetoed[:, None], own_scores, scores)
        if ends:
            tokens = torch.where(running, tokens, pad)

        trace.add(decision, writer, running)
        if keep_scores:
            scores_kept += (scores,)
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        if streamer is not None:
            streamer.put(tokens.cpu())
        running = running & ~stopping_criteria(input_ids, scores_kept)
        if not bool(running.any()):
            break
        history = History(history.step + 1, tokens, writer)
        aligned_logits = aligned_side.read(tokens)
        base_logits = fit_width(base_side.read(tokens), width)

    if streamer is not None:
        streamer.end()
    if not report:
        return input_ids
    return RoutedOutput(
        sequences=input_ids,
        scores=scores_kept or None,
        logits=logits_kept or None,
        past_key_values=aligned_side.cache,
        forwards={"base": base_side.forwards, "aligned": aligned_side.forwards},
        **trace.columns(),
    )


class Trace:
    """Who wrote what and why, step by step."""

    def __init__(self) -> None:
        self._steps: list[tuple[Tensor, ...]] = []

    def add(self, decision: Decision, writer: Tensor, running: Tensor) -> None:
        row = (writer & running, running, decision.free & running, decision.content & running)
        self._steps.append((*row, decision.doubt))

    def columns(self) -> dict[str, Tensor]:
        """The fields of `RoutedOutput`, each [B, T]."""
        names = ("by_base", "emitted", "free", "content", "doubt")
        columns = zip(*self._steps, strict=True)
        return {name: torch.stack(column, 1) for name, column in zip(names, columns, strict=True)}


def expand(
    ids: Tensor, mask: Tensor | None, batch: int, times: int
) -> tuple[Tensor, Tensor | None]:
    """The base's prompt repeated as `num_return_sequences` repeated the aligned one. -> [B, L]

    Raises ValueError where the rows do not correspond.
    """
    rows = ids.shape[0]
    if rows * times != batch:
        raise ValueError(f"{rows} base prompts for {batch // times} prompts of the aligned model")
    repeated = None if mask is None else mask.repeat_interleave(times, dim=0)
    return ids.repeat_interleave(times, dim=0), repeated


def check_mode(generation_config: Any, synced_gpus: bool, model_kwargs: dict[str, Any]) -> None:
    """Raise ValueError for what the loop does not do, instead of quietly doing something else."""
    refused = {
        "num_beams": (generation_config.num_beams or 1) > 1,
        "prompt_lookup_num_tokens": generation_config.prompt_lookup_num_tokens is not None,
        "guidance_scale": (generation_config.guidance_scale or 1) != 1,
        "output_attentions": bool(generation_config.output_attentions),
        "output_hidden_states": bool(generation_config.output_hidden_states),
        "use_cache=False": model_kwargs.get("use_cache") is False,
        "inputs_embeds": model_kwargs.get("inputs_embeds") is not None,
        "synced_gpus": synced_gpus,
    }
    names = [name for name, given in refused.items() if given]
    if names:
        raise ValueError(f"routed decoding does not support {', '.join(names)}")
