"""The value of a soup's element, said a second time and differently: numpy, no shared code.

Used to recompute random blocks of a written soup, and in tests. Slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGNIFICAND = {"BF16": (8, -126), "F16": (11, -14), "F32": (24, -126), "F64": (53, -1022)}
"""Bits of precision and smallest normal exponent."""
CARRIER = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


def decode(raw: bytes | NDArray[np.uint8], dtype: str) -> NDArray[np.float64]:
    """Little-endian bytes of a safetensors float dtype as fp64 [n], exactly."""
    with np.errstate(invalid="ignore"):  # a NaN that signals; it is found as one later
        if dtype == "BF16":
            wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).astype(np.float64)
        return np.frombuffer(raw, np.dtype(CARRIER[dtype]).newbyteorder("<")).astype(np.float64)


def blend(
    members: Sequence[NDArray[np.float64]], numerators: Sequence[int], denominator: int
) -> NDArray[np.float64]:
    """sum_k n_k x_k / d in fp64, in the order given; members and result [n]."""
    total = members[0] * np.float64(numerators[0])
    for x, n in zip(members[1:], numerators[1:], strict=True):
        total = total + x * np.float64(n)
    return np.asarray(total / np.float64(denominator))


def encode(values: NDArray[np.float64], dtype: str) -> bytes:
    """fp64 [n] rounded once, ties to even, to the bytes of `dtype`; overflow gives infinity."""
    if dtype == "F64":
        return values.astype("<f8").tobytes()
    precision, smallest = SIGNIFICAND[dtype]
    exponent = np.maximum(np.frexp(values)[1] - 1, smallest)
    ulp = exponent - (precision - 1)
    rounded = np.ldexp(np.rint(np.ldexp(values, -ulp)), ulp)  # np.rint rounds ties to even
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            single = rounded.astype("<f4")
            return bytes((single.view("<u4") >> 16).astype("<u2").tobytes())
        return bytes(rounded.astype(np.dtype(CARRIER[dtype]).newbyteorder("<")).tobytes())
