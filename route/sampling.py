"""Writing several texts per prompt with a pair, and what is counted while it writes.

One model alone runs without the other: the aligned model through transformers' own `generate`, the
base through the routed loop, which keeps its special tokens masked.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .config import PromptFormat, RouterConfig
from .generate import Execution, generate
from .measure import mean_log_probability
from .prompts import aligned_ids, base_ids, pad_left
from .rules import Router, Threshold

#: Positions whose signal is kept for thresholds: a share is then known to a part in 100,000.
_SIGNALS = 100_000


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
    batch_rows: int = 128
    execution: Execution = Execution.EAGER


@dataclass(frozen=True)
class Way:
    """One setting of the pair: what writes, and how warm."""

    router: Router
    threshold: Threshold | None
    temperature: float = 1.0
    min_p: float | None = None
    """Of the aligned model alone: tokens below this part of the largest probability are left
    out (Nguyen et al., arXiv 2407.01082)."""

    @property
    def aligned_alone(self) -> bool:
        return self.router is Router.RAND and self.threshold == "never"

    @property
    def base_alone(self) -> bool:
        return self.router is Router.RAND and self.threshold == "always"


@dataclass(frozen=True)
class Written:
    """What one way of writing gave, for P prompts with N texts each."""

    ids: list[list[list[int]]]  # [P][N][T]: the tokens of each text, its end token included
    texts: list[list[str]]  # [P][N]
    likelihood: Tensor  # [P]: mean log-probability per token under the aligned model
    base_tokens: Tensor  # [P]
    asked: Tensor  # [P]: positions where the router was asked
    base_asked: Tensor  # [P]: of these, written by the base
    tokens: Tensor  # [P]
    steps: int  # batch steps, summed over batches
    forwards: int  # of either model
    doubt: Tensor  # [K]: the signal at positions where the router was asked
    content: Tensor  # [K] bool


def write(pair: Pair, prompts: Sequence[str], way: Way) -> Written:
    """N texts for each prompt, in batches over prompts. Same arguments, same texts."""
    per_batch = max(1, pair.batch_rows // pair.samples)
    parts = [
        _write_batch(pair, prompts[start : start + per_batch], way, start)
        for start in range(0, len(prompts), per_batch)
    ]
    return _join(parts)


def _write_batch(pair: Pair, prompts: Sequence[str], way: Way, start: int) -> Written:
    ids, mask = pad_left([aligned_ids(pair.tokenizer, prompt) for prompt in prompts])
    device = pair.aligned.device
    sampling = {
        "input_ids": ids.to(device),
        "attention_mask": mask.to(device),
        "do_sample": True,
        "temperature": way.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": way.min_p,
        "max_new_tokens": pair.max_new_tokens,
        "num_return_sequences": pair.samples,
        "return_dict_in_generate": True,
    }
    seed = _seed(pair.seed, way, start)
    if way.aligned_alone:
        trace = _aligned_alone(pair, sampling, seed)
    else:
        trace = _routed(pair, prompts, way, sampling, seed)
    return _count(pair, mask, trace)


@dataclass(frozen=True)
class _Trace:
    """Columns [P * N, T] of one batch."""

    sequences: Tensor  # [P * N, L + T]
    emitted: Tensor
    by_base: Tensor
    free: Tensor
    doubt: Tensor
    content: Tensor
    forwards: int


def _routed(
    pair: Pair, prompts: Sequence[str], way: Way, sampling: dict[str, Any], seed: int
) -> _Trace:
    config, own = pair.config, None
    if way.base_alone:
        config = replace(config, aligned_prefix=0)
    form = config.prompt_format
    if form is not PromptFormat.SAME:
        ids, mask = pad_left([base_ids(pair.tokenizer, prompt, form) for prompt in prompts])
        own = {"input_ids": ids, "attention_mask": mask}
    out: Any = generate(
        pair.aligned,
        base_model=pair.base,
        base_inputs=own,
        tokenizer=pair.tokenizer,
        config=replace(config, router=way.router, threshold=way.threshold),
        generator=torch.Generator(pair.aligned.device).manual_seed(seed),
        execution=Execution.LAZY if way.base_alone else pair.execution,
        **sampling,
    )
    return _Trace(
        sequences=out.sequences,
        emitted=out.emitted.cpu(),
        by_base=out.by_base.cpu(),
        free=out.free.cpu(),
        doubt=out.doubt.cpu(),
        content=out.content.cpu(),
        forwards=sum(out.forwards.values()),
    )


def _aligned_alone(pair: Pair, sampling: dict[str, Any], seed: int) -> _Trace:
    """The stock loop; it draws from the default streams, which are left as they were."""
    cuda = [pair.aligned.device] if pair.aligned.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(seed)
        sequences = pair.aligned.generate(**sampling).sequences
    new = sequences[:, sampling["input_ids"].shape[1] :].cpu()  # [B, T]
    ends = torch.isin(new, _end_ids(pair.aligned)).long()
    emitted = (ends.cumsum(1) - ends) == 0  # up to and with the first end token
    nothing = torch.zeros_like(emitted)
    return _Trace(sequences, emitted, nothing, nothing, nothing.float(), nothing, new.shape[1])


def _end_ids(model: Any) -> Tensor:
    ends = model.generation_config.eos_token_id
    return torch.tensor([] if ends is None else ends, dtype=torch.long).reshape(-1)


def _seed(seed: int, way: Way, start: int) -> int:
    """A stream of its own for every way and batch, so that no two share their luck."""
    name = f"{seed} {way.router} {way.threshold} {way.temperature} {way.min_p} {start}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def _count(pair: Pair, mask: Tensor, trace: _Trace) -> Written:
    count, new = len(mask), trace.emitted.shape[1]
    rows = [
        row[keep].tolist()
        for row, keep in zip(trace.sequences[:, -new:].cpu(), trace.emitted, strict=True)
    ]
    ids = [rows[p * pair.samples : (p + 1) * pair.samples] for p in range(count)]
    device = pair.aligned.device
    seen = torch.cat([mask.repeat_interleave(pair.samples, 0), trace.emitted.long()], 1)
    likelihood = mean_log_probability(
        pair.aligned, trace.sequences, seen.to(device), trace.emitted.to(device)
    )

    def per_prompt(flags: Tensor) -> Tensor:
        return flags.reshape(count, -1).sum(1).double()

    return Written(
        ids=ids,
        texts=decode(pair.tokenizer, ids),
        likelihood=likelihood.cpu().double().reshape(count, -1).mean(1),
        base_tokens=per_prompt(trace.by_base),
        asked=per_prompt(trace.free),
        base_asked=per_prompt(trace.by_base & trace.free),
        tokens=per_prompt(trace.emitted),
        steps=new,
        forwards=trace.forwards,
        doubt=trace.doubt[trace.free].double(),
        content=trace.content[trace.free],
    )


def decode(tokenizer: Any, ids: Sequence[Sequence[Sequence[int]]]) -> list[list[str]]:
    """[P][N][T] -> [P][N], without special tokens."""
    return [[tokenizer.decode(row, skip_special_tokens=True) for row in rows] for rows in ids]


def _join(parts: Sequence[Written]) -> Written:
    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    doubt, content = joined("doubt"), joined("content")
    kept = thinned(len(doubt))
    return Written(
        ids=[group for part in parts for group in part.ids],
        texts=[group for part in parts for group in part.texts],
        likelihood=joined("likelihood"),
        base_tokens=joined("base_tokens"),
        asked=joined("asked"),
        base_asked=joined("base_asked"),
        tokens=joined("tokens"),
        steps=sum(part.steps for part in parts),
        forwards=sum(part.forwards for part in parts),
        doubt=doubt[kept],
        content=content[kept],
    )


def thinned(count: int, most: int = _SIGNALS) -> Tensor:
    """Evenly spaced positions of `count`, at most `most`."""
    if count <= most:
        return torch.arange(count)
    return torch.arange(most) * count // most
