"""The page of a published router: a decoding rule for a base and an aligned model, no weights.

The page says what the rule is, how to run it, what it costs and what was measured, always with
the controls beside the router, and plainly so where the router does not beat a random switch.
"""

from dataclasses import dataclass
from types import MappingProxyType

from bot.cards import metadata
from bot.cards.escape import DIGEST, Markdown, show_label
from bot.cards.figures import Estimate
from bot.cards.models import Licence, Source
from bot.cards.render import render

TAGS = ("custom_generate", "baco", "stockpot")

RULES = MappingProxyType(
    {
        "rand": "a coin decides for every word; the threshold is the chance of the base",
        "p": "the base writes where it is unsure: its likeliest token has a probability below "
        "the threshold",
        "h": "the base writes where it is unsure: the entropy of its next token is above the "
        "threshold (in nats)",
        "punc": "the aligned model writes punctuation and line breaks, the base all else",
        "fc": "the aligned model writes function words (and, if, the ...), the base all else",
        "p-punc": "the aligned model writes punctuation and line breaks; elsewhere the base writes "
        "where its likeliest token has a probability below the threshold",
        "p-fc": "the aligned model writes function words; elsewhere the base writes where its "
        "likeliest token has a probability below the threshold",
        "h-punc": "the aligned model writes punctuation and line breaks; elsewhere the base writes "
        "where the entropy of its next token is above the threshold (in nats)",
    }
)
"""The routers of arXiv 2511.05650, section "Routers", in a reader's words."""

FORMATS = MappingProxyType(
    {
        "same": "the very token ids that the aligned model reads",
        "plain": "the prompt as plain text followed by a blank line",
        "qa": "the prompt as a question, followed by the opening of an answer",
        "urial": "a few worked questions and answers, then the prompt",
        "chat": "the prompt in the aligned model's chat template",
    }
)


@dataclass(frozen=True)
class Setting:
    """One measured point: the router at a threshold, or a control.

    `base_share` is the share of all tokens that the base wrote; `preset` names the point where
    `router.json` does.
    """

    name: str
    control: bool
    base_share: float
    threshold: float | str | None
    diversity: Estimate
    quality: Estimate
    length: Estimate
    forwards_per_token: float
    preset: str | None = None


@dataclass(frozen=True)
class Preset:
    """A named threshold of `router.json`; `share` is of the positions where the router is asked."""

    name: str
    share: float
    threshold: float | str | None


@dataclass(frozen=True)
class Comparison:
    """The router minus a random control of the same base share, paired by prompt."""

    control: str
    share: float
    control_share: float
    diversity: Estimate
    quality: Estimate


@dataclass(frozen=True)
class Indicator:
    """Coverage and Dominance of one method through its settings."""

    method: str
    settings: int
    coverage: Estimate
    dominance: Estimate


@dataclass(frozen=True)
class Gain:
    """The router's Coverage minus that of a random control, on the same resampled prompts."""

    control: str
    coverage: Estimate


@dataclass(frozen=True)
class FormatTrial:
    """The base alone under one prompt format."""

    name: str
    diversity: Estimate
    quality: Estimate


@dataclass(frozen=True)
class Method:
    """How the figures were made, as far as it differs from router to router.

    `words`: of each text that lexical measures look at; `embeddings`: what semantic ones embed
    with; `reach`: the largest base share; `block_forwards`: per token, None where there are none.
    `format_rule`: how the prompt format was chosen among `formats`; "" where it was given.
    """

    words: int
    embeddings: str
    reach: float
    block_forwards: float | None = None
    formats: tuple[FormatTrial, ...] = ()
    format_rule: str = ""


@dataclass(frozen=True)
class Sampling:
    """The sampling that was calibrated, printed in the snippet; `samples` per prompt."""

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    samples: int


@dataclass(frozen=True)
class RouterCard:
    """Everything a router's page says. `version` is the tag.

    `chat` says that the aligned model reads the prompt through its chat template.
    `beats_random` is calibration's verdict on the default setting, None where nothing was compared.
    `rule` says how presets were picked, `notes` what a reader of the figures must know.
    `gains` are the router's rows of `indicators` against each random control's.
    """

    repo: str
    version: str
    base: Source
    aligned: Source
    licence: Licence
    router: str
    threshold: float | str | None
    prompt_format: str
    chat: bool
    prompt: str
    sampling: Sampling
    settings: tuple[Setting, ...]
    diversity_name: str
    quality_name: str
    calibration_prompts: int
    report_prompts: int
    confidence: float
    against_random: tuple[Comparison, ...]
    beats_random: bool | None
    config_digest: str
    contact: str
    indicators: tuple[Indicator, ...] = ()
    gains: tuple[Gain, ...] = ()
    method: Method | None = None
    presets: tuple[Preset, ...] = ()
    rule: str = ""
    notes: tuple[str, ...] = ()
    picture: str | None = "curve.png"
    languages: tuple[str, ...] = ()
    not_for_all_audiences: bool = False

    def __post_init__(self) -> None:
        if self.router not in RULES:
            raise ValueError(f"unknown router {self.router!r}; known are {', '.join(RULES)}")
        if self.prompt_format not in FORMATS:
            raise ValueError(f"unknown prompt format {self.prompt_format!r}")
        if not DIGEST.fullmatch(self.config_digest):
            raise ValueError(f"not a config digest: {self.config_digest!r}")
        if not any(not setting.control for setting in self.settings):
            raise ValueError("a router without a measured setting")
        if (self.beats_random is None) != (not self.against_random):
            raise ValueError("a verdict on the random control needs the comparison, and only then")

    @property
    def worse(self) -> tuple[Gain, ...]:
        """The random controls that cover more than the router, beyond noise."""
        return tuple(gain for gain in self.gains if gain.coverage.high < 0)


def render_router(card: RouterCard) -> str:
    """The whole README.md of a router."""
    settings = sorted(card.settings, key=lambda s: (s.control, s.base_share, s.name))
    body = render(
        "router.md.jinja",
        card=card,
        sampling=card.sampling,
        settings=settings,
        router=Markdown(f"`-{card.router.upper()}`"),
        rule=Markdown(RULES[card.router]),
        format=Markdown(FORMATS[card.prompt_format]),
        name=show_label(card.repo.rpartition("/")[2]),
    )
    return metadata.front_matter(router_metadata(card)) + "\n" + body


def router_metadata(card: RouterCard) -> dict[str, object]:
    """The front matter as a mapping. No relation of the Hub's model tree fits, so none is named."""
    return metadata.common(
        licence=card.licence,
        base_models=[card.base.repo, card.aligned.repo],
        relation=None,
        tags=TAGS,
        languages=card.languages,
        not_for_all_audiences=card.not_for_all_audiences,
    )
