"""One way of writing with what came out of it, and how two of them compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Resampler, Values
from .config import PromptFormat
from .figures import Difference, Setting
from .sampling import Way, Written
from .yardstick import DIVERSITY, LENGTH, QUALITY


@dataclass(frozen=True)
class Plan:
    """A way of writing to be measured."""

    name: str
    """For readers."""
    kind: str
    """"router", "control", "aligned" or "base"; "trial" where only the signal counts."""
    method: str
    """What it is a setting of, for Coverage: a router's name, "aligned", "min-p" or "base"."""
    way: Way
    target: float | None = None
    """The base share asked for."""
    prompt_format: PromptFormat | None = None
    """What the base reads, where it is not what the pair is set to."""


@dataclass(frozen=True)
class Measured:
    """A plan, the texts it gave, and their measures by name, [P] each."""

    plan: Plan
    written: Written
    values: Mapping[str, Values]

    @property
    def kind(self) -> str:
        return self.plan.kind

    @property
    def target(self) -> float | None:
        return self.plan.target

    @property
    def base_asked(self) -> Values:
        """Positions where the router was asked and the base wrote. [P]"""
        return np.asarray(self.written.base_asked.numpy(), dtype=np.float64)

    @property
    def asked(self) -> Values:
        """Positions where the router was asked. [P]"""
        return np.asarray(self.written.asked.numpy(), dtype=np.float64)


def only(settings: Sequence[Measured], kind: str) -> Measured:
    """The first setting of that kind."""
    return next(one for one in settings if one.kind == kind)


def setting(one: Measured, resampler: Resampler) -> Setting:
    """The figures of one setting as they are published."""
    written, way = one.written, one.plan.way
    routed = one.kind in ("router", "control")
    named = (QUALITY, DIVERSITY, LENGTH)
    return Setting(
        name=one.plan.name,
        kind=one.kind,
        temperature=way.temperature,
        diversity=resampler.mean(one.values[DIVERSITY]),
        quality=resampler.mean(one.values[QUALITY]),
        length=resampler.mean(one.values[LENGTH]),
        share=resampler.ratio(one.base_asked, one.asked),
        token_share=round(float(written.base_tokens.sum() / written.tokens.sum()), 6),
        forwards_per_token=round(written.forwards / written.steps, 6),
        more={name: resampler.mean(v) for name, v in one.values.items() if name not in named},
        router=way.router if routed else None,
        threshold=way.threshold if routed else None,
        target=one.target,
        min_p=way.min_p,
    )


def compare(
    settings: Sequence[Measured], target: float | None, resampler: Resampler
) -> list[Difference]:
    """The router at one share minus each random control at that share, paired by prompt."""
    at_share = [one for one in settings if one.target == target]
    router = only(at_share, "router")
    return [
        Difference(
            control=control.plan.way.router,
            share=resampler.ratio(router.base_asked, router.asked),
            control_share=resampler.ratio(control.base_asked, control.asked),
            diversity=resampler.mean(router.values[DIVERSITY] - control.values[DIVERSITY]),
            quality=resampler.mean(router.values[QUALITY] - control.values[QUALITY]),
            target=target,
        )
        for control in at_share
        if control.kind == "control"
    ]


def beats(differences: Sequence[Difference]) -> bool | None:
    """Better than every control on one axis beyond noise, and not worse beyond noise on the other.

    None where nothing was compared.
    """
    if not differences:
        return None
    return all(
        max(one.diversity.low, one.quality.low) > 0
        and min(one.diversity.high, one.quality.high) >= 0
        for one in differences
    )
