"""What may differ between a base and its fine-tunes, and what may not."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.checkpoint import (
    Layout,
    TensorSpec,
    header_length,
    is_plain_name,
    parse_header,
    parse_index,
)
from merge.compat import compare_configs, compare_layouts, compare_tokenizers, derived
from merge.errors import Code, Refused, printable

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "attention_bias": False,
    "tie_word_embeddings": True,
}


def layout(**shapes):
    specs = {}
    for name, (dtype, shape) in shapes.items():
        name = name.replace("__", ".")
        specs[name] = TensorSpec(name, dtype, shape, "model.safetensors", 0, 0)
    return Layout(specs, ("model.safetensors",))


EMBED = {"model__embed_tokens__weight": ("BF16", (8, 4))}


def codes(reasons):
    return [r.code for r in reasons]


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32"},
        {"torch_dtype": "float16", "_name_or_path": "me/mine", "transformers_version": "4.40"},
        {"use_cache": False, "eos_token_id": [1, 2], "pad_token_id": 0},
        {"sliding_window": None, "some_future_key": None},
        {"mlp_bias": False, "hidden_act": "silu"},
        {"rms_norm_eps": 0.000001, "hidden_size": 64.0},
        {"rope_parameters": None, "rope_theta": 10000, "rope_scaling": None},
        {"rope_parameters": None, "rope_theta": None},
        {"attention_bias": None},
        {"_attn_implementation": "sdpa"},
        {"tie_word_embeddings": False},
    ],
)
def test_harmless_differences(change):
    other = dict(reversed({**BASE, **change}.items()))
    assert compare_configs(BASE, other) == []
    assert compare_configs(other, BASE) == []


def test_old_and_new_spelling_of_rope_agree():
    new = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}}
    old = {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", "factor": 8.0}}
    assert compare_configs(new, old) == []
    assert codes(compare_configs(new, {**old, "rope_theta": 1e4})) == [Code.CONFIG_MISMATCH]
    plain = {"rope_theta": 500000.0}
    assert codes(compare_configs(new, plain)) == [Code.CONFIG_MISMATCH]


def test_rope_per_layer_type():
    kinds = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    moved = {**kinds, "sliding_attention": {"rope_theta": 1e5, "rope_type": "default"}}
    assert compare_configs({"rope_parameters": kinds}, {"rope_parameters": dict(kinds)}) == []
    found = compare_configs({"rope_parameters": kinds}, {"rope_parameters": moved})
    assert codes(found) == [Code.CONFIG_MISMATCH]


def test_every_reason_is_listed_and_names_its_key():
    found = compare_configs(BASE, {**BASE, "head_dim": 8, "hidden_size": 128, "new_gate": 1})
    assert [(r.code, r.subject) for r in found] == [
        (Code.CONFIG_MISMATCH, "head_dim"),
        (Code.CONFIG_MISMATCH, "hidden_size"),
        (Code.CONFIG_MISMATCH, "new_gate"),
    ]


@pytest.mark.parametrize(
    ("mine", "yours", "told"),
    [
        (["A"], ["B"], "'B' instead of 'A' at [0]"),
        ([1, 2], [1, 2, 3], "a list of 3 instead of a list of 2"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "3 instead of 2 at a[1].b"),
        ({"a": 1}, {"c": 1}, "None instead of 1 at a"),
        ([True], [1], "1 instead of True at [0]"),
        ([{"a": None}, 1], [{}, 2], "2 instead of 1 at [1]"),
    ],
)  # fmt: skip
def test_values_that_hold_others_are_refused_by_what_differs(mine, yours, told):
    (reason,) = compare_configs({**BASE, "key": mine}, {**BASE, "key": yours})
    assert (reason.subject, reason.detail) == ("key", told)


def test_nested_configs_follow_the_same_classes():
    base = {"text_config": {"hidden_size": 4, "dtype": "bfloat16"}}
    assert compare_configs(base, {"text_config": {"hidden_size": 4, "dtype": "float32"}}) == []
    found = compare_configs(base, {"text_config": {"hidden_size": 5}})
    assert [r.subject for r in found] == ["text_config.hidden_size"]


def test_head_may_be_absent_only_beside_an_embedding_of_its_shape():
    tied = layout(**EMBED)
    untied = layout(**EMBED, lm_head__weight=("BF16", (8, 4)))
    wide = layout(**EMBED, lm_head__weight=("BF16", (9, 4)))
    blind = layout(other=("BF16", (8, 4)))
    blind_head = layout(other=("BF16", (8, 4)), lm_head__weight=("BF16", (8, 4)))
    assert compare_layouts(tied, untied) == compare_layouts(untied, tied) == []
    assert codes(compare_layouts(tied, wide)) == [Code.WRONG_TENSORS]
    assert codes(compare_layouts(blind, blind_head)) == [Code.WRONG_TENSORS]


def test_containers_may_differ_buffers_may_not():
    base = layout(w=("BF16", (4,)), mask=("BOOL", (4,)), steps=("I64", ()))
    assert compare_layouts(base, layout(w=("F32", (4,)), mask=("BOOL", (4,)), steps=("I64", ())))\
        == []  # fmt: skip
    found = compare_layouts(base, layout(w=("F16", (4,)), mask=("U8", (4,)), steps=("I32", ())))
    assert [(r.code, r.subject) for r in found] == [
        (Code.WRONG_DTYPES, "mask"),
        (Code.WRONG_DTYPES, "steps"),
    ]


def test_many_renamed_tensors_are_told_in_time_that_grows_with_them():
    def renamed(prefix):
        names = [f"{prefix}layers.{i}.up_proj.weight" for i in range(20_000)]
        specs = {n: TensorSpec(n, "BF16", (2, 2), "f", 0, 8) for n in names}
        return Layout(specs, ("f",))

    started = time.process_time()
    found = compare_layouts(renamed("model."), renamed("language_model."))
    assert len(found) == 40_000
    assert time.process_time() - started < 10  # minutes, where each is looked for among all


def test_recomputed_buffers_are_optional():
    name = "model__layers__0__self_attn__rotary_emb__inv_freq"
    extra = layout(w=("F32", (4,)), **{name: ("F32", (8,)), "position_ids": ("I64", (1, 9))})
    assert compare_layouts(layout(w=("F32", (4,))), extra) == []
    assert compare_layouts(extra, layout(w=("F32", (4,)))) == []
    gpt2 = TensorSpec("h.0.attn.bias", "BOOL", (1, 1, 8, 8), "f", 0, 64)
    real = TensorSpec("h.0.attn.bias", "BF16", (64,), "f", 0, 128)
    assert derived(gpt2)
    assert not derived(real)


def tokenizer(vocab, merges=(), added=(), kind="BPE"):
    model = {"type": kind, "vocab": vocab, "merges": list(merges)}
    return {"model": model, "added_tokens": [{"id": i, "content": c} for c, i in added]}


def test_tokenizers_agree_by_content():
    old = tokenizer({"<s>": 0, "a": 1, "b": 2, "ab": 3}, ["a b"], [("<s>", 0)])
    new = tokenizer({"ab": 3, "b": 2, "a": 1, "<s>": 0}, [["a", "b"]], [("<s>", 0), ("ab", 3)])
    new |= {"truncation": {"max_length": 5}, "padding": {}, "version": "2.0"}
    assert compare_tokenizers(old, new) == []
    longer = tokenizer({"<s>": 0, "a": 1, "b": 2, "ab": 3}, ["a b"], [("<pad>", 4)])
    found = compare_tokenizers(old, longer)
    assert codes(found) == [Code.VOCAB_MISMATCH]
    assert found[0].subject == "<pad>"


def test_unigram_scores_count():
    a = tokenizer([["x", -1.0], ["y", -2.0]], kind="Unigram")
    b = tokenizer([["x", -1.0], ["y", -2.5]], kind="Unigram")
    assert compare_tokenizers(a, a) == []
    assert codes(compare_tokenizers(a, b)) == [Code.VOCAB_MISMATCH]


@given(st.text(max_size=60) | st.text(max_size=20).map(lambda t: f"{t}.safetensors"))
def test_a_shard_name_stays_inside_or_is_refused(name):
    from pathlib import PurePosixPath, PureWindowsPath

    if is_plain_name(name):
        for pure in (PurePosixPath(name), PureWindowsPath(name)):
            assert pure.name == name
            assert not pure.drive
            assert len(pure.parts) == 1
            assert not PureWindowsPath(name).is_reserved()
    else:
        with pytest.raises(Refused):
            parse_index(json.dumps({"weight_map": {"w": name}}).encode(), [name])


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_parse_or_are_refused(raw, size):
    try:
        specs = parse_header(raw, "f", size)
    except Refused:
        pass
    else:
        assert sum(spec.nbytes for spec in specs.values()) + header_length(raw, "f", size) == size


@given(st.data())
def test_mutated_headers_parse_to_whole_files_or_are_refused(data):
    text = bytearray(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BF16","shape":[0],"data_offsets":[8,8]}}'
    )
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    raw = len(text).to_bytes(8, "little") + bytes(text)
    try:
        specs = parse_header(raw, "f", len(raw) + 8)
    except Refused:
        return
    assert max(spec.end for spec in specs.values()) == len(raw) + 8


@given(st.text())
def test_refusals_are_one_printable_line(text):
    refused = Refused(Code.WRONG_TENSORS, text, text, "")
    assert str(refused).isprintable()
    assert printable(text * 300).isprintable()


def test_the_daemon_side_is_standard_library_only():
    program = (
        "import sys, merge, merge.errors, merge.checkpoint, merge.compat, merge.recipe;"
        "print([m for m in ('torch', 'numpy', 'safetensors', 'yaml') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
