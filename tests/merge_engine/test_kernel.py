"""Both kernels against the definition: numpy, and for few elements exact fractions."""

from fractions import Fraction
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge import compiled, definition
from merge.kernel import (
    NAMES,
    Space,
    TorchKernel,
    magnitudes,
    nearest,
    soup_block,
)
from merge.ranges import FORMATS, may_be_tiny, may_overflow, order_free

torch.set_num_threads(1)
SHORT = [torch.bfloat16, torch.float16, torch.float32]
INTEGERS = {16: torch.int16, 32: torch.int32, 64: torch.int64}
N = 5000
LIBRARY = compiled.open_library(Path(compiled.__file__).parent)
ENGINES = ["torch", *(range(LIBRARY.soup_level() + 1) if LIBRARY is not None else ())]
"""Torch and every instruction set of the compiled kernel that this processor has."""


@pytest.fixture(params=ENGINES)
def engine(request):
    if request.param == "torch":
        return TorchKernel()
    return compiled.CompiledKernel(LIBRARY, terms=8, level=request.param)


def raw(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def random_bits(dtype, generator, n=N):
    """All finite numbers of the format alike: every exponent, subnormals, both zeros."""
    form = FORMATS[NAMES[dtype]]
    bits = INTEGERS[form.width]
    magnitude = torch.randint(0, form.infinity, (n,), generator=generator, dtype=torch.int64)
    sign = torch.randint(0, 2, (n,), generator=generator, dtype=torch.int64)
    return (magnitude + sign * torch.iinfo(bits).min).to(bits).view(dtype)


def gaussian(dtype, generator, n=N):
    return (torch.randn(n, generator=generator, dtype=torch.float64) * 0.02).to(dtype)


def wide(dtype, generator, n=N):
    """Gaussian times powers of two over 40 binades (fp16: 12)."""
    spread = 6 if dtype == torch.float16 else 20
    power = torch.randint(-spread, spread, (n,), generator=generator).double()
    return (torch.randn(n, generator=generator, dtype=torch.float64) * 2**power).to(dtype)


def block(tensor):
    return tensor.view(torch.uint8).numpy(), NAMES[tensor.dtype]


def kernel(inputs, numerators, denominator, out_dtype, engine=None):
    """Mixed by `engine`, or by torch with the care for tiny results that the block needs."""
    out = torch.empty(inputs[0].numel(), dtype=out_dtype)
    if engine is not None:
        engine.mix([block(x) for x in inputs], numerators, denominator, block(out))
        return out
    space = Space(inputs[0].numel())
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
def test_no_element_differs_from_the_definition(
    make, dtype, out_dtype, numerators, denominator, engine
):
    generator = torch.Generator().manual_seed(crc32(f"{numerators}{dtype}".encode()))
    inputs = [make(dtype, generator) for _ in numerators]
    out = kernel(inputs, numerators, denominator, out_dtype, engine)
    assert raw(out) == defined(inputs, numerators, denominator, out_dtype)


@pytest.mark.parametrize("dtype", [*SHORT, torch.float64])
def test_all_exponents_and_mixed_inputs(dtype, engine):
    generator = torch.Generator().manual_seed(3)
    kinds = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    inputs = [random_bits(d, generator) for d in kinds]
    inputs[3] *= 2.0**-900  # fp64 beyond what the sum of four can hold is another test's matter
    out = kernel(inputs, (1, 2, 4, 3), 10, dtype, engine)
    assert raw(out) == defined(inputs, (1, 2, 4, 3), 10, dtype)


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_fuzz(data):
    """Any dtypes, any exponents, any weights with denominators up to 1,000, negative ones too."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    k = data.draw(st.integers(1, 8))
    numerators = data.draw(st.lists(st.integers(-999, 999), min_size=k, max_size=k))
    denominator = data.draw(st.integers(1, 1000))
    make = data.draw(st.sampled_from([gaussian, wide, random_bits]))
    n = data.draw(st.integers(1, 1100))
    inputs = [make(data.draw(st.sampled_from(SHORT)), generator, n) for _ in range(k)]
    out_dtype = data.draw(st.sampled_from(SHORT))
    wanted = defined(inputs, numerators, denominator, out_dtype)
    for name in ENGINES:
        chosen = compiled.CompiledKernel(LIBRARY, 8, name) if name != "torch" else TorchKernel()
        assert raw(kernel(inputs, numerators, denominator, out_dtype, chosen)) == wanted, name


@pytest.mark.parametrize("dtype", SHORT)
def test_every_rounding_of_16_bits_at_and_beside_ties(dtype, engine):
    """All 65,536 numbers, the midpoints between neighbours, and fp64's neighbours of those."""
    form = FORMATS["F16" if dtype == torch.float16 else "BF16"]
    numbers = torch.arange(form.infinity, dtype=torch.int32).to(torch.int16)
    kind = torch.float16 if dtype == torch.float16 else torch.bfloat16
    values = numbers.view(kind).double()
    ties = (values[1:] + values[:-1]) / 2
    near = [torch.nextafter(ties, torch.full_like(ties, end)) for end in (-1.0, torch.inf)]
    x = torch.cat([values, ties, *near])
    x = torch.cat([x, -x])
    out = kernel([x], (1,), 1, kind, engine)
    assert raw(out) == defined([x], (1,), 1, kind)
    assert raw(out[: len(values)]) == raw(values.to(kind))


def related(dtype, generator, members, n=N):
    """Members whose bits lie near each other, at every exponent, subnormals and the largest too."""
    form = FORMATS[NAMES[dtype]]
    bits = torch.randint(0, form.infinity, (n,), generator=generator)
    reach = 1 << torch.randint(0, form.fraction + 5, (n,), generator=generator)
    found = []
    for _ in range(members):
        moved = bits + (torch.rand(n, generator=generator) * 2 * reach).long() - reach
        sign = torch.rand(n, generator=generator) < 0.1
        magnitude = moved.clamp(0, form.infinity - 1) + sign * torch.iinfo(torch.int16).min
        found.append(magnitude.to(torch.int16).view(dtype))
    return found


@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("numerators", "denominator"),
    [((4, 3, 2, 1), 10), ((1, 2), 3), ((3, -1), 2), ((64, 63), 127), ((1,) * 8, 8),
     ((2, 3, 5, 7, 1), 18), ((1, 15), 4095), ((1, 15), 4096)],
)  # fmt: skip
@pytest.mark.parametrize("length", [1, 1023, 20_001])
def test_sums_in_fp32_change_no_element(dtype, out_dtype, numerators, denominator, length, engine):
    generator = torch.Generator().manual_seed(length)
    inputs = related(dtype, generator, len(numerators), length)
    found = kernel(inputs, numerators, denominator, out_dtype, engine)
    assert raw(found) == defined(inputs, numerators, denominator, out_dtype)


