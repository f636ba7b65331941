"""LoRA members against a plain fp64 reading of W + s B A; whatever is not that is refused."""

import hashlib
import json
import tracemalloc
from fractions import Fraction
from math import sqrt

import checkpoints as zoo
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from merge import lora
from merge.compiled import VARIABLE, CompiledKernel, load
from merge.concatenation import _doubtful
from merge.definition import decode
from merge.errors import Code, Refused
from merge.live import LiveSoup
from merge.lora import LowRank, _rectangles, adapted
from merge.ranges import FORMATS
from merge.readers import content_digest
from merge.soup import plan_soup, write_soup

UP = "model.layers.{}.mlp.up_proj.weight"
CONFIG = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "target_modules": ["up_proj"],
    "use_dora": False, "modules_to_save": None, "init_lora_weights": True, "fan_in_fan_out": False,
    "base_model_name_or_path": "org/base", "lora_dropout": 0.1, "rank_pattern": {},
    "alpha_pattern": {}, "use_rslora": False,
}  # fmt: skip


def adapter(folder, seed, config=None, ranks=(4, 4, 4), dtype=torch.float32, extra=None):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer, r in zip((0, 2, 10), ranks, strict=True):
        module = "base_model.model." + UP.format(layer)[: -len(".weight")]
        state[f"{module}.lora_A.weight"] = torch.randn(r, 16, generator=generator).to(dtype)
        state[f"{module}.lora_B.weight"] = torch.randn(48, r, generator=generator).to(dtype) * 0.01
    folder.mkdir()
    save_file({**state, **(extra or {})}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    return state


def whole(base, state, scales):
    """fp64 tensors of base plus adapter."""
    found = {name: x.double() for name, x in base.items()}
    for layer, s in zip((0, 2, 10), scales, strict=True):
        module = "base_model.model." + UP.format(layer)[: -len(".weight")]
        a, b = (state[f"{module}.lora_{half}.weight"].double() for half in "AB")
        found[UP.format(layer)] += s * (b @ a)
    return found


@pytest.fixture
def base(tmp_path):
    state = zoo.tensors(0)
    zoo.save(tmp_path / "base", state)
    return state


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_adapters_mix_with_full_checkpoints_and_base(base, tmp_path, dtype):
    full = zoo.tensors(1, torch.float32)
    zoo.save(tmp_path / "full", full)
    one = adapter(tmp_path / "one", 2, dtype=torch.bfloat16)
    two = adapter(
        tmp_path / "two",
        3,
        {"use_rslora": True, "alpha_pattern": {"layers.2.mlp.up_proj": 8}},
        (4, 2, 8),
    )
    states = [
        {n: x.double() for n, x in full.items()},
        whole(base, one, [6 / 4] * 3),
        whole(base, two, [6 / sqrt(4), 8 / sqrt(2), 6 / sqrt(8)]),
        {n: x.double() for n, x in base.items()},
    ]
    members = [
        (tmp_path / n, Fraction(w, 10))
        for n, w in zip(("full", "one", "two", "base"), (4, 3, 2, 1), strict=True)
    ]
    seen = set()
    for threads, window in [(1, 10**6), (3, 4096), (2, 9000)]:
        out = tmp_path / f"out{window}"
        plan = plan_soup(members, reference=tmp_path / "base", dtype=dtype)
        report = write_soup(plan, out, threads=threads, window=window, durable=False)
        seen.add(report.files["model.safetensors"].sha256)
    assert len(seen) == 1
    for name, x in zoo.load(out).items():
        exact = sum(s[name] * w / 10 for s, w in zip(states, (4, 3, 2, 1), strict=True))
        # One rounding of the exact value; fp64 noise may decide a near tie in rare elements.
        wanted = exact.to(getattr(torch, dtype))
        assert torch.allclose(
            x.double(), wanted.double(), rtol=2**-7 if dtype == "bfloat16" else 2**-23, atol=1e-12
        )
        assert (x != wanted).sum() <= 2


def test_live_equals_exported(base, tmp_path):
    adapter(tmp_path / "one", 2)
    adapter(tmp_path / "two", 3)
    folders = [tmp_path / "one", tmp_path / "two"]

    model = zoo.module_of({n: torch.zeros_like(x) for n, x in base.items()})
    live = LiveSoup(model, folders, reference=tmp_path / "base", threads=2)
    for parts in [(1, 1), (1, 0), (2, 5)]:
        weights = [Fraction(p, sum(parts)) for p in parts]
        live.write(weights)
        members = list(zip(folders, weights, strict=True))
        out = tmp_path / f"out{parts}"
        write_soup(plan_soup(members, reference=tmp_path / "base"), out, threads=1, durable=False)
        found = zoo.load(out)
        assert {n: zoo.raw(x) for n, x in model.state_dict().items()} == {
            n: zoo.raw(x) for n, x in found.items()
        }


WEIGHTS = [(1,), (1, 1), (1, 2, 4), (3, 3, 3, 1), (389, 211, 100, 300), (0, 0, 5, 5)]


@pytest.mark.parametrize("parts", WEIGHTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["smooth", "ties", "cancelling", "wide"])
def test_all_ways_to_adapt_give_the_bytes_of_the_definition(
    tmp_path, monkeypatch, kind, dtype, parts
):
    """Values made to lie on, or near, the middle between two numbers.

    The loop over ranks in numpy judges rank concatenation and the compiled kernel.
    """
    shapes = {UP.format(0): (97, 16), UP.format(2): (5, 16), UP.format(10): (1, 16), "n": (3,)}
    state = zoo.tensors(0, dtype, shapes=shapes, spread=20 if kind == "wide" else 0)
    base = zoo.save(tmp_path / "base", state)
    folders = []
    for i in range(len(parts)):
        folders.append(tmp_path / f"m{i}")
        if i == 2:  # not all members are adapters
            zoo.save(folders[-1], zoo.tensors(9, dtype, shapes=shapes))
            continue
        folders[-1].mkdir()
        draw = torch.Generator().manual_seed(i)
        halves = {}
        for name, (rows, columns) in list(shapes.items())[:3]:
            a, b = (torch.randn(s, generator=draw) for s in ((4, columns), (rows, 4)))
            if kind == "ties":  # zero rows, and a few bits that sum exactly
                b *= torch.rand(rows, 1, generator=draw) < 0.5
                a, b = (a * 4).round() / 4, (b * 4).round() / 4
            if kind == "cancelling":
                a, b = torch.ones_like(a), b * (-1) ** i * 2.0**12
            if kind == "wide":
                a *= 2.0 ** torch.randint(-30, 1, a.shape, generator=draw)
            module = f"base_model.model.{name.removesuffix('.weight')}"
            halves |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b * 2.0**-8}
        halves = {n: x.to([torch.float32, torch.bfloat16][i % 2]) for n, x in halves.items()}
        save_file(halves, folders[-1] / "adapter_model.safetensors")
        (folders[-1] / "adapter_config.json").write_text(json.dumps(CONFIG))
    weights = [Fraction(p, sum(parts)) for p in parts]
    model = zoo.module_of({n: torch.zeros(s, dtype=dtype) for n, s in shapes.items()})
    plan = plan_soup(list(zip(folders, weights, strict=True)), reference=base)
    found = []
    for kernel in ("torch", ""):  # the latter is the compiled one, where it was built
        monkeypatch.setenv(VARIABLE, kernel)
        LiveSoup(model, folders, reference=base, threads=2, block=1024).write(weights)
        found.append({n: zoo.raw(x) for n, x in model.state_dict().items()})
        write_soup(plan, tmp_path / f"out{kernel}", threads=1, window=4096, durable=False)
        written = zoo.load(tmp_path / f"out{kernel}")
        found.append({n: zoo.raw(x) for n, x in written.items()})
    assert found[0] == found[1]
    assert found[1:] == found[:1] * 3


