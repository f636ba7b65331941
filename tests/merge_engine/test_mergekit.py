"""mergekit's linear configurations: read exactly, written back, anything else refused."""

import time
from fractions import Fraction
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import Code, Refused
from merge.mergekit import (
    _MAX_NODES,
    Blend,
    _check_distinct,
    blend_yaml,
    from_mergekit_yaml,
    to_mergekit_yaml,
)
from merge.recipe import Member, Recipe

SHA = "ab" * 20


def linear(**top):
    models = [
        {"model": "org/a", "parameters": {"weight": 0.4}},
        {"model": f"org/b@{SHA}", "parameters": {"weight": 0.6}},
    ]
    return yaml.safe_dump({"merge_method": "linear", "models": models, **top})


def test_decimals_are_exact():
    assert from_mergekit_yaml(linear(dtype="bfloat16", base_model="org/base")) == Blend(
        "org/base",
        (("org/a", Fraction(2, 5)), (f"org/b@{SHA}", Fraction(3, 5))),
        "bfloat16",
    )


def test_weights_are_normalised_as_mergekit_does_unless_told_not_to():
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("a", 1), ("b", 2), ("c", 4))]
    blend = from_mergekit_yaml(linear(models=models))
    assert [w for _, w in blend.members] == [Fraction(n, 7) for n in (1, 2, 4)]
    with pytest.raises(Refused) as caught:
        from_mergekit_yaml(linear(models=models, parameters={"normalize": False}))
    assert caught.value.code is Code.WEIGHTS


def models_of(*weights):
    return "models:\n" + "".join(
        f"- {{model: m{i}, parameters: {{weight: {w}}}}}\n" for i, w in enumerate(weights)
    )


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (models_of(".5", "1.", "1e-1", "+0.4"), "1/4 1/2 1/20 1/5"),
        ("parameters: {normalize: 0}\n" + models_of("0.25", ".75"), "1/4 3/4"),
        ("parameters: {normalize: yes, int8_mask: true}\n" + models_of(1, 3), "1/4 3/4"),
        ("parameters:\nbase_model: ~\ndtype: null\n" + models_of(1, 1), "1/2 1/2"),
        ("base_model: m0\ntokenizer_source: base\n" + models_of(1, 1), "1/2 1/2"),
        ("parameters: {weight: 2}\nmodels: [{model: m0}, {model: m1}]", "1/2 1/2"),
        (models_of("[{value: 1}]", "3"), "1/4 3/4"),
    ],
)
def test_other_spellings_of_a_linear_merge(text, weights):
    blend = from_mergekit_yaml(f"merge_method: linear\n{text}")
    assert [str(w) for _, w in blend.members] == weights.split()
    assert blend.base in (None, "m0") and blend.dtype is None


def test_a_number_that_begins_with_zeros_is_another_one_to_mergekit():
    assert yaml.safe_load("010") == 8
    blend = from_mergekit_yaml("merge_method: linear\n" + models_of("0.10", "0", "0e0", "0.9"))
    assert [str(w) for _, w in blend.members] == ["1/10", "0", "0", "9/10"]


def test_many_models_are_compared_in_time_that_grows_with_them():
    started = time.process_time()
    _check_distinct([f"org/m{i}" for i in range(50_000)])
    assert time.process_time() - started < 5  # a minute, where each is compared with each


NESTED = "[&a [x, x], " + ", ".join(f"&{b} [{f'*{a}, ' * 10}]" for a, b in pairwise("abcdef")) + "]"
NULLS = "parameters: {weight: 1}, " + ", ".join(f"k{i}: ~" for i in range(12_000))


@pytest.mark.parametrize(
    "text",
    [
        f"merge_method: {NESTED}",
        f"merge_method: linear\ndtype: {NESTED}\n" + models_of(1),
        f"merge_method: linear\nout_dtype: {NESTED}\n" + models_of(1),
        f"merge_method: linear\nparameters: {{normalize: {NESTED}}}\n" + models_of(1),
    ],
)
def test_what_aliases_multiply_is_never_written_out(text):
    with pytest.raises(Refused, match="a list of 6 is n") as caught:
        from_mergekit_yaml(text)
    assert caught.value.code is Code.BAD_RECIPE


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("models: [" + "{}," * _MAX_NODES + "]", Code.BAD_RECIPE, "more than 50000 keys"),
        (models_of("1" * 30_000 + "x"), Code.WEIGHTS, "not a weight"),
        (f"models: [{{model: {'m' * 200_000}}}]", Code.BAD_RECIPE, "name in one line"),
        (f"models: [&a {{{NULLS}, model: m}}{', *a' * 20_000}]", Code.DUPLICATE_MEMBER, "twice"),
    ],
)
def test_long_texts_are_refused_soon(text, code, said):
    started = time.process_time()
    with pytest.raises(Refused, match=said) as caught:
        from_mergekit_yaml(f"merge_method: linear\n{text}")
    assert caught.value.code is code
    assert time.process_time() - started < 10


def test_negative_weights_only_on_request():
    text = "merge_method: linear\n" + models_of(3, -1)
    with pytest.raises(Refused, match="negative"):
        from_mergekit_yaml(text)
    blend = from_mergekit_yaml(text, allow_negative=True)
    assert [w for _, w in blend.members] == [Fraction(3, 2), Fraction(-1, 2)]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=6))
def test_round_trip(parts):
    weights = [Fraction(p, sum(parts)) for p in parts]
    members = tuple(Member(f"org/m{i}", SHA, f"{i:064x}", w) for i, w in enumerate(weights))
    recipe = Recipe("org/base", SHA, f"{99:064x}", members, "float16")
    blend = from_mergekit_yaml(to_mergekit_yaml(recipe))
    assert (blend.base, blend.dtype) == (f"org/base@{SHA}", "float16")
    for (name, weight), member in zip(blend.members, members, strict=True):
        assert name == f"{member.repo}@{SHA}"
        assert weight == member.weight


