"""What calibration measured, as it is published in `router.json`."""

from collections.abc import Mapping
from dataclasses import dataclass

from .rules import Router, Threshold


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % bootstrap interval over prompts."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Setting:
    """One way of writing, measured on one set of prompts."""

    name: str
    """For readers: "p-punc at share 0.3", "aligned at temperature 1.3"."""
    kind: str
    """"router", "control" (a random router), "aligned" or "base"."""
    temperature: float
    diversity: Estimate
    quality: Estimate
    length: Estimate
    """Tokens per text, end token included."""
    share: Estimate
    """Base tokens over the positions where the router was asked."""
    token_share: float
    """Base tokens over all tokens."""
    forwards_per_token: float
    """Forwards of either model per step of a batch."""
    more: Mapping[str, Estimate]
    """Further measures by name."""
    router: Router | None = None
    threshold: Threshold | None = None
    target: float | None = None
    """The share asked for."""


@dataclass(frozen=True)
class Difference:
    """Router minus its random control at matched share, paired by prompt."""

    control: Router
    share: Estimate
    """The router's, as measured."""
    control_share: Estimate
    diversity: Estimate
    quality: Estimate
    target: float | None = None
    """The share asked for; None for a router with a fixed one."""


@dataclass(frozen=True)
class Calibration:
    """How the thresholds were found and what they do on prompts that took no part in it."""

    prompts: int
    held_out_prompts: int
    samples_per_prompt: int
    max_new_tokens: int
    seed: int
    diversity: str
    """What the diversity axis is."""
    quality: str
    """What the quality axis is."""
    rule: str
    """How the presets were picked."""
    curve: tuple[Setting, ...]
    """On the calibration prompts: what thresholds and presets were chosen by."""
    held_out: tuple[Setting, ...]
    """On the held-out prompts: the figures to quote."""
    against_random: tuple[Difference, ...]
    """On the held-out prompts, at each preset's share."""
    beats_random: bool | None
    """Whether the default preset is better than random routing at the same share on one axis beyond
    noise and not worse on the other; None where the router is random itself."""
    notes: tuple[str, ...] = ()
