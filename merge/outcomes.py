"""Item outcomes of one model on one split: per category, right or wrong per item.

Outcomes carry their split, and the consumers check it: selection takes select items, search takes
tune items, the gate takes report items. A vector may be partly filled (a race evaluates a subset
first); the bit string then has "-" at the items not evaluated.

Not promised: that position i means the same item in two outcomes. The caller keeps the item order
of a split fixed (it is part of the benchmark's digest); only lengths are checked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from merge.splits import Leak, Split

Bits = NDArray[np.int8]  # [n items]: 1 right, 0 wrong, -1 not evaluated
_SYMBOLS = {-1: "-", 0: "0", 1: "1"}
_VALUES = {ord("-"): -1, ord("0"): 0, ord("1"): 1}


@dataclass(frozen=True)
class Score:
    """Share of right answers in [0, 1], the items behind it, and its standard error as if items
    were independent (sample standard deviation / sqrt(n); nan below two items)."""

    value: float
    n: int
    stderr: float


@dataclass(frozen=True, eq=False)
class Outcomes:
    """values: category -> [n items of the split] int8 of 1, 0 or -1 (not evaluated)."""

    split: Split
    values: Mapping[str, Bits]

    def __post_init__(self) -> None:
        checked = {category: _checked(category, bits) for category, bits in self.values.items()}
        if not checked:
            raise ValueError("outcomes need at least one category")
        object.__setattr__(self, "values", MappingProxyType(checked))

    @classmethod
    def from_bits(cls, split: Split, bits: Mapping[str, str]) -> Outcomes:
        """From "0101-" strings. Raises ValueError naming category and position otherwise."""
        return cls(Split(split), {category: _parse(category, b) for category, b in bits.items()})

    def to_bits(self) -> dict[str, str]:
        return {c: "".join(_SYMBOLS[v] for v in bits.tolist()) for c, bits in self.values.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes):
            return NotImplemented
        return self.split is other.split and self.to_bits() == other.to_bits()

    __hash__ = None  # type: ignore[assignment]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def sizes(self) -> dict[str, int]:
        """Items per category, evaluated or not."""
        return {category: len(bits) for category, bits in self.values.items()}

    @cached_property
    def n_evaluated(self) -> int:
        return sum(int((bits >= 0).sum()) for bits in self.values.values())

    @property
    def complete(self) -> bool:
        return self.n_evaluated == sum(len(bits) for bits in self.values.values())

    def score(self, category: str) -> Score:
        """Over the evaluated items; raises ValueError where there is none."""
        bits = self.values[category]
        seen = bits[bits >= 0]
        n = len(seen)
        if n == 0:
            raise ValueError(f"category {category!r} has no evaluated item")
        value = float(seen.mean())
        stderr = math.sqrt(value * (1 - value) / (n - 1)) if n > 1 else math.nan
        return Score(value, n, stderr)

    def scores(self) -> NDArray[np.float64]:
        """[C] shares of right answers, in the order of `categories`."""
        return np.array([self.score(category).value for category in self.values])

    def macro(self) -> float:
        """Unweighted mean over categories."""
        return float(self.scores().mean())

    def merged(self, other: Outcomes) -> Outcomes:
        """Both sets of evaluated items. Raises ValueError where the two disagree on an item."""
        require_paired([self, other])
        merged = {}
        for category, mine in self.values.items():
            theirs = other.values[category]
            clash = (mine >= 0) & (theirs >= 0) & (mine != theirs)
            if clash.any():
                raise ValueError(f"{category!r} item {int(clash.argmax())}: two different outcomes")
            merged[category] = np.maximum(mine, theirs)
        return Outcomes(self.split, merged)

    def take(self, positions: Mapping[str, Sequence[int] | NDArray[np.intp]]) -> Outcomes:
        """Only the items at `positions` (category -> indices), in that order."""
        return Outcomes(
            self.split, {c: self.values[c][np.asarray(p, np.intp)] for c, p in positions.items()}
        )

    def only(self, positions: Mapping[str, NDArray[np.intp]]) -> Outcomes:
        """As if no other items than those at `positions` had been evaluated."""
        masked = {c: np.full(len(bits), -1, np.int8) for c, bits in self.values.items()}
        for c, p in positions.items():
            masked[c][p] = self.values[c][p]
        return Outcomes(self.split, masked)

    def require(self, split: Split, where: str) -> None:
        """Raises Leak unless these are outcomes of `split`."""
        if self.split is not split:
            raise Leak(split, f"outcomes of the {self.split} split", where)

    def require_complete(self, where: str) -> None:
        if not self.complete:
            raise ValueError(f"{where} needs every item evaluated")


def require_paired(outcomes: Sequence[Outcomes]) -> None:
    """Raises ValueError unless all are on the same split, categories (order too) and items."""
    first = outcomes[0]
    for other in outcomes[1:]:
        if other.split is not first.split:
            raise ValueError(f"not paired: {first.split} and {other.split} items")
        if list(other.sizes.items()) != list(first.sizes.items()):
            raise ValueError(f"not paired: items per category {first.sizes} and {other.sizes}")


def _parse(category: str, text: str) -> Bits:
    codes = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
    bits = np.full(len(codes), -2, np.int8)
    for code, value in _VALUES.items():
        bits[codes == code] = value
    if (bits == -2).any():
        i = int((bits == -2).argmax())
        raise ValueError(f"category {category!r}, item {i}: {text[i]!r} is not 0, 1 or -")
    return bits


def _checked(category: str, bits: Bits) -> Bits:
    array = np.asarray(bits)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"category {category!r} needs a non-empty vector of outcomes")
    if not np.isin(array, (-1, 0, 1)).all():
        raise ValueError(f"category {category!r}: outcomes are 0, 1 or -1 (not evaluated)")
    array = array.astype(np.int8)
    array.setflags(write=False)
    return array
