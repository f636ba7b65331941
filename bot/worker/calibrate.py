"""Task ``calibrate``: thresholds, presets and figures of a router for one pair.

{"round": "12ab...", "record": {...}}                            a round, to be kept
{"progress": 3, "total": 14, "what": "p-punc at share 0.2"}      after each round of writing
{"config": "..."}                                                the text of router.json

A round that was kept as ROUND.json in the job's folder of rounds is not written again. One that is
too long for a message is not kept, and is written again after a kill.
"""

import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bot.worker import models
from bot.worker.jobs import Calibrate
from bot.worker.protocol import Channel, LineTooLong, ProtocolError
from route.calibrate import Controls, calibrate
from route.config import Pin, PromptFormat
from route.rounds import Record, Ruler, Store
from route.rules import Router


def run(job: Calibrate, channel: Channel) -> None:
    base, aligned = (models.load_model(job.config, side) for side in (job.base, job.aligned))
    take_end_ids(aligned, job.config)
    prompts = read_prompts(job.prompts)

    def tell(done: int, total: int, what: str) -> None:
        channel.send({"progress": done, "total": total, "what": what})

    config = calibrate(
        base,
        aligned,
        models.tokenizer(job.config),
        prompts["calibrate"],
        held_out=prompts["held-out"],
        router=Router(job.router.lower()),
        shares=job.shares,
        preset=job.preset,
        prompt_format=[PromptFormat(one) for one in job.prompt_formats],
        controls=Controls(job.temperatures, job.min_p_temperatures),
        seed=job.seed,
        samples_per_prompt=job.samples_per_prompt,
        max_new_tokens=job.max_new_tokens,
        ruler=ruler(job),
        base_pin=Pin(*job.base_pin.split("@")),
        aligned_pin=Pin(*job.aligned_pin.split("@")),
        store=store(job.rounds, channel),
        progress=tell,
    )
    channel.send({"config": config.to_json()})


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
    """How the job wants texts judged."""
    wanted = Ruler()
    if job.quality:
        wanted = replace(wanted, quality=_named(job.quality), quality_name=job.quality)
    if job.encoder:
        wanted = replace(wanted, encoder=_named(job.encoder), encoder_name=job.encoder)
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


def read_prompts(file: Path) -> Mapping[str, list[str]]:
    """Prompts by split. Raises ProtocolError naming the line."""
    found: dict[str, list[str]] = {"calibrate": [], "held-out": []}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        raw = json.loads(line)
        prompt, split = raw.get("prompt"), raw.get("split")
        if not isinstance(prompt, str) or split not in found:
            wanted = "a 'prompt' and a 'split' that is calibrate or held-out"
            raise ProtocolError(f"{file.name}, line {number}: needs {wanted}")
        found[split].append(prompt)
    return found


def _named(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
