"""The arithmetic of a soup, one block at a time, in torch.

Definition. With integer numerators n_k over their least common denominator d, in the order of the
members' content digests,

    s = fl64(... fl64(fl64(n_1 x_1) + fl64(n_2 x_2)) ... + fl64(n_K x_K))
    y = round_to_nearest_even(fl64(s / d), output dtype)

x_k may be bfloat16, float16, float32 or float64. Everything is element-wise and rounding happens at
fixed places, so neither block size nor thread count can change a byte. `merge.definition` says the
same in numpy, independently; `merge/blend.c` is the compiled kernel, which is used where it was
built. The tests compare bytes, not code.

torch rounds fp64 to bfloat16 and float16 twice, by way of fp32. The first rounding is made "to
odd": the 29 bits that fp32 lacks are cut off, and if any was set, the last kept bit is set. What
follows is then the right single rounding, since fp32 has at least two bits more than the target
(Boldo and Melquiond 2008). Where a sum may be an fp32 subnormal that argument fails for bfloat16,
and the block is rounded by `nearest`.

fp32 accumulators are not used here: they lose bits where the members' elements lie too many binades
apart. The compiled kernel uses them element by element where it can prove that none is lost.

Not promised: anything about NaN payloads, which never reach an output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge.definition import decode
from merge.lora import LowRank, adapted
from merge.ranges import FORMATS, Magnitudes, may_be_tiny, may_overflow

PART = 1 << 17
"""Elements: smaller parts spend their time between operations, larger ones outside the caches."""

TORCH: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip
NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in TORCH.items()}
_INTEGERS = {16: torch.int16, 32: torch.int32, 64: torch.int64}


class TorchKernel:
    """The kernel of one thread; blocks of any size."""

    def __init__(self) -> None:
        self._space = Space(PART)

    def mix(
        self,
        inputs: Sequence[tuple[NDArray[np.uint8], str]],
        numerators: Sequence[int],
        denominator: int,
        out: tuple[NDArray[np.uint8], str],
        known: Sequence[Magnitudes] | None = None,
    ) -> list[Magnitudes]:
        """Mix bytes with their dtypes into `out`, bytes of n elements.

        Returns the magnitudes of every input, then of the output, (0, 0) where it cannot overflow.
        known: those of the inputs, if measured before. Where an input is not finite nothing is
        mixed.
        """
        terms = [_floats(*x) for x in inputs]
        result = _floats(*out)
        ranges = list(known or (self._magnitudes(x) for x in terms))
        if not all(found.finite for found in ranges):
            return [*ranges, Magnitudes(FORMATS[out[1]], 0, 0)]
        tiny = may_be_tiny(ranges, denominator)
        for at in range(0, len(result), self._space.size):
            part = slice(at, at + self._space.size)
            parts = [x[part] for x in terms]
            soup_block(parts, numerators, denominator, result[part], self._space, tiny=tiny)
        if may_overflow(ranges, numerators, denominator, FORMATS[out[1]]):
            return [*ranges, self._magnitudes(result)]
        return [*ranges, Magnitudes(FORMATS[out[1]], 0, 0)]

    def adapt(
        self,
        weight: tuple[NDArray[np.uint8], str],
        parts: Iterable[LowRank],
        out: NDArray[np.float64],
    ) -> None:
        """out = W + s B A, fp64 [n], for the n elements of `weight`, bytes with their dtype."""
        out[:] = adapted(decode(*weight), parts)

    def _magnitudes(self, x: Tensor) -> Magnitudes:
        form = FORMATS[NAMES[x.dtype]]
        size = self._space.size
        found = [magnitudes(x[at : at + size], self._space) for at in range(0, len(x), size)]
        low = min((one.low for one in found if one.high), default=0)
        return Magnitudes(form, low, max((one.high for one in found), default=0))


def _floats(data: NDArray[np.uint8], dtype: str) -> Tensor:
    return torch.from_numpy(data).view(TORCH[dtype])


class Space:
    """Buffers of one thread for blocks of at most `size` elements, made once and reused."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.acc = torch.empty(size, dtype=torch.float64)
        self.term = torch.empty(size, dtype=torch.float64)
        self.single = torch.empty(size, dtype=torch.float32)

    def scratch(self, dtype: torch.dtype, n: int) -> Tensor:
        """n integers on top of `term`, free until the next product is made."""
        return self.term.view(dtype)[:n]


def magnitudes(block: Tensor, space: Space) -> Magnitudes:
    """Smallest non-zero and largest magnitude of a 1-D float block, by integer comparison."""
    form = FORMATS[NAMES[block.dtype]]
    if not block.numel():
        return Magnitudes(form, 0, 0)
    integers = _INTEGERS[form.width]
    bits = space.scratch(integers, block.numel())
    torch.bitwise_and(block.view(integers), form.magnitude, out=bits)
    low, high = (int(end) for end in bits.aminmax())
    if low == 0 < high:  # zeros wrap around to the largest magnitude and no longer win
        low = int(bits.sub_(1).bitwise_and_(form.magnitude).amin()) + 1
    return Magnitudes(form, low, high)


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

    inputs: K >= 1 tensors [n] of float dtypes, in summing order; out: [n], any float dtype;
    n <= space.size; |numerators| and denominator at most 2^53. tiny: whether results below 2^-126
    may occur (see `may_be_tiny`); False is faster.
    """
    n = out.numel()
    acc, term = space.acc[:n], space.term[:n]
    acc.copy_(inputs[0])
    if numerators[0] != 1:
        acc.mul_(numerators[0])
    for x, numerator in zip(inputs[1:], numerators[1:], strict=True):
        term.copy_(x)
        if abs(numerator).bit_length() + FORMATS[NAMES[x.dtype]].fraction < 53:
            acc.add_(term, alpha=numerator)  # the product is exact: fused or not, same sum
        else:
            acc.add_(term.mul_(numerator))
    if denominator != 1:
        acc.div_(denominator)
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
    form = FORMATS[NAMES[dtype]]
    exponent = torch.frexp(values).exponent - 1
    shift = form.fraction - exponent.clamp(min=1 - form.bias)
    scale = ((shift.to(torch.int64) + 1023) << 52).view(torch.float64)  # 2^shift
    return torch.round(values * scale) / scale
