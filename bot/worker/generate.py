"""Task ``generate``: texts of one prompt by a base and an aligned model.

{"note": "..."}                    what was decided for the caller
{"sample": {...}}                  one text: text, tokens (id, text, by), shares, forwards
{"summary": {...}}                 what all of them have in common

Both folders are a stranger's: configurations and tokenizers are read as data, weights as tensors,
and no code of theirs runs. A refusal leaves as an error with one of the codes in `CODES`.
"""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedTokenizerBase

from bot.worker import models
from bot.worker.jobs import Generate
from bot.worker.protocol import Channel
from bot.worker.tokens import pieces
from route.config import ConfigError, Pin, PromptFormat, RouterConfig, VocabularyPin
from route.curve import ShareBeyondCurve, from_curve
from route.decode import RoutedOutput
from route.generate import Execution, generate
from route.pins import PinMismatch, complete
from route.prompts import PromptFormatError, aligned_ids, pad_left
from route.rules import Router, Threshold
from route.shares import TEXTS, TOKENS, tune
from route.side import can_forget
from route.thresholds import ShareOutOfReach
from route.vocab import (
    VocabularyMismatch,
    id_to_token,
    prove_identical,
    token_digest,
)

SHARE = 0.3
"""The base share where none is asked for."""


class NeedsCode(ValueError):
    """A model that runs by code of its own alone."""


CODES: tuple[tuple[type[ValueError], str], ...] = (
    (NeedsCode, "needs-code"),
    (VocabularyMismatch, "vocab-mismatch"),
    (ShareOutOfReach, "share-out-of-reach"),
    (ShareBeyondCurve, "share-out-of-reach"),
    (PinMismatch, "pin-mismatch"),
    (ConfigError, "config"),
    (PromptFormatError, "prompt"),
    (ValueError, "unsupported"),
)


def run(job: Generate, channel: Channel) -> None:
    try:
        _run(job, channel)
    except ValueError as error:
        code = next(code for kind, code in CODES if isinstance(error, kind))
        channel.send({"error": {"code": code, "message": str(error)[:4000]}})
        raise SystemExit(1) from error


def _run(job: Generate, channel: Channel) -> None:
    for folder in (job.base, job.aligned):
        check_known(folder)
    tokenizer, other = models.tokenizer(job.aligned), models.tokenizer(job.base)
    shared = prove_identical(other, tokenizer)  # before gigabytes are read
    base, aligned = (models.load_model(side, side) for side in (job.base, job.aligned))
    for model, sha in ((base, job.base_sha), (aligned, job.aligned_sha)):
        model.config._commit_hash = sha  # where transformers itself would put it
    pair = Pair(base, aligned, tokenizer, job)
    config = pair.config(shared)
    if job.base_share is not None or (job.config is None and config.router.doubt is not None):
        config = at_threshold(config, find_threshold(pair, config, channel))
    execution = pair.execution()
    if job.execution is None and execution is not Execution.BLOCK:
        channel.send({"note": "eager: a cache of this pair cannot take tokens back"})

    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        out = pair.write(config, job.samples, job.max_new_tokens, execution)
    for doubt in dict.fromkeys(str(one.message) for one in doubts):
        channel.send({"note": doubt})
    for row in range(job.samples):
        channel.send({"sample": sample(tokenizer, out, row)})
    channel.send({"summary": summary(config, execution, out)})


