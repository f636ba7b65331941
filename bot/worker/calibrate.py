"""Task ``calibrate``: thresholds, presets and figures of a router for one pair.

{"round": "12ab...", "record": {...}}                            a round, to be kept
{"progress": 3, "total": 14, "what": "p-punc at share 0.2"}      after each round of writing
{"config": "..."}                                                the text of router.json

A round that was kept as ROUND.json in the job's folder of rounds is not written again. One that is
too long for a message is not kept, and is written again after a kill. A setting of the operator's
that cannot be used leaves as an error that names it.
"""

import importlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bot.worker import models
from bot.worker.jobs import Calibrate
from bot.worker.prompts import Unusable, read_prompts
from bot.worker.protocol import SETTING, Channel, LineTooLong
from route.calibrate import calibrate
from route.config import Pin, PromptFormat, RouterConfig
from route.rounds import Record, Ruler, Store
from route.rules import Router
from route.study import Controls, Study
from route.thresholds import ShareOutOfReach
from route.vocab import VocabularyMismatch


def run(job: Calibrate, channel: Channel) -> None:
    try:
        config = measure(job, channel)
    except Unusable as error:
        told = {"code": SETTING, "subject": error.setting, "message": str(error)[:4000]}
        channel.send({"error": told})
        raise SystemExit(1) from error
    channel.send({"config": config.to_json()})


def measure(job: Calibrate, channel: Channel) -> RouterConfig:
    """Raises Unusable."""
    prompts, judged = read_prompts(job.prompts), ruler(job)
    own = job.base_config or job.config
    tokenizer, other = read_tokenizer("aligned", job.config), read_tokenizer("base", own)
    base = models.load_model(own, job.base)
    aligned = models.load_model(job.config, job.aligned)
    take_end_ids(aligned, job.config)

    def tell(done: int, total: int, what: str) -> None:
        channel.send({"progress": done, "total": total, "what": what})

    try:
        return calibrate(
            base,
            aligned,
            tokenizer,
            prompts["calibrate"],
            held_out=prompts["held-out"],
            base_pin=Pin(*job.base_pin.split("@")),
            aligned_pin=Pin(*job.aligned_pin.split("@")),
            base_tokenizer=other,
            store=store(job.rounds, channel),
            progress=tell,
            study=replace(study(job), ruler=judged),
        )
    except ShareOutOfReach as error:
        raise Unusable("shares", str(error)) from error
    except VocabularyMismatch as error:
        raise Unusable("aligned", str(error)) from error


def study(job: Calibrate) -> Study:
    """What the job wants measured."""
    return Study(
        router=Router(job.router.lower()),
        shares=job.shares,
        preset=job.preset,
        prompt_format=[PromptFormat(one) for one in job.prompt_formats],
        controls=Controls(job.temperatures, job.min_p_temperatures),
        seed=job.seed,
        samples_per_prompt=job.samples_per_prompt,
        max_new_tokens=job.max_new_tokens,
    )


def read_tokenizer(side: str, folder: Path) -> PreTrainedTokenizerBase:
    """Raises Unusable where the side's repository has none that can be read."""
    try:
        return models.tokenizer(folder)
    except (OSError, ValueError) as error:
        raise Unusable(side, f"no tokenizer can be read: {error}") from error


def take_end_ids(model: PreTrainedModel, config: Path) -> None:
    """What ends and what pads a text, where the trusted folder says so only beside config.json.

    Nothing else of its sampling settings is taken: the calibration brings its own.
    """
    file = config / "generation_config.json"
    if not file.exists() or model.generation_config is None:
        return
    given = json.loads(file.read_text(encoding="utf-8"))
    for name in ("eos_token_id", "pad_token_id"):
        if given.get(name) is not None:
            setattr(model.generation_config, name, given[name])


def ruler(job: Calibrate) -> Ruler:
    """How the job wants texts judged. Raises Unusable."""
    wanted = Ruler()
    if job.quality:
        named = _named("quality", job.quality)
        wanted = replace(wanted, quality=named, quality_name=job.quality)
    if job.encoder:
        named = _named("encoder", job.encoder)
        wanted = replace(wanted, encoder=named, encoder_name=job.encoder)
    return wanted


def store(folder: Path | None, channel: Channel) -> Store:
    """Known rounds are files in `folder`; new ones are told."""

    def known(name: str) -> Record | None:
        file = None if folder is None else folder / f"{name}.json"
        if file is None or not file.exists():
            return None
        with suppress(ValueError):
            record: Record = json.loads(file.read_text(encoding="utf-8"))
            return record
        return None

    def keep(name: str, record: Record) -> None:
        with suppress(LineTooLong):
            channel.send({"round": name, "record": record})

    return Store(known, keep)


def _named(setting: str, name: str) -> Any:
    """The function `package.module:function`. Raises Unusable."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise Unusable(setting, f"{name!r}: {error}") from error
