"""Calibrate: measure a router for the configured pair, in a child, at several base shares.

A pair is named by what fixes its figures: both pins, the prompts and the settings. The aligned side
may be the published soup; a new version of it is then a new pair. Every round that the child has
measured is kept in a file named by its content before the next is taken, so a killed calibration
goes on where it was, and another one of the same pair measures only what is new to it. What no
configured pair can use any more is removed once a calibration is through (`bot.rounds`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from bot import rounds
from bot.build import written
from bot.children import Meter, child
from bot.errors import Broken
from bot.sections import SOUP, RouterSettings
from bot.steps import Step
from bot.worker.jobs import Calibrate
from bot.world import Base, World
from db import outcomes as o
from route.config import RouterConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """One model of the pair: its name on the Hub, and its row where it is our own soup."""

    repo: str
    sha: str
    soup_id: int | None = None

    @property
    def pin(self) -> str:
        return f"{self.repo}@{self.sha}"


@dataclass(frozen=True)
class RouterPair:
    base: Side
    aligned: Side
    settings: RouterSettings

    @property
    def pins(self) -> str:
        """Names what can be shared with other settings of the same two models."""
        return rounds.pins_digest(self.base.pin, self.aligned.pin)

    @property
    def digest(self) -> str:
        """Names what is measured: pins, prompts by content, settings."""
        settings = self.settings.model_dump(mode="json", exclude={"base", "aligned", "target"})
        prompts = Path(self.settings.prompts).read_bytes()
        named = [self.base.pin, self.aligned.pin, hashlib.sha256(prompts).hexdigest(), settings]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def router_pair(world: World, base: Base) -> RouterPair | None:
    """The pair as configured now; None without a router section or before the first soup."""
    settings = base.section.router
    if settings is None:
        return None
    repo, _, sha = (settings.base or f"{base.section.repo}@{base.section.sha}").partition("@")
    aligned = _aligned(world, base, settings)
    return RouterPair(Side(repo, sha), aligned, settings) if aligned else None


def _aligned(world: World, base: Base, settings: RouterSettings) -> Side | None:
    if settings.aligned != SOUP:
        repo, _, sha = settings.aligned.partition("@")
        return Side(repo, sha)
    verified = [p for p in world.reader.publications(base.section.target) if p.state == "verified"]
    if not verified:
        return None
    latest = verified[-1]
    assert latest.commit_sha is not None
    return Side(latest.target, latest.commit_sha, latest.soup_id)


def pair_digest(world: World, base: Base) -> str | None:
    pair = router_pair(world, base)
    return pair.digest if pair else None


def calibrate(step: Step, world: World) -> Iterator[o.Outcome]:
    """Raises Misconfigured where the router's settings cannot be used, naming the setting."""
    base, folder = world.bases[step.base], world.shelf.rounds()
    pair = router_pair(world, base)
    if pair is None:
        return
    meter = Meter(base, step)
    job = yield from _job(world, base, pair)
    digest, config = pair.digest, None
    with child(world.executor, job) as running:
        for line in running.lines():
            if "round" in line:
                rounds.keep_round(folder / pair.pins, line)
            elif "progress" in line:
                log.info("%s: %s of %s, %s", step.key, *(line.get(k) for k in _PROGRESS))
                rounds.keep_progress(folder, digest, line)
            config = line.get("config", config)
    if not isinstance(config, str):
        raise Broken("calibration ended without a configuration")
    calibrated = RouterConfig.from_json(config)
    yield meter.spent()
    yield o.Calibrated(
        base_id=base.id,
        pair_digest=digest,
        base=pair.base.pin,
        aligned=pair.aligned.pin,
        config_digest=calibrated.digest,
        config=calibrated.canonical(),
    )
    configured = [router_pair(world, one) for one in world.bases.values()]
    rounds.clean(folder, {one.pins for one in configured if one is not None})


_PROGRESS = ("progress", "total", "what")


def _job(world: World, base: Base, pair: RouterPair) -> Generator[o.Outcome, None, Calibrate]:
    settings = pair.settings
    weights = yield from _weights(world, pair.base)
    aligned = yield from _weights(world, pair.aligned)
    return Calibrate(
        base=weights,
        base_pin=pair.base.pin,
        aligned=aligned,
        aligned_pin=pair.aligned.pin,
        config=world.shelf.texts(pair.aligned.repo, pair.aligned.sha),
        base_config=_base_config(world, base, pair),
        prompts=Path(settings.prompts),
        router=settings.router,
        shares=settings.shares,
        preset=settings.preset,
        seed=base.section.seed,
        prompt_formats=settings.prompt_formats,
        samples_per_prompt=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        temperatures=settings.temperatures,
        min_p_temperatures=settings.min_p_temperatures,
        rounds=world.shelf.rounds() / pair.pins,
        quality=settings.quality,
        encoder=settings.encoder,
    )


def _base_config(world: World, base: Base, pair: RouterPair) -> Path:
    """The base side's own configuration and tokenizer, or those that this section reads it with."""
    if (pair.base.repo, pair.base.sha) == (base.section.repo, base.section.sha):
        return world.shelf.trusted(base.section)
    return world.shelf.texts(pair.base.repo, pair.base.sha)


def _weights(world: World, side: Side) -> Generator[o.Outcome, None, Path]:
    if side.soup_id is not None:
        return (yield from written(world, world.reader.soup(side.soup_id)))
    return world.shelf.model(side.repo, side.sha)
