"""Which base share to recommend: three presets by one rule."""

from collections.abc import Sequence

import numpy as np

from .bootstrap import Resampler, Values, interval
from .figures import Estimate
from .measured import Measured, only
from .yardstick import DIVERSITY, QUALITY

#: How much of the aligned model's lead over the base in quality a preset keeps, at least.
FLOORS = {"safe": 0.9, "balanced": 0.75, "wild": 0.5}
DEFAULT = "balanced"
RULE = (
    "Each preset is the share of largest diversity whose quality keeps at least the given part of "
    "the aligned model's lead over the base alone, by the lower end of a 95 % bootstrap interval "
    "over calibration prompts ("
    + ", ".join(f"{name} {floor:.0%}" for name, floor in FLOORS.items())
    + "); where no share does, the smallest share."
)


def choose(curve: Sequence[Measured], resampler: Resampler) -> dict[str, float]:
    """Name to share, by `RULE`, from the settings measured on the calibration prompts."""
    aligned, base = only(curve, "aligned").values[QUALITY], only(curve, "base").values[QUALITY]
    routed = [one for one in curve if one.kind == "router"]
    kept = [part_kept(one.values[QUALITY], aligned, base, resampler) for one in routed]
    presets = {}
    for name, floor in FLOORS.items():
        able = [one for one, part in zip(routed, kept, strict=True) if part.low >= floor]
        best = max(able, key=lambda one: one.values[DIVERSITY].mean(), default=routed[0])
        assert best.target is not None
        presets[name] = best.target
    return presets


def part_kept(quality: Values, aligned: Values, base: Values, resampler: Resampler) -> Estimate:
    """(q - q_base) / (q_aligned - q_base): 1 is the aligned model, 0 the base. All [P].

    A base that is no worse leaves nothing to lose: 1.
    """
    lead = float((aligned - base).mean())
    if lead <= 0:
        return Estimate(1.0, 1.0, 1.0)
    leads = resampler.means(aligned - base)
    gains = resampler.means(quality - base)
    parts = np.where(leads > 0, gains / np.where(leads > 0, leads, 1.0), 1.0)
    return interval(float((quality - base).mean()) / lead, parts)


def notes(curve: Sequence[Measured]) -> tuple[str, ...]:
    """What a reader of the presets must know."""
    if only(curve, "aligned").values[QUALITY].mean() > only(curve, "base").values[QUALITY].mean():
        return ()
    return (
        "The base alone scores no worse than the aligned model: presets follow diversity only.",
    )
