"""What a calibration is asked for, beside its pair and its prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import presets
from .config import PromptFormat
from .figures import Bounds
from .generate import Execution
from .measured import Plan
from .plans import aligned_alone
from .rounds import Ruler
from .rules import Router, Side

MIN_P = 0.1
"""Of the min-p control."""


@dataclass(frozen=True)
class Controls:
    """The aligned model alone: at these temperatures, and with min-p at those; random routing.

    `plain_random`: off, a router with a content rule is compared only with random routing that has
    the same rule, which is the nearer rival; for pairs that are dear to run.
    """

    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3, 1.6)
    min_p_temperatures: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0)
    plain_random: bool = True

    def plans(self) -> list[Plan]:
        with_min_p = [aligned_alone(t, MIN_P) for t in self.min_p_temperatures]
        return [*(aligned_alone(t) for t in self.temperatures), *with_min_p]

    def rivals(self, router: Router) -> tuple[Router, ...]:
        """The random routers that `router` is compared with."""
        if router is router.control:
            return ()
        if router.doubt is None or router.content is None:
            return (Router.RAND,)
        return (Router.RAND, router.control) if self.plain_random else (router.control,)


@dataclass(frozen=True)
class Study:
    """A router and what is measured of it. Raises ValueError for an unknown preset."""

    router: Router = Router.P_PUNC
    shares: Sequence[float] = (0.1, 0.2, 0.35)
    """Base shares over the positions where the router is asked; ignored by -PUNC and -FC, whose
    share is fixed."""
    preset: str = presets.DEFAULT
    """The one that is the default."""
    prompt_format: PromptFormat | Sequence[PromptFormat] = PromptFormat.SAME
    """The base's, or those to choose among."""
    controls: Controls = field(default_factory=Controls)
    aligned_prefix: int = 0
    """This and the next as in `route.rules.Policy`, for the router and its random controls. There
    is no veto, which would take from a share after it was set."""
    content_reads: Side = Side.BASE
    seed: int = 0
    samples_per_prompt: int = 4
    max_new_tokens: int = 64
    ruler: Ruler = field(default_factory=Ruler)
    """How texts are judged."""
    bounds: Mapping[str, Bounds] | None = None
    """The scale of Coverage by measure, where another calibration has fixed it."""
    batch_rows: int = 128
    execution: Execution = Execution.EAGER

    def __post_init__(self) -> None:
        if self.preset not in presets.FLOORS:
            known = ", ".join(presets.FLOORS)
            raise ValueError(f"no preset {self.preset!r}; there are {known}")

    @property
    def targets(self) -> list[float]:
        """The shares to calibrate to, each once; none where the share is fixed."""
        return sorted(set(self.shares)) if self.router.doubt is not None else []

    @property
    def formats(self) -> Sequence[PromptFormat]:
        given = self.prompt_format
        return [given] if isinstance(given, PromptFormat) else given

    @property
    def rivals(self) -> tuple[Router, ...]:
        """The random routers that the router is compared with."""
        return self.controls.rivals(self.router)
