"""The arithmetic of a soup, one block at a time.

Definition. With integer numerators n_k over one denominator d, in the order of the members'
content digests,

    s = fl64(... fl64(fl64(n_1 x_1) + fl64(n_2 x_2)) ... + fl64(n_K x_K))
    y = round_to_nearest_even(fl64(s / d), output dtype)

x_k may be bfloat16, float16, float32 or float64. Everything is element-wise and rounding happens at
fixed places, so neither block size nor thread count can change a byte. `merge.definition` says the
same in numpy, independently.

Two shortcuts, each proven to give the same bytes:

* A block whose sum is exact has no order. All products are multiples of one quantum q, the last bit
  of the smallest non-zero element; if sum |n_k| max|x_k| <= 2^53 q, no partial sum in any order
  rounds. Two terms commute anyway. Only for other blocks must the digests be known.
* torch rounds fp64 to bfloat16 and float16 twice, by way of fp32. The first rounding is made "to
  odd": the 29 bits that fp32 lacks are cut off, and if any was set, the last kept bit is set. What
  follows is then the right single rounding, since fp32 has at least two bits more than the target
  (Boldo and Melquiond 2008). Where a sum may be an fp32 subnormal that argument fails for bfloat16,
  and the block is rounded by `nearest`.

A compiled kernel can replace `soup_block` and `magnitudes`; the tests compare bytes, not code. Not
promised: anything about NaN payloads, which never reach an output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 17
"""Elements: accumulator and term (fp64, 1 MiB each) stay in a core's second-level cache."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating format. fraction: stored bits of the significand; bias: of the exponent."""

    bits: torch.dtype
    fraction: int
    bias: int
    largest: float

    @property
    def magnitude(self) -> int:
        """Mask of everything but the sign."""
        return int(torch.iinfo(self.bits).max)

    @property
    def infinity(self) -> int:
        """Bits of infinity; every larger magnitude is NaN."""
        return (2 * self.bias + 1) << self.fraction

    def exponent(self, bits: int) -> int:
        """e with 2^e <= |x| < 2^(e+1); for subnormals the smallest normal exponent."""
        return max(bits >> self.fraction, 1) - self.bias


FORMATS: dict[torch.dtype, Format] = {
    torch.bfloat16: Format(torch.int16, 7, 127, torch.finfo(torch.bfloat16).max),
    torch.float16: Format(torch.int16, 10, 15, torch.finfo(torch.float16).max),
    torch.float32: Format(torch.int32, 23, 127, torch.finfo(torch.float32).max),
    torch.float64: Format(torch.int64, 52, 1023, torch.finfo(torch.float64).max),
}


class Space:
    """Buffers of one thread for blocks of at most `size` elements, made once and reused."""

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.size = size
        self.acc = torch.empty(size, dtype=torch.float64, device=device)
        self.term = torch.empty(size, dtype=torch.float64, device=device)
        self.single = torch.empty(size, dtype=torch.float32, device=device)

    def scratch(self, dtype: torch.dtype, n: int) -> Tensor:
        """n integers on top of `term`, free until the next product is made."""
        return self.term.view(dtype)[:n]


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


def magnitudes(block: Tensor, space: Space) -> Magnitudes:
    """Smallest non-zero and largest magnitude of a 1-D float block, by integer comparison."""
    form = FORMATS[block.dtype]
    if not block.numel():
        return Magnitudes(form, 0, 0)
    bits = space.scratch(form.bits, block.numel())
    torch.bitwise_and(block.view(form.bits), form.magnitude, out=bits)
    low, high = (int(end) for end in bits.aminmax())
    if low == 0 < high:  # zeros wrap around to the largest magnitude and no longer win
        low = int(bits.sub_(1).bitwise_and_(form.magnitude).amin()) + 1
    return Magnitudes(form, low, high)


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
    ranges: Sequence[Magnitudes], numerators: Sequence[int], denominator: int, out: torch.dtype
) -> bool:
    """False if no |y| of the block can reach beyond the largest number of `out`."""
    terms = zip(ranges, numerators, strict=True)
    bound = math.fsum(math.ldexp(abs(n) / denominator, min(r.ceiling, 900)) for r, n in terms)
    return bound >= FORMATS[out].largest


def may_be_tiny(ranges: Sequence[Magnitudes], denominator: int) -> bool:
    """False if every non-zero |y| of the block is at least 2^-126, the smallest normal fp32."""
    quanta = [r.quantum for r in ranges if r.high]
    return min(quanta, default=0) - denominator.bit_length() < -126


def soup_block(
    inputs: Sequence[Tensor],
    numerators: Sequence[int],
    denominator: int,
    out: Tensor,
    space: Space,
    *,
    tiny: bool = True,
) -> None:
    """out[i] = round(sum_k numerators[k] inputs[k][i] / denominator), as the module defines.

    inputs: K >= 1 tensors [n] of float dtypes, in summing order; out: [n], any float dtype; all on
    the device of `space`; n <= space.size; |numerators| and denominator below 2^53. tiny: whether
    results below 2^-126 may occur (see `may_be_tiny`); False is faster.
    """
    n = out.numel()
    acc, term = space.acc[:n], space.term[:n]
    acc.copy_(inputs[0])
    if numerators[0] != 1:
        acc.mul_(numerators[0])
    for x, numerator in zip(inputs[1:], numerators[1:], strict=True):
        term.copy_(x)
        if abs(numerator).bit_length() + FORMATS[x.dtype].fraction < 53:
            acc.add_(term, alpha=numerator)  # the product is exact: fused or not, same sum
        else:
            acc.add_(term.mul_(numerator))
    if denominator != 1:
        # A tensor, because CUDA multiplies by the reciprocal of a Python number.
        acc.div_(torch.tensor(denominator, dtype=torch.float64, device=acc.device))
    round_into(acc, out, space, tiny=tiny)


def round_into(acc: Tensor, out: Tensor, space: Space, *, tiny: bool = True) -> None:
    """Round fp64 [n] once, ties to even, into `out` [n] of bf16, fp16, fp32 or fp64.

    Overwrites `acc`. Values are finite.
    """
    if out.dtype in (torch.float32, torch.float64):
        out.copy_(acc)  # one hardware rounding
        return
    if tiny and out.dtype == torch.bfloat16:
        acc = nearest(acc, out.dtype)
    else:
        _round_to_odd(acc, space.term[: acc.numel()])
    single = space.single[: acc.numel()]
    single.copy_(acc)  # exact, or below every float16
    out.copy_(single)


_LOST = (1 << 29) - 1
"""The bits of an fp64 significand that fp32 does not have."""


def _round_to_odd(acc: Tensor, scratch: Tensor) -> None:
    """Cut fp64 [n] in place to fp32's significand; a set bit lost sets the last one kept."""
    bits, carry = acc.view(torch.int64), scratch.view(torch.int64)
    torch.bitwise_and(bits, _LOST, out=carry)
    carry.add_(_LOST)  # reaches bit 29 unless all lost bits were zero
    bits.bitwise_or_(carry).bitwise_and_(~_LOST)


def nearest(values: Tensor, dtype: torch.dtype) -> Tensor:
    """fp64 [n] rounded to the numbers of `dtype`, ties to even; overflow is left to the cast."""
    form = FORMATS[dtype]
    exponent = torch.frexp(values).exponent - 1
    shift = form.fraction - exponent.clamp(min=1 - form.bias)
    scale = ((shift.to(torch.int64) + 1023) << 52).view(torch.float64)  # 2^shift
    return torch.round(values * scale) / scale
