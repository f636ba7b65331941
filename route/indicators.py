"""Coverage and Dominance: how much of the plane of diversity and quality a method holds.

A *method* is a way of writing with several settings (a router through its shares, the aligned model
through its temperatures); a setting is one point per subspace, its diversity and quality averaged
over prompts. One *subspace* is a diversity measure beside the quality measure. The two indicators
are those of BACo (arXiv 2511.05650); the text gives them in words, so the exact form is ours:

* Both axes are scaled by fixed bounds, low -> 0 and high -> 1: per subspace the range of all points
  of the first pool measured. They are part of the result, so that another pool can be given them.
* Coverage of a method = area of the union of the rectangles [0, d] x [0, q] over its points; what
  lies below a bound counts 0, what lies above counts in full.
* Dominance of a method = its part of the Pareto front of all points pooled; points that coincide
  share one place. The parts of all methods sum to 1, so it depends on who is in the pool.
* Averaged over the subspaces of a group (lexical, semantic), then over the groups.

Intervals are percentiles over resampled prompts under the same bounds. Not promised: comparability
of methods with different numbers of settings (more points never cover less), or of Dominance
between pools. Rectangles leave corners open, so of two methods on the same curve the one whose
settings are spread more evenly covers more: see the points before a small difference is believed. A
maximum of noisy points is biased upwards, alike for methods of equal size: trust the differences
rather than the levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bootstrap import Resampler, Values, interval
from .figures import Bounds, Estimate, Gain, Indicator

Groups = Mapping[str, Sequence[str]]
"""Group to the names of its diversity measures."""


@dataclass(frozen=True)
class Point:
    """One setting of a method."""

    method: str
    values: Mapping[str, Values]  # measure to [P], the quality among them


def pooled_bounds(points: Sequence[Point], measures: Sequence[str]) -> dict[str, Bounds]:
    """The range of every measure over the points, on averages over prompts."""
    means = {m: [float(point.values[m].mean()) for point in points] for m in measures}
    return {m: Bounds(round(min(v), 6), round(max(v), 6)) for m, v in means.items()}


def covered(across: Values, up: Values) -> Values:
    """Area of the union of [0, d] x [0, q] over n points. [..., n], [..., n] -> [...]

    From right to left, each strip is as high as the highest point at or beyond it.
    """
    across, up = np.maximum(across, 0), np.maximum(up, 0)
    order = np.argsort(-across, axis=-1, kind="stable")
    d = np.take_along_axis(across, order, -1)
    heights = np.maximum.accumulate(np.take_along_axis(up, order, -1), axis=-1)
    widths = d - np.concatenate([d[..., 1:], np.zeros_like(d[..., :1])], axis=-1)
    return np.asarray((widths * heights).sum(-1))


def front(across: Values, up: Values) -> Values:
    """Each point's part of the Pareto front of its n points, in all 1. [..., n] -> [..., n]"""
    d, e = across[..., :, None], across[..., None, :]
    q, r = up[..., :, None], up[..., None, :]
    beaten = ((e >= d) & (r >= q) & ((e > d) | (r > q))).any(-1)
    places = np.where(beaten, 0.0, 1.0 / ((e == d) & (r == q)).sum(-1))
    return np.asarray(places / places.sum(-1, keepdims=True))


class Plane:
    """All points under fixed bounds, for the averages and for every resample of the prompts."""

    def __init__(
        self,
        points: Sequence[Point],
        groups: Groups,
        quality: str,
        bounds: Mapping[str, Bounds],
        resampler: Resampler,
    ) -> None:
        self._groups, self._resampler = groups, resampler
        self._methods = np.array([point.method for point in points])
        up = self._scale(points, quality, bounds[quality])
        names = [name for group in groups.values() for name in group]
        across = {name: self._scale(points, name, bounds[name]) for name in names}
        self._across, self._up = across, up  # [1 + R, n] each, the averages first
        self._fronts = {name: front(across[name], up) for name in names}

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(map(str, self._methods)))

    def indicators(self) -> tuple[Indicator, ...]:
        """Both indicators of every method."""
        return tuple(
            Indicator(
                method=method,
                settings=int(self._own(method).sum()),
                coverage=_estimate(self._coverage(method)),
                dominance=_estimate(self._dominance(method)),
                groups={
                    group: _estimate(self._group_coverage(method, group)) for group in self._groups
                },
            )
            for method in self.methods
        )

    def gain(self, method: str, control: str) -> Gain:
        """Coverage of `method` minus that of `control`, on the same resamples."""
        return Gain(control, _estimate(self._coverage(method) - self._coverage(control)))

    def _scale(self, points: Sequence[Point], measure: str, bounds: Bounds) -> Values:
        values = np.stack([point.values[measure] for point in points], 1)  # [P, n]
        means = np.concatenate([values.mean(0)[None], self._resampler.means(values)])
        return np.asarray((means - bounds.low) / ((bounds.high - bounds.low) or 1.0))

    def _own(self, method: str) -> npt.NDArray[np.bool_]:
        return np.asarray(self._methods == method)

    def _coverage(self, method: str) -> Values:
        return _average([self._group_coverage(method, group) for group in self._groups])

    def _group_coverage(self, method: str, group: str) -> Values:
        own = self._own(method)
        up = self._up[:, own]
        return _average([covered(self._across[name][:, own], up) for name in self._groups[group]])

    def _dominance(self, method: str) -> Values:
        own = self._own(method)
        parts = {name: places[:, own].sum(-1) for name, places in self._fronts.items()}
        groups = self._groups.values()
        return _average([_average([parts[name] for name in names]) for names in groups])


def _average(parts: Sequence[Values]) -> Values:
    return np.asarray(np.mean(parts, axis=0))


def _estimate(values: Values) -> Estimate:
    return interval(float(values[0]), values[1:])
