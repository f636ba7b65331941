"""A configuration that a newer transformers saved still describes the model that was published."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import PUBLISHED
from published_later import LATER
from transformers import AutoConfig

from merge.compat import compare_configs
from merge.errors import Code
from merge.rotary import rope
from merge.spellings import layer_types
from merge.untrusted import parse_json

ALL = {**PUBLISHED, **LATER}


def saved_again(config, folder):
    """What this transformers makes of it."""
    (folder / "config.json").write_text(json.dumps(config))
    AutoConfig.from_pretrained(folder).save_pretrained(folder / "again")
    return parse_json((folder / "again" / "config.json").read_bytes(), "config.json")


@pytest.mark.parametrize("name", ALL)
def test_saving_again_is_no_difference(name, tmp_path):
    old = parse_json(json.dumps(ALL[name]).encode(), "config.json")
    new = saved_again(ALL[name], tmp_path)
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
        ("qwen3_moe", {"num_experts": 64}, "num_local_experts"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob"),
        ("phi3_128k", {"original_max_position_embeddings": 8192}, "rope_parameters"),
        ("phi4_mini", {"partial_rotary_factor": 0.5}, "rope_parameters"),
        ("gpt_oss", {"swiglu_limit": 6.0}, "swiglu_limit"),
        ("olmo3", {"rope_theta": 1e4}, "rope_parameters"),
        ("mamba2", {"time_step_limit": [0.0, 9.0]}, "time_step_limit"),
        ("mamba2", {"time_step_rank": 128}, "time_step_rank"),
        ("qwen2_vl", {"rope_theta": 1e4}, "text_config.rope_parameters"),
        ("qwen2_vl", {"num_key_value_heads": 4}, "text_config.num_key_value_heads"),
    ],
)
def test_what_matters_still_differs(name, change, key, tmp_path):
    """Against the configuration as published, and as saved again."""
    old = parse_json(json.dumps(ALL[name]).encode(), "config.json")
    for base in (old, saved_again(ALL[name], tmp_path)):
        found = compare_configs(base, {**old, **change})
        assert (Code.CONFIG_MISMATCH, key) in [(r.code, r.subject) for r in found]


def test_a_rotary_setting_said_twice_must_be_said_alike():
    base = PUBLISHED["llama2"]
    twice = {**base, "rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e4}}
    (reason,) = compare_configs(base, twice)
    assert (reason.code, reason.subject) == (Code.CONFIG_MISMATCH, "rope_theta")
    assert not compare_configs(base, {**twice, "rope_theta": 1e4})


@pytest.mark.parametrize(
    ("kind", "theta"),
    [("llama", 1e4), ("mixtral", 1e6), ("smollm3", 2e6), ("gemma2", 1e4), ("starcoder2", 1e4)],
)
def test_a_base_of_rotary_embeddings_that_is_not_given_is_that_of_the_class(kind, theta):
    silent = {"model_type": kind, "num_hidden_layers": 4}
    assert compare_configs(silent, {**silent, "rope_theta": theta}) == []
    assert compare_configs(silent, {**silent, "rope_parameters": {"rope_theta": theta}}) == []
    (reason,) = compare_configs(silent, {**silent, "rope_theta": theta + 1})
    assert (reason.code, reason.subject) == (Code.CONFIG_MISMATCH, "rope_parameters")


@pytest.mark.parametrize(
    ("kind", "share", "key"),
    [
        ("phi", 0.5, "partial_rotary_factor"),
        ("stablelm", 0.25, "partial_rotary_factor"),
        ("gpt_neox", 0.25, "rotary_pct"),
        ("glm4", 0.5, "partial_rotary_factor"),
        ("llama", 1.0, "partial_rotary_factor"),
    ],
)
def test_so_is_the_share_that_is_rotated(kind, share, key):
    silent = {"model_type": kind, "rope_theta": 1e4}
    assert compare_configs(silent, {**silent, key: share}) == []
    assert [r.subject for r in compare_configs(silent, {**silent, key: 0.75})] == [
        "rope_parameters"
    ]


def test_layers_of_two_kinds_have_the_bases_of_their_class():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 4}
    base = {"model_type": "gemma3", "text_config": text}
    for said, subjects in (
        ({"rope_theta": 1e6, "rope_local_base_freq": 1e4}, []),
        ({"rope_theta": 1e4}, ["text_config.rope_parameters"]),
        ({"rope_local_base_freq": 2e4}, ["text_config.rope_parameters"]),
    ):
        other = {**base, "text_config": {**text, **said}}
        assert [r.subject for r in compare_configs(base, other)] == subjects


@pytest.mark.parametrize(
    "said", [{"rope_theta": 1e4}, {"hidden_act": "silu"}, {"attention_bias": False}]
)
def test_of_an_unknown_model_absence_says_nothing(said):
    base = {"model_type": "of-tomorrow"}
    assert compare_configs(base, base) == compare_configs(said, said) == []
    assert len(compare_configs(base, {**base, **said})) == 1


def test_null_is_not_absence_where_the_class_has_a_value():
    silent = {"model_type": "mistral", "num_hidden_layers": 2}
    assert compare_configs(silent, {**silent, "sliding_window": 4096}) == []
    assert "sliding_window" in [
        r.subject for r in compare_configs(silent, {**silent, "sliding_window": None})
    ]


def test_two_names_of_one_key_must_agree():
    base = {"model_type": "qwen3_moe", "num_experts": 64}
    assert compare_configs(base, {**base, "num_local_experts": 64}) == []
    assert compare_configs(base, {**base, "num_local_experts": 128}) != []


def test_old_names_of_a_rotary_setting_must_agree_too():
    base = {"model_type": "gpt_neox", "rotary_emb_base": 10000}
    assert compare_configs(base, {**base, "rope_theta": 10000.0}) == []
    found = compare_configs(base, {**base, "rope_theta": 2e4})
    assert (Code.CONFIG_MISMATCH, "rope_theta") in [(r.code, r.subject) for r in found]


@pytest.mark.parametrize(
    ("kind", "thetas"), [("persimmon", (25000.0, 1e4)), ("cohere", (1e4, 5e5))]
)
def test_a_base_that_versions_take_differently_has_to_be_given(kind, thetas):
    silent = {"model_type": kind, "num_hidden_layers": 2}
    assert compare_configs(silent, silent) == []
    for theta in thetas:
        assert compare_configs(silent, {**silent, "rope_theta": theta}) != []


def test_settings_of_a_text_model_may_stand_beside_it_and_in_both_places():
    flat = ALL["qwen2_vl"]
    both = {**flat, "text_config": {k: v for k, v in flat.items() if k != "vision_config"}}
    assert compare_configs(flat, both) == compare_configs(both, flat) == []
    other = {**both, "text_config": {**both["text_config"], "rms_norm_eps": 1e-5}}
    assert [r.subject for r in compare_configs(flat, other)] == ["text_config.rms_norm_eps"]


def test_another_model_explains_what_follows_from_it():
    base = {"model_type": "llama", "hidden_size": 64}
    found = compare_configs(base, {"model_type": "mistral", "hidden_size": 32})
    assert [(r.code, r.subject) for r in found] == [(Code.OTHER_ARCHITECTURE, "model_type")]


def test_nonsense_is_compared_as_it_stands():
    for layers in (-1, 10**9, "12", True, None):
        assert layer_types({"num_hidden_layers": layers, "sliding_window_pattern": 2}) is None or (
            layers is True
        )
    assert rope({"rope_scaling": [], "rope_parameters": "x"})["rope_type"] == "default"
    for odd in ({"hidden_size": 0, "num_attention_heads": 0}, {"rope_parameters": {"a": {}}}):
        assert compare_configs(odd, odd) == []
        assert compare_configs({"model_type": "llama"}, {"model_type": "llama", **odd}) != []


def test_what_stands_beside_settings_of_layers_is_not_overlooked():
    base = {"model_type": "llama", "rope_parameters": {"x": {}, "rope_theta": 1e4}}
    other = {"model_type": "llama", "rope_parameters": {"x": {}, "rope_theta": 5e5}}
    assert [r.subject for r in compare_configs(base, other)] == ["rope_parameters"]
    rotated = {"sliding_attention": {"rope_theta": 1e4}, "full_attention": {"rope_theta": 1e4}}
    bare = {**rotated, "full_attention": None}
    for kind in ("beam", "llama", "of-tomorrow"):
        pair = ({"model_type": kind, "rope_parameters": p} for p in (rotated, bare))
        assert [r.subject for r in compare_configs(*pair)] == ["rope_parameters"]


KEYS = st.sampled_from(
    ["model_type", "rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq",
     "layer_types", "sliding_window", "sliding_window_pattern", "hidden_size", "num_experts",
     "num_local_experts", "num_attention_heads", "num_hidden_layers", "text_config", "rope_type",
     "qk_rope_head_dim", "qk_nope_head_dim", "time_step_rank", "full_attention", "type"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["qwen2_vl", "gemma3_text", "qwen3_moe", "gpt_bigcode", "olmo3", "yarn"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_two_configurations_compare(one, two):
    for pair in ((one, two), (two, one), (one, one)):
        assert all(str(reason).isprintable() for reason in compare_configs(*pair))