def test_adapters_lie_on_the_base_and_a_missing_dtype_stays_missing():
    weights = (Fraction(1, 3), Fraction(2, 3))
    members = tuple(Member(n, "", d * 64, w) for n, d, w in zip("xy", "12", weights, strict=True))
    recipe = Recipe("some/base", SHA, "0" * 64, members)
    text = to_mergekit_yaml(recipe, adapters=["2" * 64])
    found = yaml.safe_load(text)
    assert [m["model"] for m in found["models"]] == ["x", f"some/base@{SHA}+y"]
    assert "dtype" not in found
    blend = from_mergekit_yaml(text)
    assert blend == Blend(f"some/base@{SHA}", tuple(zip("xy", weights, strict=True)), None)
    with pytest.raises(Refused, match="adapter"):
        from_mergekit_yaml(text.replace('base_model: "some', 'base_model: "other'))


NAMES = st.text(st.sampled_from("ab+@/~ é😀\"'\\:#{"), min_size=1, max_size=6) | st.just("null")


@given(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
def test_any_name_is_read_back_of_models_and_adapters(base, names, data):
    adapters = data.draw(st.sets(st.sampled_from(names)))
    blend = Blend(base, tuple((name, Fraction(1, len(names))) for name in names), None)
    assert from_mergekit_yaml(blend_yaml(blend, adapters=adapters)) == blend


def test_a_plus_in_a_name_is_not_the_one_before_an_adapter():
    names = ("a+b", "b", "ad+3")
    blend = Blend("a", tuple((name, Fraction(1, 3)) for name in names), None)
    text = blend_yaml(blend, adapters=["b", "ad+3"])
    written = [{"model": "a+b"}, "a+b", {"model": "a", "lora": "ad+3"}]
    assert [m["model"] for m in yaml.safe_load(text)["models"]] == written
    assert from_mergekit_yaml(text) == blend
    plus = blend_yaml(Blend("plus+1", (("x", Fraction(1)),), None), adapters=["x"])
    assert yaml.safe_load(plus)["base_model"] == {"model": "plus+1"}


def test_models_as_mappings():
    models = [
        {"model": {"model": {"path": "org/a", "revision": SHA}, "lora": None}},
        {"model": {"model": "org/base", "lora": {"path": "x+y", "revision": None}}},
    ]
    text = linear(models=models, base_model={"model": "org/base"}, parameters={"weight": 1})
    blend = from_mergekit_yaml(text)
    assert blend.base == "org/base"
    assert [name for name, _ in blend.members] == [f"org/a@{SHA}", "x+y"]


@pytest.mark.parametrize(
    "model",
    [
        "a+b+c",
        "a+",
        "+b",
        {"model": "a", "lora": "b"},
        {"model": "a", "override_architecture": "b"},
        {"lora": "base"},
        {"model": {"path": "a@b"}},
        {"model": {"path": "a", "revision": []}},
        {"model": {"path": "a", "subfolder": "b"}},
        {"model": ["a"]},
        ["a"],
    ],
)
def test_other_references_to_models_are_refused(model):
    for top in ({"base_model": model}, {"base_model": "base", "models": [{"model": model}]}):
        with pytest.raises(Refused) as caught:
            from_mergekit_yaml(linear(parameters={"weight": 1}, **top))
        assert caught.value.code is Code.BAD_RECIPE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", Code.BAD_RECIPE),
        ("[1, 2", Code.BAD_RECIPE),
        ("!!python/object/apply:os.system ['true']", Code.BAD_RECIPE),
        (linear(merge_method="ties"), Code.BAD_RECIPE),
        (linear(slices=[]), Code.BAD_RECIPE),
        (linear(tokenizer_source="union"), Code.BAD_RECIPE),
        (linear(models=[]), Code.BAD_RECIPE),
        (linear(dtype="int8"), Code.BAD_RECIPE),
        (linear(parameters={"normalize": "maybe"}), Code.BAD_RECIPE),
        (linear(models=[{"model": "a+b", "parameters": {"weight": 1}}]), Code.BAD_RECIPE),
        (linear(models=[{"model": "a", "parameters": {"weight": [0, 1]}}]), Code.BAD_RECIPE),
        (linear(models=[{"model": "a", "parameters": {"density": 1}}]), Code.BAD_RECIPE),
        (linear(models=[{"model": "a", "parameters": {"weight": "nan"}}]), Code.WEIGHTS),
        (linear(models=[{"model": "a", "parameters": {"weight": 0}}]), Code.WEIGHTS),
        (linear(models=[{"model": "a", "parameters": {"weight": 1}}] * 2), Code.DUPLICATE_MEMBER),
        (linear() + "models: []\n", Code.BAD_RECIPE),
        (linear(models=[]) + linear(), Code.BAD_RECIPE),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1, weight: 1}}]",
            Code.BAD_RECIPE,
        ),
        ("merge_method: linear\n" + models_of("010", "8"), Code.BAD_RECIPE),
        ("merge_method: linear\n" + models_of("-00.5", "1.5"), Code.BAD_RECIPE),
        (
            "merge_method: linear\n" + models_of(*(f"1/{10**17 + 2 * i + 1}" for i in range(999))),
            Code.WEIGHTS,
        ),
    ],
)
def test_anything_else_is_refused(text, code):
    with pytest.raises(Refused) as caught:
        from_mergekit_yaml(text)
    assert caught.value.code is code
