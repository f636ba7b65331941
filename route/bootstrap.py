"""Means over prompts with percentile intervals, by resampling prompts.

Prompts are the unit: texts for one prompt are not independent. Settings are compared on the same
resampled prompts, so differences are paired.
"""

import numpy as np
import numpy.typing as npt

from .figures import Estimate

Values = npt.NDArray[np.float64]  # [P], one per prompt


class Resampler:
    """The same resamples of P prompts for every quantity. Deterministic in `seed`."""

    def __init__(self, prompts: int, seed: int, times: int = 1000) -> None:
        rng = np.random.default_rng(seed)
        draws = rng.integers(prompts, size=(times, prompts))
        self._weights = np.stack([np.bincount(d, minlength=prompts) for d in draws]) / prompts

    def means(self, values: Values) -> Values:
        """The mean in each resample. [P] -> [R]"""
        return np.asarray(self._weights @ values)

    def mean(self, values: Values) -> Estimate:
        """The mean and its 95 % interval."""
        return interval(float(values.mean()), self.means(values))

    def ratio(self, above: Values, below: Values) -> Estimate:
        """sum(above) / sum(below) and its 95 % interval; 0 where nothing was counted."""
        total = float(below.sum())
        if total == 0:
            return Estimate(0.0, 0.0, 0.0)
        resampled = self.means(below)
        ratios = self.means(above) / np.where(resampled == 0, 1.0, resampled)
        return interval(float(above.sum()) / total, ratios)


def interval(value: float, resampled: Values, level: float = 0.95) -> Estimate:
    """`value` with the percentile interval of `resampled`, rounded to six digits."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(round(value, 6), round(float(low), 6), round(float(high), 6))
