"""The kernel against the definition: numpy, and for few elements exact fractions."""

from fractions import Fraction
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge import definition
from merge.kernel import (
    FORMATS,
    Space,
    magnitudes,
    may_be_tiny,
    may_overflow,
    nearest,
    order_free,
    soup_block,
)

torch.set_num_threads(1)
NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
SHORT = [torch.bfloat16, torch.float16, torch.float32]
N = 5000


def raw(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def random_bits(dtype, generator, n=N):
    """All finite numbers of the format alike: every exponent, subnormals, both zeros."""
    form = FORMATS[dtype]
    magnitude = torch.randint(0, form.infinity, (n,), generator=generator, dtype=torch.int64)
    sign = torch.randint(0, 2, (n,), generator=generator, dtype=torch.int64)
    low = torch.iinfo(form.bits).min
    return (magnitude + sign * low).to(form.bits).view(dtype)


def gaussian(dtype, generator, n=N):
    return (torch.randn(n, generator=generator, dtype=torch.float64) * 0.02).to(dtype)


def wide(dtype, generator, n=N):
    """Gaussian times powers of two over 40 binades (fp16: 12)."""
    spread = 6 if dtype == torch.float16 else 20
    power = torch.randint(-spread, spread, (n,), generator=generator).double()
    return (torch.randn(n, generator=generator, dtype=torch.float64) * 2**power).to(dtype)


def kernel(inputs, numerators, denominator, out_dtype):
    space = Space(inputs[0].numel())
    out = torch.empty(inputs[0].numel(), dtype=out_dtype)
    tiny = may_be_tiny([magnitudes(x, space) for x in inputs], denominator)
    soup_block(inputs, numerators, denominator, out, space, tiny=tiny)
    careful = torch.empty_like(out)
    soup_block(inputs, numerators, denominator, careful, space)
    assert raw(out) == raw(careful)
    return out


def defined(inputs, numerators, denominator, out_dtype):
    members = [definition.decode(raw(x), NAMES[x.dtype]) for x in inputs]
    return definition.encode(definition.blend(members, numerators, denominator), NAMES[out_dtype])


WEIGHTS = [((4, 3, 2, 1), 10), ((1, 2, 4), 7), ((389, 211, 400), 1000), ((1, 1), 2), ((3, -1), 2)]


@pytest.mark.parametrize("make", [gaussian, wide])
@pytest.mark.parametrize("out_dtype", SHORT)
@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize(("numerators", "denominator"), WEIGHTS)
def test_no_element_differs_from_the_definition(make, dtype, out_dtype, numerators, denominator):
    generator = torch.Generator().manual_seed(crc32(f"{numerators}{dtype}".encode()))
    inputs = [make(dtype, generator) for _ in numerators]
    out = kernel(inputs, numerators, denominator, out_dtype)
    assert raw(out) == defined(inputs, numerators, denominator, out_dtype)


@pytest.mark.parametrize("dtype", SHORT)
def test_all_exponents_and_mixed_inputs(dtype):
    generator = torch.Generator().manual_seed(3)
    inputs = [random_bits(d, generator) for d in (torch.bfloat16, torch.float16, torch.float32)]
    out = kernel(inputs, (1, 2, 4), 7, dtype)
    assert raw(out) == defined(inputs, (1, 2, 4), 7, dtype)


def test_near_ties_that_fool_double_rounding():
    """1 + 2^-8 is halfway in bfloat16; 2^-40 more is lost in fp32 and decides in fp64."""
    tie = 1 + 2.0**-8
    x = torch.tensor([tie, tie + 2.0**-20, -tie], dtype=torch.float32)
    y = torch.tensor([2.0**-39, 0.0, -(2.0**-39)], dtype=torch.float32)
    out = kernel([x, y], (1, 1), 1, torch.bfloat16)
    assert out.tolist() == [1 + 2.0**-7, 1 + 2.0**-7, -(1 + 2.0**-7)]
    assert raw(out) == defined([x, y], (1, 1), 1, torch.bfloat16)
    half = torch.tensor([1 + 2.0**-11], dtype=torch.float32)
    assert kernel([half, y[:1]], (1, 1), 1, torch.float16).item() == 1 + 2.0**-10


@given(
    st.lists(
        st.lists(
            st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=3, max_size=3
        ),
        min_size=2,
        max_size=5,
    ),
    st.data(),
)
@settings(deadline=None)
def test_exact_sums_round_like_fractions(rows, data):
    """fp16 members with small denominators never round in fp64 before the division."""
    numerators = [data.draw(st.integers(1, 9)) for _ in rows]
    inputs = [torch.tensor(row, dtype=torch.float16) for row in rows]
    out = kernel(inputs, numerators, sum(numerators), torch.bfloat16)
    for i in range(3):
        terms = (n * Fraction(x[i].item()) for n, x in zip(numerators, inputs, strict=True))
        exact = sum(terms) / sum(numerators)
        assert Fraction(out[i].item()) == nearest_bf16(exact)


def nearest_bf16(value: Fraction) -> Fraction:
    if value == 0:
        return value
    exponent = -126
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    ulp = Fraction(2) ** (exponent - 7)
    return round(value / ulp) * ulp  # Python rounds fractions half to even


def test_signed_zero_and_weight_one():
    zeros = torch.tensor([0.0, -0.0], dtype=torch.bfloat16)
    assert raw(kernel([zeros], (1,), 1, torch.bfloat16)) == raw(zeros)
    assert raw(kernel([zeros, zeros], (1, 1), 2, torch.bfloat16)) == raw(zeros)
    generator = torch.Generator().manual_seed(1)
    for dtype in SHORT:
        x = random_bits(dtype, generator)
        assert raw(kernel([x], (1,), 1, dtype)) == raw(x)
        assert raw(kernel([x, x, x], (1, 2, 4), 7, dtype)) == raw(x)


@pytest.mark.parametrize("dtype", SHORT)
def test_magnitudes(dtype):
    generator = torch.Generator().manual_seed(2)
    space = Space(N)
    x = random_bits(dtype, generator)
    x[::7] = 0
    found = magnitudes(x, space)
    absolute = x.double().abs()
    assert 2.0 ** (found.ceiling - 1) <= absolute.max() < 2.0**found.ceiling
    multiples = x.double() / 2.0**found.quantum
    assert torch.equal(multiples, multiples.round())
    assert found.finite
    for bad in (torch.inf, -torch.inf, torch.nan):
        x[3] = bad
        assert not magnitudes(x, space).finite
    assert magnitudes(torch.zeros(4, dtype=dtype), space).high == 0
    assert magnitudes(torch.empty(0, dtype=dtype), space).high == 0


@given(st.integers(0, 2**32), st.sampled_from(SHORT), st.sampled_from([0, 3, 12, 30]))
@settings(deadline=None, max_examples=60)
def test_order_free_blocks_are_the_same_in_every_order(seed, dtype, spread):
    generator = torch.Generator().manual_seed(seed)
    power = torch.randint(0, spread + 1, (3, 64), generator=generator).double()
    values = torch.randn(3, 64, generator=generator, dtype=torch.float64) * 2**-power
    inputs = list(values.to(dtype).unbind())
    numerators = (389, 211, 400)
    space = Space(64)
    if order_free([magnitudes(x, space) for x in inputs], numerators):
        for order in [(0, 1, 2), (0, 2, 1), (1, 2, 0)]:
            exact = [Fraction(0)] * 64
            total = np.zeros(64)
            for k in order:
                total = total + numerators[k] * inputs[k].double().numpy()
                exact = [
                    e + numerators[k] * Fraction(v)
                    for e, v in zip(exact, inputs[k].double().tolist(), strict=True)
                ]
            assert [Fraction(t) for t in total.tolist()] == exact


def test_order_matters_is_noticed():
    space = Space(1)
    inputs = [torch.tensor([v]) for v in (1.0, 2.0**-60, -1.0)]
    ranges = [magnitudes(x, space) for x in inputs]
    assert not order_free(ranges, (1, 1, 1))
    assert order_free(ranges[:2], (1, 1))
    assert not torch.equal(
        kernel(inputs, (1, 1, 1), 1, torch.float32),
        kernel([inputs[0], inputs[2], inputs[1]], (1, 1, 1), 1, torch.float32),
    )


def test_tiny_results_are_foreseen():
    space = Space(2)
    small = magnitudes(torch.tensor([2.0**-100, 1.0]), space)
    assert may_be_tiny([small], 2**10)
    assert not may_be_tiny([small], 2)
    assert not may_be_tiny([magnitudes(torch.zeros(2), space)], 10)
    generator = torch.Generator().manual_seed(0)
    x = random_bits(torch.bfloat16, generator) * 2.0**-126
    y = random_bits(torch.float32, generator) * 2.0**-126
    assert may_be_tiny([magnitudes(x, Space(N)), magnitudes(y, Space(N))], 3)
    out = kernel([x, y], (1, 2), 3, torch.bfloat16)
    assert raw(out) == defined([x, y], (1, 2), 3, torch.bfloat16)


def test_overflow_is_foreseen():
    space = Space(2)
    big = magnitudes(torch.tensor([60000.0, 1.0], dtype=torch.float16), space)
    assert not may_overflow([big, big], (1, 1), 2, torch.bfloat16)
    assert may_overflow([big, big], (3, -1), 2, torch.float16)
    assert may_overflow([magnitudes(torch.tensor([1e5, 1.0]), space)], (1,), 1, torch.float16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nearest_is_idempotent_and_monotone(dtype):
    generator = torch.Generator().manual_seed(5)
    x = random_bits(dtype, generator).double()
    assert torch.equal(nearest(x, dtype), x)
    values = torch.sort(random_bits(torch.float32, generator).double() * 1e-9).values
    assert (nearest(values, dtype).diff() >= 0).all()
