"""Whatever class it is of: a configuration that a later transformers saved is the same one.

`saved.jsonl` has what four versions wrote and what 5.23.0 made of it; see `saved`.
"""

import json
from pathlib import Path

import pytest
from class_defaults import dump
from saved import again, read

from merge.classes import known
from merge.configs import compare_configs, harmless
from merge.untrusted import parse_json

FILE = Path(__file__).with_name("saved.jsonl")


def as_read(config):
    return parse_json(json.dumps(config).encode(), "config.json")


PAIRS = {name: (as_read(old), as_read(new)) for name, old, new in read(FILE)}

DIFFERENT = {
    # the later version computes something else
    "olmo3": "sliding layers lose a rope_theta that is not the default of the class",
    "qwen2_moe window": "other layers slide",
    "fuyu": "a rope_theta that is left out was 25000 for older versions and is 10000",
    "bamba share": "half is rotated, whatever is said",
    # it writes what the earlier one left to code
    "paligemma": "text_config.use_bidirectional_attention",
    "blt": "encoder_config.sliding_window",
    "dbrx": "ffn_config.hidden_size",
    "deepseek_vl_hybrid": "high_res_vision_config.scale",
    "moshi": "audio_encoder_config.frame_rate",
    "pix2struct": "text_config.is_encoder_decoder",
    "evolla": "model_type",
}
"""What is refused although it was only saved again, by kind, or kind and variant."""

REDUNDANT = frozenset(
    {
        "use_sliding_window", "max_window_layers", "sliding_window_pattern",
        "_sliding_window_pattern", "no_rope_layer_interval",
    }
)  # fmt: skip
"""Without effect beside a list of layers, or without a window."""


def reasons(old, new):
    return [str(reason) for reason in (*compare_configs(old, new), *compare_configs(new, old))]


def excused(name):
    kind, _, *variant = name.split(" ", 2)
    return kind in DIFFERENT or " ".join([kind, *variant]) in DIFFERENT


def test_every_class_saved_again_is_no_difference():
    found = {name: reasons(*pair) for name, pair in PAIRS.items()}
    assert {name: said for name, said in found.items() if said and not excused(name)} == {}
    assert len(PAIRS) > 700
    assert sum(not said for said in found.values()) >= 714


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 2 * value + 3
    return f"{value}x" if isinstance(value, str) else None


def _unused(key, saved):
    return key == "sliding_window" and saved.get("use_sliding_window") is False


@pytest.mark.parametrize("which", [0, 1], ids=["as saved", "as saved again"])
def test_one_other_value_in_any_of_them_is_a_difference(which):
    """A number, a switch or a word of either spelling, against either: none is overlooked."""
    tried, overlooked = 0, []
    for name, pair in PAIRS.items():
        if len(name.split(" ")) > 2:
            continue
        for key, value in pair[which].items():
            other = changed(value)
            if other is None or harmless(key) or key in REDUNDANT or _unused(key, pair[0]):
                continue
            tried += 1
            mutant = {**pair[which], key: other}
            if not all(compare_configs(base, mutant) for base in pair):
                overlooked.append((name, key))
    assert overlooked == []
    assert tried > 2000


@pytest.mark.slow
def test_the_version_that_is_installed_makes_no_difference_either():
    plain = {
        name: json.loads(json.dumps(old))
        for name, (old, _) in PAIRS.items()
        if not excused(name) and len(name.split(" ")) == 2
    }
    for name, config in again(plain).items():
        assert reasons(as_read(plain[name]), as_read(config)) == [], name


@pytest.mark.slow
def test_the_table_has_the_defaults_of_the_version_that_is_installed():
    """Where it has any: what older versions took differently is left out of it."""
    for kind, entry in dump().items():
        ours = known(kind).defaults
        for key, value in entry["defaults"].items():
            if value is not None and key in ours:
                assert ours[key] == value, (kind, key)
        assert _within(known(kind).rotary, entry["rotary"] or {}), kind


def _within(ours, theirs):
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return ours == theirs
    return all(key in theirs and _within(value, theirs[key]) for key, value in ours.items())
