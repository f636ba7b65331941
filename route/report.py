"""All that a calibration found out, in the form in which it is published."""

from collections.abc import Mapping, Sequence

from . import measured, presets
from .bootstrap import Resampler
from .figures import Bounds, Calibration
from .indicators import Plane, Point, pooled_bounds
from .measured import Measured
from .rounds import Rounds
from .yardstick import DIVERSITY, GROUPS, QUALITY

_MEASURES = (QUALITY, *(name for names in GROUPS.values() for name in names))


def report(
    rounds: Rounds,
    curve: Sequence[Measured],
    figures: Sequence[Measured],
    chosen: Mapping[str, float],
    seen: Resampler,
    unseen: Resampler,
    default: float | None,
    bounds: Mapping[str, Bounds] | None = None,
) -> Calibration:
    """`curve`, `seen`: settings and resamples of the calibration prompts; `figures`, `unseen`: of
    the held-out ones. `chosen`: preset to share; `default`: the default's. `bounds`: else those
    of `figures`."""
    pair, ruler, yardstick = rounds.pair, rounds.ruler, rounds.yardstick
    targets = [one.target for one in figures if one.kind == "router"]
    differences = [one for target in targets for one in measured.compare(figures, target, unseen)]
    points = [Point(one.plan.method, one.values) for one in figures]
    bounds = bounds or pooled_bounds(points, _MEASURES)
    plane = Plane(points, GROUPS, QUALITY, bounds, unseen)
    rivals = dict.fromkeys(one.plan.method for one in figures if one.kind == "control")
    return Calibration(
        prompts=len(curve[0].written.texts),
        held_out_prompts=len(figures[0].written.texts),
        samples_per_prompt=pair.samples,
        max_new_tokens=pair.max_new_tokens,
        seed=pair.seed,
        diversity=DIVERSITY,
        quality=ruler.quality_name,
        rule=presets.RULE if chosen else "One setting: the router has no threshold.",
        curve=tuple(measured.setting(one, seen) for one in curve),
        held_out=tuple(measured.setting(one, unseen) for one in figures),
        against_random=tuple(differences),
        beats_random=measured.beats([one for one in differences if one.target == default]),
        notes=presets.notes(curve),
        words=yardstick.words,
        embeddings=ruler.encoder_name,
        indicators=plane.indicators(),
        gains=tuple(plane.gain(str(pair.config.router), rival) for rival in rivals),
        bounds=dict(bounds),
    )
