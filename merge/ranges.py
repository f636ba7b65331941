"""Smallest and largest magnitude of a block, and what they prove about its sum. No torch.

A sum that is exact has no order. All products n_k x_k are multiples of one quantum q, the last bit
of the smallest non-zero element; if sum |n_k| max|x_k| <= 2^53 q, no partial sum in any order
rounds. Two terms commute anyway. Only for other blocks must the members' digests be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BLOCK = 1 << 19
"""Elements: 1 MiB of bfloat16; the sums of larger ones leave the caches."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating format. fraction: stored bits of the significand; bias: of the exponent."""

    width: int
    fraction: int
    bias: int

    @property
    def magnitude(self) -> int:
        """Mask of everything but the sign."""
        return (1 << (self.width - 1)) - 1

    @property
    def infinity(self) -> int:
        """Bits of infinity; every larger magnitude is NaN."""
        return (2 * self.bias + 1) << self.fraction

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0**-self.fraction) * 2.0**self.bias

    def exponent(self, bits: int) -> int:
        """e with 2^e <= |x| < 2^(e+1); for subnormals the smallest normal exponent."""
        return max(bits >> self.fraction, 1) - self.bias


FORMATS: Mapping[str, Format] = {
    "BF16": Format(16, 7, 127),
    "F16": Format(16, 10, 15),
    "F32": Format(32, 23, 127),
    "F64": Format(64, 52, 1023),
}


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """Bits of the smallest non-zero and the largest |x| of a block; (0, 0) if all are zero."""

    format: Format
    low: int
    high: int

    @property
    def finite(self) -> bool:
        return self.high < self.format.infinity

    @property
    def quantum(self) -> int:
        """Every element is a multiple of 2^quantum."""
        return self.format.exponent(self.low) - self.format.fraction

    @property
    def ceiling(self) -> int:
        """Every |x| < 2^ceiling."""
        return self.format.exponent(self.high) + 1


def order_free(ranges: Sequence[Magnitudes], numerators: Sequence[int]) -> bool:
    """True if the fp64 sum is the same in every order: two terms, or provably no rounding."""
    if len(ranges) <= 2:
        return True
    terms = [(r, abs(n)) for r, n in zip(ranges, numerators, strict=True) if r.high]
    if not terms:
        return True
    quantum = min(r.quantum for r, _ in terms)
    return sum(n << (r.ceiling - quantum) for r, n in terms) <= 1 << 53


def may_overflow(
    ranges: Sequence[Magnitudes], numerators: Sequence[int], denominator: int, out: Format
) -> bool:
    """False if no sum of the block leaves fp64, and no |y| reaches the largest number of `out`."""
    terms = [(r.ceiling, abs(n)) for r, n in zip(ranges, numerators, strict=True) if r.high]
    low = min((ceiling for ceiling, _ in terms), default=0)
    bound = sum(n << (ceiling - low) for ceiling, n in terms)  # times 2^low
    largest = int(out.largest) * denominator
    if bound.bit_length() + low > FORMATS["F64"].bias:
        return True
    return bound << max(low, 0) >= largest << max(-low, 0)


def may_be_tiny(ranges: Sequence[Magnitudes], denominator: int) -> bool:
    """False if every non-zero |y| of the block is at least 2^-126, the smallest normal fp32."""
    quanta = [r.quantum for r in ranges if r.high]
    return min(quanta, default=0) - denominator.bit_length() < -126