@pytest.mark.parametrize(("dtype", "one"), [(torch.bfloat16, 128), (torch.float16, 1024)])
@pytest.mark.parametrize("lowest", [1, -1])
@pytest.mark.parametrize("apart", range(21))
def test_the_last_bit_of_the_smallest_member_decides_a_tie(dtype, one, apart, lowest, engine):
    """4 x + 3 u + 2 y + z over 10, where 4 x + 3 u is a tie, and 2 y + z one bit, far below."""
    sides = range(2 * one - 60, 2 * one)
    pairs = [(x, u) for x in sides for u in sides if (4 * x + 3 * u) % 10 == 5]
    x, u = (torch.tensor(side).double() for side in zip(*pairs, strict=True))
    y = torch.arange(len(pairs)) % (one // 2) + one // 2
    scale = 2.0 ** -(one.bit_length() + 2)  # float16 has no room above
    below = [side * 2.0**-apart for side in (y, lowest - 2 * y)]
    inputs = [(side * scale).to(dtype) for side in (x, u, *below)]
    found = kernel(inputs, (4, 3, 2, 1), 10, dtype, engine)
    assert raw(found) == defined(inputs, (4, 3, 2, 1), 10, dtype)
    wanted = torch.tensor([(4 * x + 3 * u + 5 * lowest) / 10 * scale for x, u in pairs])
    if dtype == torch.bfloat16:  # the smallest of the others are subnormal
        assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("dtype", SHORT)
def test_too_large_gives_infinity(dtype, engine):
    largest = FORMATS[NAMES[dtype]].largest
    x = torch.tensor([largest, largest * 1.01, -largest * 2, 1e300, -1e308], dtype=torch.float64)
    out = torch.empty(len(x), dtype=dtype)
    assert not engine.mix([block(x)], [1], 1, block(out))[-1].finite
    assert out.tolist() == [largest, *[s * torch.inf for s in (1, -1, 1, -1)]]


@pytest.mark.parametrize("dtype", [*SHORT, torch.float64])
def test_ranges_come_with_the_sum(dtype, engine):
    generator = torch.Generator().manual_seed(4)
    inputs = [random_bits(dtype, generator) for _ in range(3)]
    inputs[1][::3] = 0
    inputs[2].zero_()
    out = torch.empty_like(inputs[0])
    found = engine.mix([block(x) for x in inputs], (1, 1, 1), 3, block(out))
    assert found[:3] == [magnitudes(x, Space(N)) for x in inputs]
    known = engine.mix(
        [block(x) for x in inputs], (1, 1, 1), 3, block(torch.empty_like(out)), found[:3]
    )
    assert known[:3] == found[:3]
    for bad in (torch.inf, -torch.inf, torch.nan):
        inputs[1][-1] = bad
        found = engine.mix([block(x) for x in inputs], (1, 1, 1), 3, block(out))
        assert [one.finite for one in found[:3]] == [True, False, True]


def test_the_callers_flushing_of_subnormals_does_not_count(engine):
    if not isinstance(engine, compiled.CompiledKernel) or not torch.set_flush_denormal(True):
        pytest.skip("torch has its guard in merge.arithmetic; or this processor cannot flush")
    try:
        x = torch.tensor([3, -32763], dtype=torch.int16).view(torch.bfloat16)
        out = torch.empty_like(x)
        engine.mix([block(x), block(x)], (1, 1), 2, block(out))
    finally:
        torch.set_flush_denormal(False)
    assert raw(out) == raw(x)


def test_near_ties_that_fool_double_rounding(engine):
    """1 + 2^-8 is halfway in bfloat16; 2^-40 more is lost in fp32 and decides in fp64."""
    tie = 1 + 2.0**-8
    x = torch.tensor([tie, tie + 2.0**-20, -tie], dtype=torch.float32)
    y = torch.tensor([2.0**-39, 0.0, -(2.0**-39)], dtype=torch.float32)
    out = kernel([x, y], (1, 1), 1, torch.bfloat16, engine)
    assert out.tolist() == [1 + 2.0**-7, 1 + 2.0**-7, -(1 + 2.0**-7)]
    assert raw(out) == defined([x, y], (1, 1), 1, torch.bfloat16)
    half = torch.tensor([1 + 2.0**-11], dtype=torch.float32)
    assert kernel([half, y[:1]], (1, 1), 1, torch.float16, engine).item() == 1 + 2.0**-10


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


def test_signed_zero_and_weight_one(engine):
    zeros = torch.tensor([0.0, -0.0], dtype=torch.bfloat16)
    assert raw(kernel([zeros], (1,), 1, torch.bfloat16, engine)) == raw(zeros)
    assert raw(kernel([zeros, zeros], (1, 1), 2, torch.bfloat16, engine)) == raw(zeros)
    generator = torch.Generator().manual_seed(1)
    for dtype in SHORT:
        x = random_bits(dtype, generator)
        assert raw(kernel([x], (1,), 1, dtype, engine)) == raw(x)
        assert raw(kernel([x, x, x], (1, 2, 4), 7, dtype, engine)) == raw(x)


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
    assert not may_overflow([big, big], (1, 1), 2, FORMATS["BF16"])
    assert may_overflow([big, big], (3, -1), 2, FORMATS["F16"])
    assert may_overflow([magnitudes(torch.tensor([1e5, 1.0]), space)], (1,), 1, FORMATS["F16"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nearest_is_idempotent_and_monotone(dtype):
    generator = torch.Generator().manual_seed(5)
    x = random_bits(dtype, generator).double()
    assert torch.equal(nearest(x, dtype), x)
    values = torch.sort(random_bits(torch.float32, generator).double() * 1e-9).values
    assert (nearest(values, dtype).diff() >= 0).all()
