"""What the settings say about one base: what is watched, how it is judged, what is published.

The docstring of a field is the comment that `bot init` writes above it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from merge.objective import Goal, Objective
from merge.search import Strategy

SOUP = "soup"  # as a router's aligned side: what the section publishes


def _repo(value: str) -> str:
    owner, slash, name = value.partition("/")
    if not (owner and slash and name) or "/" in name or any(c.isspace() for c in value):
        raise ValueError(f"{value!r} is not ORG/NAME")
    return value


def _sha(value: str) -> str:
    if len(value) != 40 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{value!r} is not a full 40-hex commit sha; a branch name moves")
    return value


def _pinned(value: str) -> str:
    repo, at, sha = value.partition("@")
    if not at:
        raise ValueError(f"{value!r} is not ORG/NAME@SHA")
    return f"{_repo(repo)}@{_sha(sha)}"


def _aligned(value: str) -> str:
    return value if value == SOUP else _pinned(value)


def _shares(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if not (all(share > 0 for share in value) and abs(sum(value) - 1) <= 1e-9):  # nan is not
        raise ValueError("three positive shares that sum to 1 are needed: select, tune, report")
    return value


Repo = Annotated[str, AfterValidator(_repo)]
Sha = Annotated[str, AfterValidator(_sha)]
Pinned = Annotated[str, AfterValidator(_pinned)]


class Publish(StrEnum):
    """What happens to a soup or router that passed; `bot.config` says it in a sentence each."""

    AUTO = "auto"
    ASK = "ask"
    OFF = "off"


class CrossFitting(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Order(StrEnum):
    """Which admitted candidates are evaluated first; `authors` takes one of each in turn."""

    NEWEST = "newest"
    LIKES = "likes"
    DOWNLOADS = "downloads"
    AUTHORS = "authors"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Format = Literal["same", "plain", "qa", "urial", "chat"]
Temperature = Annotated[float, Field(gt=0)]


class RouterSettings(_Section):
    """A BACo router for a pair: token by token, the base or the aligned model writes."""

    base: Pinned | None = None
    """The base side, ORG/NAME@SHA. Left out: the base of this section."""
    aligned: Annotated[str, AfterValidator(_aligned)]
    """The aligned side, ORG/NAME@SHA, or "soup" for the soup that this section publishes."""
    target: Repo
    """The repository that the router is published to."""
    prompts: str
    """Calibration prompts: a JSON-lines file with `prompt` and `split` (calibrate or held-out)
    fields.
    """
    router: Literal["RAND", "P", "H", "PUNC", "FC", "P-PUNC", "P-FC", "H-PUNC"] = "P-PUNC"
    """RAND, P, H, PUNC, FC, P-PUNC, P-FC or H-PUNC."""
    shares: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5)
    """Base shares that the sweep measures."""
    preset: Literal["safe", "balanced", "wild"] = "balanced"
    """Which preset is the published default."""
    prompt_formats: Annotated[tuple[Format, ...], Field(min_length=1)] = (
        *("same", "plain", "qa", "urial"),
    )
    """How the base side reads a prompt: same, plain, qa, urial or chat. Of several, calibration
    takes the one under which the base alone does best.
    """
    temperatures: tuple[Temperature, ...] = (0.7, 1.0, 1.3, 1.6)
    """Controls: the aligned model alone at these temperatures."""
    min_p_temperatures: tuple[Temperature, ...] = (1.5, 2.0, 2.5, 3.0)
    """Controls: the aligned model alone with min-p 0.1 at these temperatures."""
    samples: int = Field(4, ge=2)
    """Samples per prompt and setting."""
    max_new_tokens: int = Field(64, ge=1)
    """Length of a calibration sample, in tokens."""
    quality: str | None = None
    """Scorer of answers, `package.module:function`; left out: log-likelihood under the aligned
    model.
    """
    encoder: str | None = None
    """What embeds texts for the semantic measures, `package.module:function`; left out: hidden
    states of the aligned model.
    """


class BaseSection(_Section):
    """One base model: what is watched, how it is judged, where its soup goes."""

    repo: Repo
    """The base model."""
    sha: Sha
    """The commit that it is pinned to. A base that moves is reported, never followed."""
    target: Repo
    """The repository that the soup is published to; it must be ours or not exist."""
    benchmark: str = "tiny_skills"
    """A suite that ships with the bot, or a folder with a `suite.json`."""
    donor: Pinned | None = None
    """Where config, tokenizer, chat template and generation settings come from, if not the base."""
    router: RouterSettings | None = None
    """The router to calibrate and publish for this base, if any."""
    publish: Publish | None = None
    """auto, ask or off for this base; left out: the bot-wide setting."""

    method: Literal["auto", "soce", "complementary"] = "auto"
    """How experts are chosen: `soce` by correlations between categories, `complementary` by what
    members add on single items; `auto` takes soce from 30 scored models on. Both are computed, and
    where they differ is shown.
    """
    tau: float = Field(0.1, ge=-1, le=1)
    """SoCE's threshold: categories with a partner correlated below it get an expert."""
    strategy: Strategy = Strategy.SURROGATE
    """How soup weights are searched: surrogate, grid (the paper's), race (the grid on fewer items)
    or greedy.
    """
    objective: Goal = Goal.MEAN
    """What a soup is good for: mean, weighted (by `category_weights`) or worst category."""
    category_weights: dict[str, float] = {}
    """For `weighted`: a weight for every category, such as those of the official aggregate."""
    seed: int = 0
    """Seed of the item splits and of every random choice."""
    shares: Annotated[tuple[float, float, float], AfterValidator(_shares)] = (0.4, 0.3, 0.3)
    """Shares of the select, tune and report splits."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """The chance of one false publication on a report split, over all looks at it."""
    cross_fitting: CrossFitting = CrossFitting.AUTO
    """Search once more with tune and report items in exchanged places, and decide on both: auto
    where report items alone would only show gains above 10 points, always, or never.
    """
    margin: float = Field(0.0, ge=-1, le=1)
    """Publish only if the interval's lower end for soup minus best member is above this share."""
    floor: float = Field(0.1, ge=0)
    """No category may fall by more than this share against the best member."""

    compute_hours_per_day: float = Field(24.0, gt=0)
    """Hours of computing per day, after which no further candidate is scored. Searches, soups and
    routers count too, and so do steps that fail."""
    download_gb_per_day: float = Field(500.0, gt=0)
    """Gigabytes of candidates' weights per day."""
    max_gb: float = Field(50.0, gt=0)
    """The largest candidate that is looked at, in gigabytes."""
    allow: tuple[str, ...] = ()
    """Authors to look at; empty means everyone."""
    deny: tuple[str, ...] = ()
    """Authors never to look at."""
    order: Order = Order.NEWEST
    """Which admitted candidate is scored next; `authors` goes round the authors in turn."""
    allow_private: bool = False
    """Score candidates without a known licence, for a private soup only; needs `private`."""
    private: bool = False
    """Keep the published repositories private. What was private once, only a person shows."""

    @property
    def aim(self) -> Objective:
        """What the search maximises and the gate compares. What the floor would refuse is not
        sought."""
        return Objective(self.objective, self.category_weights or None, floor=self.floor)

    @model_validator(mode="after")
    def _objective_is_whole(self) -> BaseSection:
        _ = self.aim
        return self

    @model_validator(mode="after")
    def _stays_private(self) -> BaseSection:
        if self.allow_private and not self.private:
            raise ValueError("allow_private is for private soups only: set private = true too")
        return self
