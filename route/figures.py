"""What calibration measured, as it is published in `router.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    min_p: float | None = None
    """Tokens below this part of the largest probability were left out."""


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
class FormatTrial:
    """The base alone under one prompt format, on the calibration prompts."""

    prompt_format: str
    quality: Estimate
    diversity: Estimate
    length: Estimate


@dataclass(frozen=True)
class Bounds:
    """What counts as 0 and as 1 on one measure, for Coverage."""

    low: float
    high: float


@dataclass(frozen=True)
class Indicator:
    """Coverage and Dominance of one method; defined in `route.indicators`."""

    method: str
    settings: int
    """How many points it has; methods with different numbers do not compare."""
    coverage: Estimate
    dominance: Estimate
    groups: Mapping[str, Estimate]
    """Coverage by group of measures: lexical, semantic."""


@dataclass(frozen=True)
class Gain:
    """The router's Coverage minus a control's, on the same resampled prompts."""

    control: str
    coverage: Estimate


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
    """On the held-out prompts, at every share."""
    beats_random: bool | None
    """Whether the default preset is better than random routing at the same share on one axis beyond
    noise and not worse on the other; None where the router is random itself."""
    notes: tuple[str, ...] = ()
    words: int | None = None
    """Lexical measures look at so many words of each text."""
    embeddings: str | None = None
    """What the semantic measures embed texts with."""
    reach: float | None = None
    """The largest base share that the content rule leaves, on the calibration prompts."""
    forwards_in_blocks: float | None = None
    """Forwards of either model per token at the default setting with block execution, the samples
    of one prompt in a batch; None where a model's cache cannot take tokens back."""
    formats: tuple[FormatTrial, ...] = ()
    """What the base's prompt format was chosen among; one where it was given."""
    format_rule: str | None = None
    """How the format was chosen; None where it was given."""
    indicators: tuple[Indicator, ...] = ()
    """Coverage and Dominance of every method, on the held-out prompts."""
    gains: tuple[Gain, ...] = ()
    """The router's Coverage against each of its random controls."""
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """By measure, the scale of Coverage."""
