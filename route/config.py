"""`router.json`: everything that fixes how a pair decodes.

A value: canonical JSON in, the same value out; its digest names the router. The schema version
changes when an old reader would misread a new file. Standard library only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .figures import Calibration
from .plain import FormatError, from_plain, to_plain
from .rules import Policy, Router, Side, Threshold

SCHEMA = 1


class ConfigError(ValueError):
    """A router configuration that cannot be used; the message says what and where."""


class PromptFormat(StrEnum):
    """What the base reads in place of the aligned model's prompt."""

    SAME = "same"
    """The very ids that the aligned model reads."""
    PLAIN = "plain"
    """The user's text and an empty line."""
    QA = "qa"
    """`Question:` and `Answer:` lines."""
    URIAL = "urial"
    """Two answered queries, then the user's."""
    CHAT = "chat"
    """The tokenizer's chat template; sensible only where the base has seen its markers."""


@dataclass(frozen=True)
class Pin:
    """One model, by name for readers and by sha or fingerprint for the check."""

    repo: str
    sha: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class VocabularyPin:
    """The ids both models share: how many, and sha256 over their tokens."""

    size: int
    digest: str


@dataclass(frozen=True)
class Preset:
    """A named setting: the base share over the positions where the router is asked."""

    share: float
    threshold: Threshold


@dataclass(frozen=True)
class RouterConfig:
    """One router for one pair. Raises ValueError for a value out of range."""

    router: Router
    threshold: Threshold | None
    base: Pin
    aligned: Pin
    vocabulary: VocabularyPin
    share: float | None = None
    """The base share that `threshold` was calibrated to."""
    prompt_format: PromptFormat = PromptFormat.SAME
    aligned_prefix: int = 0
    veto: float = 0.0
    content_reads: Side = Side.BASE
    presets: Mapping[str, Preset] = field(default_factory=dict)
    preset: str | None = None
    """Which preset `threshold` and `share` are."""
    calibration: Calibration | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema} is not the version {SCHEMA} known here")
        self.policy()
        for name in self.presets:
            self.policy(name)
        if self.preset is not None and self._named(self.preset).threshold != self.threshold:
            raise ValueError(f"the threshold is not the one of preset {self.preset!r}")
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} is not in [0, 1]")

    def policy(self, preset: str | None = None) -> Policy:
        """What the loop follows: the default setting, or the preset of that name.

        Raises ConfigError for an unknown preset.
        """
        threshold = self.threshold if preset is None else self._named(preset).threshold
        return Policy(self.router, threshold, self.aligned_prefix, self.veto, self.content_reads)

    def _named(self, preset: str) -> Preset:
        if preset not in self.presets:
            known = ", ".join(sorted(self.presets)) or "none"
            raise ConfigError(f"no preset {preset!r}; this router has: {known}")
        return self.presets[preset]

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """Sorted keys, no spaces, no unset fields: equal values give equal bytes."""
        return json.dumps(
            to_plain(self),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_json(self) -> str:
        """The same for readers, as it stands in `router.json`."""
        plain = to_plain(self)
        return (
            json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> "RouterConfig":
        """Raises ConfigError that names the place in the file."""
        try:
            value: Any = json.loads(text, parse_constant=_no_constant)
        except ValueError as error:
            raise ConfigError(f"router.json is no JSON: {error}") from error
        schema = value.get("schema") if isinstance(value, dict) else None
        if schema != SCHEMA:
            raise ConfigError(f"router.json has schema {schema!r}; this code reads {SCHEMA}")
        try:
            return from_plain(cls, value)
        except FormatError as error:
            raise ConfigError(f"router.json, {error}") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
