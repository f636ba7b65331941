"""Calibrate: measure a router for the configured pair, in a child, at several base shares.

A pair is named by what fixes its figures: both pins, the prompts and the settings. The aligned side
may be the published soup; a new version of it is then a new pair.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.children import Meter, child
from bot.config import SOUP, RouterSettings
from bot.errors import Broken, Misconfigured
from bot.plan import Step
from bot.worker.jobs import Calibrate
from bot.world import Base, World
from db import outcomes as o
from route.config import RouterConfig


@dataclass(frozen=True)
class Side:
    """One model of the pair: its name on the Hub, and the recipe where it is our own soup."""

    repo: str
    sha: str
    recipe_digest: str | None = None

    @property
    def pin(self) -> str:
        return f"{self.repo}@{self.sha}"


@dataclass(frozen=True)
class RouterPair:
    base: Side
    aligned: Side
    settings: RouterSettings

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
    return Side(latest.target, latest.commit_sha, latest.digest)


def pair_digest(world: World, base: Base) -> str | None:
    pair = router_pair(world, base)
    return pair.digest if pair else None


def calibrate(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    pair = router_pair(world, base)
    if pair is None:
        return
    settings = pair.settings
    meter = Meter(base, step)
    job = Calibrate(
        base=_weights(world, pair.base),
        base_pin=pair.base.pin,
        aligned=_weights(world, pair.aligned),
        aligned_pin=pair.aligned.pin,
        config=world.shelf.texts(pair.aligned.repo, pair.aligned.sha),
        prompts=Path(settings.prompts),
        router=settings.router,
        shares=settings.shares,
        preset=settings.preset,
        seed=base.section.seed,
        prompt_format=settings.prompt_format,
        samples_per_prompt=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        quality=settings.quality,
    )
    with child(world.executor, job) as running:
        config = next((line["config"] for line in running.lines() if "config" in line), None)
    if not isinstance(config, str):
        raise Broken("calibration ended without a configuration")
    calibrated = RouterConfig.from_json(config)
    yield meter.spent()
    yield o.Calibrated(
        base_id=base.id,
        pair_digest=pair.digest,
        base=pair.base.pin,
        aligned=pair.aligned.pin,
        config_digest=calibrated.digest,
        config=calibrated.canonical(),
    )


def _weights(world: World, side: Side) -> Path:
    if side.recipe_digest is not None:
        return world.shelf.soup(side.recipe_digest)
    return world.shelf.model(side.repo, side.sha)


def check_prompts(settings: RouterSettings) -> None:
    """Raises Misconfigured where the calibration prompts are not there."""
    if not Path(settings.prompts).is_file():
        raise Misconfigured(f"router prompts {settings.prompts}: no such file")
