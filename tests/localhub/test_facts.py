"""What cards and configs turn into, hostile ones included."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub import facts, headers


def of(card: str = "", files: dict[str, bytes] | None = None) -> facts.Facts:
    all_files = {"README.md": f"---\n{card}\n---\nBody\n".encode(), **(files or {})}
    return facts.derive(list(all_files), all_files.__getitem__)


@pytest.mark.parametrize(
    ("card", "files", "relation"),
    [
        ("base_model: a/b", {}, "finetune"),
        ("base_model: [a/b]", {}, "finetune"),
        ("base_model: [a/b, c/d]", {}, "merge"),
        ("base_model: [a/b, c/d]", {"custom_generate/generate.py": b""}, None),
        ("base_model: a/b\nbase_model_relation: merge", {}, "merge"),
        ("base_model: [a/b, c/d]\nbase_model_relation: finetune", {}, "finetune"),
        ("base_model: a/b\nbase_model_relation: nonsense", {}, "finetune"),
        ("base_model: a/b", {"adapter_config.json": b"{}"}, "adapter"),
        ("base_model: a/b", {"x.gguf": b""}, "quantized"),
        ("base_model: a/b", {"config.json": b'{"quantization_config": {}}'}, "quantized"),
        ("license: mit", {}, None),
    ],
)
def test_relation_to_the_base(card, files, relation):
    found = of(card, files)
    assert found.relation == relation
    if relation:
        assert {"base_model:a/b", f"base_model:{relation}:a/b"} <= set(found.tags)


def test_tags_of_a_full_card():
    found = of(
        "license: mit\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        "language: [en, de]\ndatasets: [x/y]\ntags: [soup, soup]\nmodel-index: []",
        {
            "config.json": b'{"model_type": "llama", "auto_map": {}}',
            "model.safetensors": b"",
            "pytorch_model.bin": b"",
        },
    )
    assert found.tags == [
        *("transformers", "safetensors", "pytorch", "llama", "text-generation", "model-index"),
        *("soup", "custom_code", "en", "de", "dataset:x/y", "license:mit"),
    ]


@pytest.mark.parametrize(
    "card",
    [
        "a: &x [1, 2]\nb: *x",
        "license: [",
        "- just\n- a list",
        "when: 2024-01-01\nbase_model: {a: b}\ntags: 3\nlicense: [1, null]",
        "x: .nan\ny: .inf",
        'tags: ["\\uD800"]\nlicense: "\\uD800"',
        "x: 0x" + "f" * 5000,
        "x: " + "9" * 5000,
        "[" * 2000,
        "!!python/object/apply:os.system [ls]",
    ],
)
def test_bad_cards_say_less_and_harm_nothing(card):
    found = of(card)
    json.dumps(found.card, allow_nan=False)
    "".join(found.tags).encode()
    assert not [tag for tag in found.tags if tag.startswith("base_model")]


def test_a_card_bomb_stays_small():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]"
        for old, new in zip("abcdefg", "bcdefgh", strict=True)
    ]
    assert of("\n".join(lines)).card == {}


@pytest.mark.parametrize(
    "shape", [[2**63], [-1], ["x"], [1] * 20, [2**39] * 16, None, [1.5], [[1]]]
)
def test_impossible_shapes_count_nothing(tmp_path, shape):
    raw = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    summary = headers.summarise([tmp_path / "model.safetensors"])
    assert summary is None or len(str(summary["total"])) < 200


@given(st.text(max_size=200))
def test_any_text_is_some_card(text):
    found = facts.derive(["README.md"], lambda _: f"---\n{text}\n---\n".encode("utf-8", "replace"))
    json.dumps(found.card, allow_nan=False)


@given(st.binary(max_size=100))
def test_any_bytes_are_some_config(raw):
    found = facts.derive(["config.json"], lambda _: raw)
    json.dumps(found.config, allow_nan=False)
