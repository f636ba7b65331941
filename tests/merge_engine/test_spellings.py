"""A configuration that a newer transformers saved still describes the model that was published."""

import json

import pytest
from published import PUBLISHED
from transformers import AutoConfig

from merge.compat import compare_configs
from merge.errors import Code
from merge.spellings import layer_types, rope


def saved_again(config, folder):
    """What this transformers makes of it."""
    (folder / "config.json").write_text(json.dumps(config))
    AutoConfig.from_pretrained(folder).save_pretrained(folder / "again")
    return json.loads((folder / "again" / "config.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_saving_again_is_no_difference(name, tmp_path):
    old = PUBLISHED[name]
    new = saved_again(old, tmp_path)
    assert [str(reason) for reason in compare_configs(old, new)] == []
    assert [str(reason) for reason in compare_configs(new, old)] == []


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("llama2", {"head_dim": 64}, "head_dim"),
        ("llama2", {"num_key_value_heads": 8}, "num_key_value_heads"),
        ("llama2", {"rope_theta": 5e5}, "rope_parameters"),
        ("mistral", {"sliding_window": 1024}, "sliding_window"),
        ("mistral", {"sliding_window": None}, "sliding_window"),
        ("qwen2.5", {"use_sliding_window": True}, "sliding_window"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 28}, "layer_types"),
        ("gemma2", {"layer_types": ["full_attention"] * 26}, "layer_types"),
        ("gemma3_text", {"rope_local_base_freq": 20000}, "rope_parameters"),
        ("gemma3_text", {"sliding_window_pattern": 5}, "layer_types"),
        ("phi2", {"partial_rotary_factor": 0.5}, "rope_parameters"),
        ("neox", {"rotary_pct": 1.0}, "rope_parameters"),
        ("neox", {"attention_bias": False}, "attention_bias"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("smollm3", {"no_rope_layer_interval": 2}, "no_rope_layers"),
        ("falcon", {"num_kv_heads": 1}, "num_kv_heads"),
    ],
)
def test_what_matters_still_differs(name, change, key, tmp_path):
    """Against the configuration as published, and as saved again."""
    old = PUBLISHED[name]
    for base in (old, saved_again(old, tmp_path)):
        found = compare_configs(base, {**old, **change})
        assert (Code.CONFIG_MISMATCH, key) in [(r.code, r.subject) for r in found]


def test_a_rotary_setting_said_twice_must_be_said_alike():
    base = PUBLISHED["llama2"]
    twice = {**base, "rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e4}}
    (reason,) = compare_configs(base, twice)
    assert (reason.code, reason.subject) == (Code.CONFIG_MISMATCH, "rope_theta")
    assert not compare_configs(base, {**twice, "rope_theta": 1e4})


def test_nonsense_is_compared_as_it_stands():
    for layers in (-1, 10**9, "12", True, None):
        assert layer_types({"num_hidden_layers": layers, "sliding_window_pattern": 2}) is None or (
            layers is True
        )
    assert rope({"rope_scaling": [], "rope_parameters": "x"})["rope_type"] == "default"
    for odd in ({"hidden_size": 0, "num_attention_heads": 0}, {"rope_parameters": {"a": {}}}):
        assert compare_configs(odd, odd) == []
        assert compare_configs({"model_type": "llama"}, {"model_type": "llama", **odd}) != []