def rectangles(a, b, start, count, most):
    """What `low_rank` gives, of halves in memory, in pieces of at most `most` rows and columns."""
    width = a.shape[1]
    for rows, columns in _rectangles(start, count, width):
        for left in range(columns.start, columns.stop, most):
            for top in range(rows.start, rows.stop, most):
                across = slice(left, min(left + most, columns.stop))
                down = slice(top, min(top + most, rows.stop))
                at = top * width + left - start
                yield LowRank(a[:, across].copy(), b[down].copy(), 0.3, at, width)


@pytest.mark.parametrize("rank", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("columns", [1, 255, 256, 700])
def test_both_loops_over_ranks_at_any_place_in_the_matrix(columns, rank):
    library = load()
    kernels = [] if library is None else [
        CompiledKernel(library, 1, level) for level in range(library.soup_level() + 1)
    ]  # fmt: skip
    draw = np.random.default_rng(rank)
    a, b = draw.normal(size=(rank, columns)), draw.normal(size=(5, rank))
    a[draw.random(a.shape) < 0.1] = 0
    total = np.zeros((5, columns))
    for j in range(rank):
        total += b[:, j : j + 1] * a[j]
    total *= 0.3
    for start, count in [(0, 5 * columns), (columns - 1, 1), (columns // 2, 3 * columns)]:
        for dtype, size in (("BF16", 2), ("F16", 2), ("F32", 4), ("F64", 8)):
            raw = np.frombuffer(draw.bytes(count * size), np.uint8) & 0x3F
            values = decode(raw, dtype)
            wanted = values + total.reshape(-1)[start : start + count]
            for most in (1000, 99, 1):
                parts = list(rectangles(a, b, start, count, most))
                assert adapted(values, parts).tobytes() == wanted.tobytes()
                for kernel in kernels:
                    out = np.full(count + 2, 7.0)
                    kernel.adapt((raw, dtype), parts, out[1:-1])
                    assert out[1:-1].tobytes() == wanted.tobytes()
                    assert out[0] == out[-1] == 7.0


@given(width=st.integers(1, 9), start=st.integers(0, 40), count=st.integers(1, 40))
def test_rectangles_cover_consecutive_elements_once(width, start, count):
    found = [
        row * width + column
        for rows, columns in _rectangles(start, count, width)
        for row in rows
        for column in columns
    ]
    assert sorted(found) == list(range(start, start + count))
    assert len(list(_rectangles(start, count, width))) <= 3


def test_halves_of_adapters_are_in_memory_by_pieces(base, tmp_path, monkeypatch):
    """Whatever the pieces, the same bytes; none is larger than asked."""
    adapter(tmp_path / "one", 2)
    plan = plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    source = plan.sources[0]
    write_soup(plan, tmp_path / "whole", threads=1)
    for side in (1, 40, 100):
        monkeypatch.setattr(lora, "SIDE", side)
        for part in lora.low_rank(source.adapter, UP.format(0), 5, 300, lora.Tiles()):
            rank = len(part.a)
            assert max(part.a.size, part.b.size) <= max(side, rank)
        write_soup(plan, tmp_path / f"out{side}", threads=1)
        found = zoo.load(tmp_path / f"out{side}")
        wanted = zoo.load(tmp_path / "whole")
        assert all(zoo.raw(found[name]) == zoo.raw(x) for name, x in wanted.items())


def test_the_digest_of_an_adapter_takes_little_memory(tmp_path):
    rows, rank = 40_000, 128  # a half of 41 MB in fp64
    zoo.save(tmp_path / "base", {"w.weight": torch.zeros(rows, 16)})
    a, b = torch.randn(rank, 16), torch.randn(rows, rank)
    (tmp_path / "one").mkdir()
    halves = {"base_model.model.w.lora_A.weight": a, "base_model.model.w.lora_B.weight": b}
    save_file(halves, tmp_path / "one/adapter_model.safetensors")
    (tmp_path / "one/adapter_config.json").write_text(json.dumps(CONFIG))
    plan = plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    tracemalloc.start()
    try:
        found = plan.sources[0].adapter.digest("0" * 64)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
    whole = hashlib.sha256(f"stockpot adapter 1\n{'0' * 64}\n".encode())
    whole.update(repr(("w.weight", 6 / rank, tuple(a.shape), tuple(b.shape))).encode())
    whole.update(a.double().numpy().tobytes() + b.double().numpy().tobytes())
    assert found == whole.hexdigest()


def test_the_places_in_doubt_are_all_found():
    """Every fp64 number near the middle of two, and none far away."""
    for name, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)):
        form = FORMATS[name]
        steps = torch.arange(1, 2 ** min(form.fraction, 10), dtype=torch.float64)
        for exponent in (2 - form.bias, -3, 5):
            ulp = 2.0 ** (exponent - form.fraction)
            grid = 2.0**exponent + steps * ulp
            eps = ulp * 2.0**-12
            for shift, doubtful in ((0.5, True), (0.5 - 2.0**-13, True), (0.25, False), (0, False)):
                values = grid + shift * ulp
                found = _doubtful(values.clone(), eps, name)
                expected = len(values) if doubtful else 0
                assert len(found) == expected, (name, exponent, shift)
                same = reference.rounded(values - eps, dtype) == reference.rounded(
                    values + eps, dtype
                )
                settled = torch.ones(len(values), dtype=torch.bool)
                settled[found] = False
                assert same[settled].all()
        assert (
            len(
                _doubtful(
                    torch.tensor([0.0, -0.0, 2.0 ** (1 - form.bias)], dtype=torch.float64),
                    0.0,
                    name,
                )
            )
            == 3
        )


def test_live_adapters_with_non_finite_values_are_named(base, tmp_path):
    state = adapter(tmp_path / "one", 2)
    next(iter(state.values()))[0, 0] = float("inf")
    save_file(state, tmp_path / "one/adapter_model.safetensors")
    model = zoo.module_of({n: torch.zeros_like(x) for n, x in base.items()})
    live = LiveSoup(model, [tmp_path / "one"], reference=tmp_path / "base", threads=1)
    with pytest.raises(Refused) as caught:
        live.write([Fraction(1)])
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.subject.startswith("one: base_model.model.")


def test_live_sums_too_large_for_the_model_are_refused(base, tmp_path):
    state = adapter(tmp_path / "one", 2)
    state = {n: x * (1e8 if "lora_B" in n else 1) for n, x in state.items()}
    save_file(state, tmp_path / "one/adapter_model.safetensors")
    model = zoo.module_of({n: torch.zeros_like(x).half() for n, x in base.items()})
    live = LiveSoup(model, [tmp_path / "one"], reference=tmp_path / "base", threads=1)
    with pytest.raises(Refused) as caught:
        live.write([Fraction(1)])
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.subject.startswith("soup: ")


def test_a_zero_adapter_is_the_base_and_digests_follow_content(base, tmp_path):
    state = adapter(tmp_path / "one", 2)
    for name, x in state.items():
        if "lora_B" in name:
            x.zero_()
    save_file(state, tmp_path / "one/adapter_model.safetensors")
    plan = plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    write_soup(plan, tmp_path / "out", threads=1)
    found = zoo.load(tmp_path / "out")
    assert {n: zoo.raw(x) for n, x in found.items()} == {n: zoo.raw(x) for n, x in base.items()}
    adapter(tmp_path / "two", 2)
    adapter(tmp_path / "same", 2, {"lora_dropout": 0.0})
    adapter(tmp_path / "scaled", 2, {"lora_alpha": 7})
    digests = []
    for name in ("two", "same", "scaled"):
        plan = plan_soup([(tmp_path / name, Fraction(1))], reference=tmp_path / "base")
        digests.append(content_digest(plan.sources[0]))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"peft_type": "LOKR"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"some_future_switch": 1}, "some_future_switch"),
    ],
)
def test_what_is_not_plain_lora_is_refused(base, tmp_path, change, subject):
    adapter(tmp_path / "one", 2, change)
    with pytest.raises(Refused) as caught:
        plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    assert caught.value.code is Code.UNSUPPORTED_ADAPTER
    assert caught.value.subject == f"one: {subject}"


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"base_model.model.x.lora_magnitude_vector": torch.ones(4)}, Code.UNSUPPORTED_ADAPTER),
        ({"base_model.model.model.norm.weight": torch.ones(16)}, Code.UNSUPPORTED_ADAPTER),
        ({"base_model.model.e.lora_embedding_A": torch.ones(4, 4)}, Code.UNSUPPORTED_ADAPTER),
        ({"base_model.model.z.first.lora_A.weight": torch.ones(4, 4)}, Code.UNSUPPORTED_ADAPTER),
    ],
)
def test_other_tensors_in_an_adapter_are_refused(base, tmp_path, extra, code):
    adapter(tmp_path / "one", 2, extra=extra)
    with pytest.raises(Refused) as caught:
        plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    assert caught.value.code is code


