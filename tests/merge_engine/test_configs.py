"""What of a `config.json` is compared at all, and how odd ones are read."""

import json
from fractions import Fraction

import checkpoints as zoo
import pytest
from published import PUBLISHED

from merge.compat import compare_configs
from merge.errors import Code, Refused
from merge.plan import plan_soup, refusals
from merge.untrusted import parse_json

BASE = PUBLISHED["llama3.1"]


def found(**change):
    """Reasons, in both directions."""
    other = {**BASE, **change}
    return [(r.code, r.subject) for a, b in ((BASE, other), (other, BASE))
            for r in compare_configs(a, b)]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"transformers.js_config": {"kv_cache_dtype": {"q4": "float16"}}},
        {"_flash_attn_2_enabled": True},
        {"use_flash_attention_2": True},
        {"is_llama_config": True},
        {"rope_interleaved": False},
        {"loss_type": "ForCausalLM", "neftune_noise_alpha": 5},
        {"padding_side": "left", "tokenizer_name": "x", "bos_token": "<s>", "pad_token": "<pad>"},
        {"typical_p": 0.9, "length_penalty": 2.0, "num_return_sequences": 3, "output_scores": True},
        {"early_stopping": True, "no_repeat_ngram_size": 2, "diversity_penalty": 0.5},
        {"remove_invalid_values": True, "tf_legacy_loss": False, "use_return_dict": True},
        {"_attn_implementation_autoset": True},
        {"_attn_implementation_autoset": False},
        {"some_dropout": 0.1, "layerdrop_dropout": 0.2, "qkv_pdrop": 0.3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_no_forward_pass_reads_may_differ(change):
    assert found(**change) == []


@pytest.mark.parametrize(
    "change", [{"rope_interleaved": True}, {"attention_scale": 2.0}, {"drop_path": 0.1}]
)
def test_what_is_not_known_may_not(change):
    (key,) = change
    assert found(**change) == [(Code.CONFIG_MISMATCH, key)] * 2


@pytest.mark.parametrize("value", ["evil/kernel", ["evil/kernel"], {"x": "evil/kernel"}, 1])
def test_a_choice_of_attention_that_is_no_boolean_asks_for_code(value):
    (reason,) = compare_configs(BASE, {**BASE, "_attn_implementation_autoset": value})
    assert (reason.code, reason.subject) == (Code.NEEDS_CODE, "_attn_implementation_autoset")


def test_both_spellings_of_infinity_in_a_configuration_are_one():
    old = parse_json(b'{"time_step_limit": [0.0, Infinity]}', "config.json")
    new = parse_json(b'{"time_step_limit": [0.0, {"__float__": "Infinity"}]}', "config.json")
    assert compare_configs(old, new) == compare_configs(new, old) == []
    other = parse_json(b'{"time_step_limit": [0.0, 9.0]}', "config.json")
    assert [r.subject for r in compare_configs(old, other)] == ["time_step_limit"]
    nested = parse_json(
        b'{"a": {"time_step_limit": [0, Infinity]}, "time_step_limit": [0, Infinity]}',
        "config.json",
    )
    assert nested["a"] == {"time_step_limit": [0, {"__float__": "Infinity"}]}


@pytest.mark.parametrize(
    ("raw", "file"),
    [
        (b'{"a": NaN}', "config.json"),
        (b'{"a": Infinity}', "config.json"),
        (b'{"time_step_limit": Infinity}', "config.json"),
        (b'{"time_step_limit": [0, -Infinity]}', "config.json"),
        (b'{"time_step_limit": [0, NaN]}', "config.json"),
        (b'{"time_step_limit": [Infinity, 0]}', "config.json"),
        (b'{"time_step_limit": [[Infinity]]}', "config.json"),
        (b'{"time_step_limit": [0, Infinity], "a": [Infinity]}', "config.json"),
        (b'{"a": [Infinity], "time_step_limit": [0, Infinity]}', "config.json"),
        (b'{"time_step_limit": [0, Infinity]}', "tokenizer.json"),
        (b'{"a": Infinity}', "model.safetensors.index.json"),
        (b'{"a": -Infinity}', "tokenizer.json"),
        (b'{"a": Infinity}', "adapter_config.json"),
    ],
)
def test_infinity_is_nothing_anywhere_else_and_nan_nowhere(raw, file):
    with pytest.raises(Refused, match="not valid JSON"):
        parse_json(raw, file)


def nested_to(levels, value):
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("parts", [('{"a":', "0", "}"), ("[", "", "]")])
def test_what_nests_deeply_is_refused_and_exhausts_nothing(parts):
    """Where there is no base, a leader is compared with itself, to the last level."""
    opening, middle, closing = parts
    value = json.loads(opening * 450 + middle + closing * 450)
    deep = {**BASE, "key": value}
    (reason,) = compare_configs(deep, deep)
    assert (reason.code, reason.subject) == (Code.CONFIG_MISMATCH, "key")
    assert "nested more than 64 levels deep" in str(reason)


def test_code_asked_for_beside_deep_nesting_is_named_too():
    deep = {**BASE, "key": nested_to(450, 0), "auto_map": {"AutoModel": "x.Y"}}
    assert [r.code for r in compare_configs(deep, deep)] == [Code.NEEDS_CODE, Code.CONFIG_MISMATCH]


def test_values_at_the_deepest_level_are_still_compared():
    one, two = (nested_to(63, value) for value in (1, 2))
    assert compare_configs({"key": one}, {"key": nested_to(63, 1)}) == []
    assert [r.subject for r in compare_configs({"key": one}, {"key": two})] == ["key"]


def test_no_soup_is_planned_with_such_a_leader(tmp_path):
    config = {**BASE, "tie_word_embeddings": True, "key": nested_to(450, 0)}
    folder = zoo.save(tmp_path / "deep", zoo.tensors(0), config=config)
    members = [(folder, Fraction(1))]
    assert [r.code for r in refusals(members)] == [Code.CONFIG_MISMATCH]
    with pytest.raises(Refused, match="nested more than"):
        plan_soup(members)
