"""A simulated family with known truth: members, and every soup of them, answer items."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from merge.outcomes import Outcomes
from merge.simplex import corner
from merge.splits import Split


@dataclass(frozen=True, eq=False)
class Family:
    """An item is solved where a latent margin is above 0: the mixture of the members' margins,
    plus what mixing itself adds to or takes from the item.

    margins: [C, items, members]; mixing: [C, items].
    """

    margins: np.ndarray
    mixing: np.ndarray
    split: Split

    def __call__(self, weights: Sequence[Fraction]) -> Outcomes:
        w = np.array([float(v) for v in weights])
        latent = self.margins @ w + self.mixing * (1 - w @ w)
        return Outcomes(self.split, {f"c{k}": row > 0 for k, row in enumerate(latent)})

    @property
    def members(self) -> list[Outcomes]:
        n = self.margins.shape[2]
        return [self(corner(n, i)) for i in range(n)]


def make_family(
    n: int, seed: int, *, mixing: float = 0.3, items: int = 40, split: Split = Split.TUNE
) -> Family:
    """n specialists over 2n categories, each good at its own; mixing > 0 helps soups."""
    rng = np.random.default_rng(seed)
    own = np.arange(2 * n) % n
    skill = np.where(own[:, None] == np.arange(n), 1.4, -0.7)[:, None, :]
    difficulty = rng.normal(0, 1, (2 * n, items, 1))
    margins = skill + difficulty + rng.normal(0, 0.6, (2 * n, items, n))
    return Family(margins, mixing + rng.normal(0, 0.4, (2 * n, items)), split)


@pytest.fixture
def family():
    return make_family