def test_adapters_that_do_not_fit_the_base(tmp_path):
    adapter(tmp_path / "one", 2)
    with pytest.raises(Refused) as caught:
        plan_soup([(tmp_path / "one", Fraction(1))])
    assert caught.value.code is Code.UNSUPPORTED_ADAPTER
    shapes = {UP.format(i): (48, 17) for i in (0, 2, 10)}
    zoo.save(tmp_path / "wide", zoo.tensors(0, shapes=shapes))
    zoo.save(tmp_path / "other", zoo.tensors(0, shapes={"v": (48, 16), "w": (48, 16)}))
    for name, code in [("wide", Code.WRONG_SHAPES), ("other", Code.WRONG_TENSORS)]:
        with pytest.raises(Refused) as caught:
            plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / name)
        assert caught.value.code is code


def test_non_finite_adapters_are_named(base, tmp_path):
    state = adapter(tmp_path / "one", 2)
    next(iter(state.values()))[0, 0] = float("nan")
    save_file(state, tmp_path / "one/adapter_model.safetensors")
    plan = plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    with pytest.raises(Refused) as caught:
        write_soup(plan, tmp_path / "out")
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.subject.startswith("one: base_model.model.")


def test_a_matrix_without_columns_in_a_live_soup(tmp_path):
    module, empty = "base_model.model.up", torch.zeros(5, 0)
    for name in ("base", "full"):
        zoo.save(tmp_path / name, {"up.weight": empty, "norm.weight": torch.ones(3)})
    (tmp_path / "one").mkdir()
    halves = {
        f"{module}.lora_{x}.weight": m for x, m in (("A", empty[:2]), ("B", torch.ones(5, 2)))
    }
    save_file(halves, tmp_path / "one" / "adapter_model.safetensors")
    (tmp_path / "one" / "adapter_config.json").write_text(json.dumps(CONFIG))
    model = nn.Module()
    model.up, model.norm = nn.Linear(1, 1), nn.LayerNorm(3, bias=False)
    model.up.weight, model.up.bias = nn.Parameter(empty.clone()), None
    live = LiveSoup(model, [tmp_path / "one", tmp_path / "full"], reference=tmp_path / "base")
    live.write([Fraction(1, 2)] * 2)
    assert model.norm.weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("out", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("weight", [Fraction(1, 2), Fraction(1)])
def test_a_base_that_is_not_finite_stays_so_under_an_adapter(tmp_path, value, out, weight):
    base = zoo.tensors(0, torch.float16)
    base[UP.format(0)][1, 1] = value
    zoo.save(tmp_path / "base", base)
    zoo.save(tmp_path / "full", zoo.tensors(1, torch.float16))
    adapter(tmp_path / "one", 2)
    members = [(tmp_path / "one", weight), (tmp_path / "full", 1 - weight)]
    plan = plan_soup(members, reference=tmp_path / "base", dtype=out)
    with pytest.raises(Refused) as caught:
        write_soup(plan, tmp_path / "out", threads=1)
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.subject == f"one: {UP.format(0)}"


@pytest.mark.skipif(load() is None, reason="the compiled kernel was not built")
@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_number_of_16_bits_is_read_as_it_is(dtype):
    raw = np.arange(1 << 16, dtype="<u2").view(np.uint8)
    wanted = decode(raw.tobytes(), dtype)
    nothing = LowRank(np.zeros((1, 1 << 16)), np.zeros((1, 1)), 1.0, 0, 1 << 16)
    for level in range(load().soup_level() + 1):
        out = np.empty(1 << 16)
        CompiledKernel(load(), 1, level).adapt((raw, dtype), [nothing], out)
        assert np.array_equal(out, wanted, equal_nan=True)


HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def with_head(tmp_path, ties):
    """A base that stores its head, and an adapter of it."""
    state = zoo.tensors(0)
    state[HEAD] = state[EMBED].clone() if ties else state[EMBED] * 2
    zoo.save(tmp_path / "base", state, config={"tie_word_embeddings": ties})
    halves = {"A": torch.ones(4, 16), "B": torch.ones(33, 4)}
    extra = {f"base_model.model.lm_head.lora_{half}.weight": x for half, x in halves.items()}
    adapter(tmp_path / "one", 2, extra=extra)
    return state


def test_an_adapter_of_a_head_that_the_soup_ties_is_refused(tmp_path):
    state = with_head(tmp_path, ties=True)
    members = [(tmp_path / "one", Fraction(1, 2)), (tmp_path / "base", Fraction(1, 2))]
    with pytest.raises(Refused) as caught:
        plan_soup(members, reference=tmp_path / "base")
    assert (caught.value.code, caught.value.subject) == (Code.UNTIED_HEAD, f"one: {HEAD}")
    tied = zoo.module_of({name: x for name, x in state.items() if name != HEAD})
    with pytest.raises(Refused) as caught:
        LiveSoup(tied, [tmp_path / "one"], reference=tmp_path / "base")
    assert (caught.value.code, caught.value.subject) == (Code.UNTIED_HEAD, f"one: {HEAD}")


def test_an_adapter_of_a_head_of_its_own_is_not(tmp_path):
    state = with_head(tmp_path, ties=False)
    plan = plan_soup([(tmp_path / "one", Fraction(1))], reference=tmp_path / "base")
    write_soup(plan, tmp_path / "out", threads=1, durable=False)
    wanted = (state[HEAD].double() + 6).bfloat16()  # 6 / 4 times 4 ones
    assert torch.equal(zoo.load(tmp_path / "out")[HEAD], wanted)