def check_known(folder: Path) -> None:
    """Raise NeedsCode where transformers itself does not have the architecture."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in CONFIG_MAPPING:
        raise NeedsCode(
            f"{folder.name}: model_type {kind!r} is not one that transformers "
            f"{transformers.__version__} knows, and no code of a model's own is run"
        )


def find_threshold(pair: "Pair", config: RouterConfig, channel: Channel) -> Threshold:
    """For the share asked for; without one, for `SHARE` or what can be reached of it.

    From the router's curve, else by tuning. Raises ShareOutOfReach, ShareBeyondCurve.
    """
    notes = iter([f"tuning the threshold on {TEXTS} texts of this prompt, twice"])

    def write(threshold: Threshold) -> RoutedOutput:
        for note in notes:  # before the first text, if any is written
            channel.send({"note": note})
        return pair.tuning(config, threshold)

    def tuned(share: float) -> Threshold:
        return tune(config.router, share, write)

    asked = pair.job.base_share
    if asked is not None and (threshold := from_curve(config, asked)) is not None:
        return threshold
    try:
        return tuned(SHARE if asked is None else asked)
    except ShareOutOfReach as error:
        if asked is not None:
            raise
        part = math.floor(90 * error.most) / 100  # below the most, so that other texts reach it too
        channel.send({"note": f"base share {SHARE} is out of reach here; {part} is taken"})
        return tuned(part)


def summary(config: RouterConfig, execution: Execution, out: RoutedOutput) -> dict[str, Any]:
    """What the texts have in common. Shares as in `sample`, over all texts."""
    assert out.emitted is not None and out.by_base is not None and out.free is not None
    return {
        "router": str(config.router),
        "threshold": config.threshold,
        "prompt_format": str(config.prompt_format),
        "execution": str(execution),
        "base_share": _share(out.by_base, out.emitted),
        "asked_share": _share(out.by_base & out.free, out.free),
        "forwards": out.forwards,
    }


class Pair:
    """Two models, their tokenizer, and what they are asked for."""

    def __init__(
        self, base: Any, aligned: Any, tokenizer: PreTrainedTokenizerBase, job: Generate
    ) -> None:
        self.base, self.aligned, self.tokenizer, self.job = base, aligned, tokenizer, job

    def config(self, shared: int) -> RouterConfig:
        """The router that was given, or one of that name for this pair.

        shared: ids that both vocabularies have. Raises ConfigError.
        """
        job = self.job
        if job.config is not None:
            config = RouterConfig.from_json(job.config)
            return at_threshold(config, config.policy(job.preset).threshold)
        router = Router(job.router or Router.P_PUNC)
        digest = token_digest(id_to_token(self.tokenizer), shared)
        return RouterConfig(
            router=router,
            threshold=None if router.doubt is None else "never",
            base=complete(Pin("base", job.base_sha), self.base),
            aligned=complete(Pin("aligned", job.aligned_sha), self.aligned),
            vocabulary=VocabularyPin(shared, digest),
            prompt_format=PromptFormat(job.prompt_format),
        )

    def execution(self) -> Execution:
        """The one asked for; else blocks, where both caches can take tokens back."""
        if self.job.execution is not None:
            return Execution(self.job.execution)
        able = can_forget(self.base) and can_forget(self.aligned)
        return Execution.BLOCK if able else Execution.EAGER

    def tuning(self, config: RouterConfig, threshold: Threshold) -> RoutedOutput:
        tokens = min(TOKENS, self.job.max_new_tokens)
        execution = self.execution()
        return self.write(at_threshold(config, threshold), TEXTS, tokens, execution)

    def write(
        self, config: RouterConfig, samples: int, tokens: int, execution: Execution
    ) -> RoutedOutput:
        """`samples` texts of the prompt, each row with a random stream of its own."""
        # In greedy decoding transformers refuses several texts of one row, a router's coin or not.
        rows = 1 if self.job.temperature > 0 else samples
        ids, mask = pad_left([aligned_ids(self.tokenizer, self.job.prompt)] * rows)
        device, ends = self.aligned.device, end_ids(self.job, self.aligned, self.tokenizer)
        warmth = self.job.temperature
        sampling: dict[str, Any] = (
            {"do_sample": True, "temperature": warmth, "top_k": 0, "top_p": 1.0}
            if warmth > 0
            else {"do_sample": False}
        )
        out = generate(
            self.aligned,
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            base_model=self.base,
            tokenizer=self.tokenizer,
            prompts=[self.job.prompt] * rows,
            config=config,
            seed=self.job.seed,
            execution=execution,
            eos_token_id=ends or None,
            pad_token_id=_pad(self.tokenizer, ends),
            num_return_sequences=samples // rows,
            max_new_tokens=tokens,
            return_dict_in_generate=True,
            **sampling,
        )
        assert isinstance(out, RoutedOutput)
        return out


def at_threshold(config: RouterConfig, threshold: Threshold | None) -> RouterConfig:
    return replace(config, threshold=threshold, share=None, preset=None)


def end_ids(job: Generate, model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Whatever ends a text: by the configuration, the generation settings and the tokenizer."""
    found: list[Any] = [model.config.eos_token_id, tokenizer.eos_token_id]
    if (job.aligned / "generation_config.json").is_file():
        found.append(GenerationConfig.from_pretrained(job.aligned).eos_token_id)
    flat = [one for many in found for one in (many if isinstance(many, list) else [many])]
    return sorted({one for one in flat if isinstance(one, int)})


def _pad(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]) -> int:
    pad: int | None = tokenizer.pad_token_id
    return pad if pad is not None else next(iter(ends), 0)


def sample(tokenizer: PreTrainedTokenizerBase, out: RoutedOutput, row: int) -> dict[str, Any]:
    """One text with its tokens; `base_share` is of all of them, `asked_share` of those where the
    router was asked."""
    assert out.emitted is not None and out.by_base is not None and out.free is not None
    assert out.row_forwards is not None
    length = int(out.emitted[row].sum())
    start = out.sequences.shape[1] - out.emitted.shape[1]
    ids: list[int] = out.sequences[row, start : start + length].tolist()
    by_base, free = out.by_base[row], out.free[row]
    writers = ["base" if base else "aligned" for base in by_base[:length].tolist()]
    texts = pieces(tokenizer, ids)
    return {
        "text": tokenizer.decode(ids, skip_special_tokens=True),
        "tokens": [
            {"id": one, "text": text, "by": writer}
            for one, text, writer in zip(ids, texts, writers, strict=True)
        ],
        "base_share": _share(by_base, out.emitted[row]),
        "asked_share": _share(by_base & free, free),
        "forwards": {side: int(count[row]) for side, count in out.row_forwards.items()},
    }


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return round(int(part.sum()) / max(1, int(whole.sum())), 6)
