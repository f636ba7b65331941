"""Writing several texts per prompt with a pair, and what is counted while it writes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .config import PromptFormat, RouterConfig
from .generate import generate
from .measure import cut, distinct, expectation_adjusted_distinct, mean_log_probability, self_bleu
from .prompts import aligned_ids, base_ids, pad_left
from .rules import Router, Threshold

#: One number per text, for the prompts and the texts of each; larger is better.
Scorer = Callable[[Sequence[str], Sequence[Sequence[str]]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Pair:
    """Two models and how they are asked to write."""

    base: Any
    aligned: Any
    tokenizer: Any
    config: RouterConfig
    samples: int
    max_new_tokens: int
    seed: int
    quality: Scorer | None = None
    batch_rows: int = 128


@dataclass(frozen=True)
class Way:
    """One setting of the pair: what writes, and how warm."""

    router: Router
    threshold: Threshold | None
    temperature: float = 1.0


@dataclass(frozen=True)
class Texts:
    """What one way of writing gave, for P prompts with N texts each."""

    texts: list[list[str]]  # [P][N]
    values: dict[str, Tensor]  # per measure [P]
    base_tokens: Tensor  # [P]
    asked: Tensor  # [P]: positions where the router was asked
    base_asked: Tensor  # [P]: of these, written by the base
    tokens: Tensor  # [P]
    steps: int  # batch steps, summed over batches
    forwards: int  # of either model
    doubt: Tensor  # [K]: the signal at the positions where the router was asked
    content: Tensor  # [K] bool


def write(pair: Pair, prompts: Sequence[str], way: Way) -> Texts:
    """N texts for each prompt, in batches over prompts. Same arguments, same texts."""
    per_batch = max(1, pair.batch_rows // pair.samples)
    parts = [
        _write_batch(pair, prompts[start : start + per_batch], way, start)
        for start in range(0, len(prompts), per_batch)
    ]
    return _join(parts)


def _write_batch(pair: Pair, prompts: Sequence[str], way: Way, start: int) -> Texts:
    ids, mask = pad_left([aligned_ids(pair.tokenizer, prompt) for prompt in prompts])
    form = pair.config.prompt_format
    own = pad_left([base_ids(pair.tokenizer, prompt, form) for prompt in prompts])
    device = pair.aligned.device
    out: Any = generate(
        pair.aligned,
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        base_model=pair.base,
        base_inputs=None
        if form is PromptFormat.SAME
        else {"input_ids": own[0], "attention_mask": own[1]},
        tokenizer=pair.tokenizer,
        config=replace(pair.config, router=way.router, threshold=way.threshold),
        generator=torch.Generator(device).manual_seed(_seed(pair.seed, way, start)),
        do_sample=True,
        temperature=way.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=pair.max_new_tokens,
        num_return_sequences=pair.samples,
        return_dict_in_generate=True,
    )
    return _count(pair, prompts, mask, out)


def _seed(seed: int, way: Way, start: int) -> int:
    """A stream of its own for every way and batch, so that no two share their luck."""
    name = f"{seed} {way.router} {way.threshold} {way.temperature} {start}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def _count(pair: Pair, prompts: Sequence[str], mask: Tensor, out: Any) -> Texts:
    count, new = len(prompts), out.by_base.shape[1]
    emitted, free = out.emitted.cpu(), out.free.cpu()  # [P * N, T]
    by_base, sequences = out.by_base.cpu(), out.sequences.cpu()
    rows = [
        pair.tokenizer.decode(row[keep], skip_special_tokens=True)
        for row, keep in zip(sequences[:, -new:], emitted, strict=True)
    ]
    texts = [rows[p * pair.samples : (p + 1) * pair.samples] for p in range(count)]

    def per_prompt(flags: Tensor) -> Tensor:
        return flags.reshape(count, -1).sum(1).double()

    values = lexical(texts, pair.max_new_tokens, len(pair.tokenizer))
    values["length"] = per_prompt(emitted) / pair.samples
    if pair.quality is None:
        seen = torch.cat([mask.repeat_interleave(pair.samples, 0), emitted.long()], 1)
        device = pair.aligned.device
        score = mean_log_probability(
            pair.aligned, out.sequences, seen.to(device), emitted.to(device)
        )
        values["quality"] = score.cpu().double().reshape(count, -1).mean(1)
    else:
        values["quality"] = torch.tensor(pair.quality(prompts, texts)).double().mean(1)
    return Texts(
        texts=texts,
        values=values,
        base_tokens=per_prompt(by_base),
        asked=per_prompt(free),
        base_asked=per_prompt(by_base & free),
        tokens=per_prompt(emitted),
        steps=new,
        forwards=sum(out.forwards.values()),
        doubt=out.doubt.cpu()[free],
        content=out.content.cpu()[free],
    )


def lexical(texts: Sequence[Sequence[str]], words: int, vocabulary: int) -> dict[str, Tensor]:
    """Every lexical measure for every prompt. [P][N] texts -> name to [P]"""
    groups = [cut(group, words) for group in texts]
    table = {
        "1 - self-BLEU-4": [1 - self_bleu(group) for group in groups],
        "distinct-1": [distinct(group, 1) for group in groups],
        "distinct-2": [distinct(group, 2) for group in groups],
        "distinct-3": [distinct(group, 3) for group in groups],
        "EAD": [expectation_adjusted_distinct(group, vocabulary) for group in groups],
    }
    return {name: torch.tensor(values, dtype=torch.double) for name, values in table.items()}


def _join(parts: Sequence[Texts]) -> Texts:
    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    return Texts(
        texts=[group for part in parts for group in part.texts],
        values={name: torch.cat([p.values[name] for p in parts]) for name in parts[0].values},
        base_tokens=joined("base_tokens"),
        asked=joined("asked"),
        base_asked=joined("base_asked"),
        tokens=joined("tokens"),
        steps=sum(part.steps for part in parts),
        forwards=sum(part.forwards for part in parts),
        doubt=joined("doubt"),
        content=joined("content"),
    )
