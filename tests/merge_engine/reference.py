"""What a soup must be, computed without any of the engine's code: fp64 sums, one rounding.

Members are given as what they effectively are: every tensor as fp64, tied heads spelt out,
adapters applied. Buffers keep their dtype.
"""

from functools import reduce
from math import lcm

import torch

PRECISION = {torch.bfloat16: (8, -126), torch.float16: (11, -14), torch.float32: (24, -126)}
"""Bits of the significand, and the exponent below which numbers are subnormal."""


def rounded(values, dtype):
    """fp64 to the nearest number of `dtype`, ties to even: floor, remainder, parity."""
    precision, smallest = PRECISION[dtype]
    exponent = torch.frexp(values).exponent.to(torch.float64) - 1
    step = torch.exp2(exponent.clamp(min=smallest) - (precision - 1))
    low = torch.floor(values / step)
    rest = values / step - low
    odd = torch.remainder(low, 2) == 1
    up = (rest > 0.5) | ((rest == 0.5) & odd)
    exact = torch.copysign((low + up) * step, values)
    if dtype is not torch.bfloat16:
        return exact.to(dtype)
    # Some processors flush subnormals when they make bfloat16; its bits are the upper half.
    upper = exact.to(torch.float32).view(torch.int32) >> 16
    return upper.to(torch.int16).view(torch.bfloat16)


def soup(members, weights, dtype):
    """members: {name: tensor} each; weights: exact. One or two members, or sums that are exact."""
    denominator = lcm(*(weight.denominator for weight in weights))
    used = [(m, int(w * denominator)) for m, w in zip(members, weights, strict=True) if w]
    made = {}
    for name, first in used[0][0].items():
        if not first.is_floating_point():
            made[name] = first
            continue
        terms = [member[name].double() * whole for member, whole in used]
        made[name] = rounded(reduce(torch.add, terms) / denominator, dtype)
    return made


def applied(base, adapter, scales):
    """The base with low-rank products on top, summed rank by rank. adapter: {name: (A, B)}."""
    whole = {name: x.double() if x.is_floating_point() else x for name, x in base.items()}
    for name, (a, b) in adapter.items():
        product = torch.zeros_like(whole[name])
        for j in range(len(a)):
            product += torch.outer(b[:, j].double(), a[j].double())
        whole[name] = whole[name] + product * scales[name]
    return whole
