"""Task ``calibrate``: thresholds, presets and figures of a router for one pair.

{"progress": 3, "total": 14, "what": "p-punc at share 0.2"}      after each round of writing
{"config": "..."}                                                the text of router.json
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bot.worker import models
from bot.worker.jobs import Calibrate
from bot.worker.protocol import Channel, ProtocolError
from route.calibrate import calibrate
from route.config import Pin, PromptFormat, RouterConfig
from route.measured import beats
from route.rules import Router
from route.sampling import Scorer


def run(job: Calibrate, channel: Channel) -> None:
    base, aligned = (models.load_model(job.config, side) for side in (job.base, job.aligned))
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
        prompt_format=PromptFormat(job.prompt_format),
        seed=job.seed,
        samples_per_prompt=job.samples_per_prompt,
        max_new_tokens=job.max_new_tokens,
        quality=_scorer(job.quality) if job.quality else None,
        quality_name=job.quality,
        base_pin=Pin(*job.base_pin.split("@")),
        aligned_pin=Pin(*job.aligned_pin.split("@")),
        progress=tell,
    )
    channel.send({"config": with_default(config, job.preset).to_json()})


def with_default(config: RouterConfig, preset: str) -> RouterConfig:
    """`config` with `preset` as what it does unless told otherwise; itself where it has no presets.

    Raises KeyError for a preset that it lacks.
    """
    if not config.presets or preset == config.preset:
        return config
    chosen = config.presets[preset]
    figures = config.calibration
    if figures is not None:
        at_share = [one for one in figures.against_random if one.target == chosen.share]
        figures = replace(figures, beats_random=beats(at_share))
    return replace(
        config,
        threshold=chosen.threshold,
        share=chosen.share,
        preset=preset,
        calibration=figures,
    )


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


def _scorer(name: str) -> Scorer:
    module, _, function = name.partition(":")
    scorer: Scorer = getattr(importlib.import_module(module), function)
    return scorer
