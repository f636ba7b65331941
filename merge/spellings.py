"""One spelling for the `config.json` of one model, whichever version of transformers wrote it.

Later versions write what earlier ones left to the class: widths of heads, kinds of layers,
defaults. They move settings of rotary embeddings into one mapping and drop others that are without
effect. A fine-tune saved today must equal its base published years ago, so both are spelt out here
first. Values are evened out, never given to a library.

Not promised: every architecture; what is not known here is compared as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping

Config = Mapping[str, object]

_DEFAULTS: Config = {
    "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "use_sliding_window": False,
    "is_encoder_decoder": False, "is_decoder": False, "add_cross_attention": False,
    "pruned_heads": {}, "tie_encoder_decoder": False, "qk_layernorm": False, "mlp_only_layers": [],
    "use_bidirectional_attention": False, "slow_but_exact": False, "rope_interleaved": False,
}  # fmt: skip
"""Values that save_pretrained leaves out or writes by version; absent means the same."""

_DEFAULTS_OF: Mapping[str, Config] = {
    "falcon": {"activation": "gelu", "max_position_embeddings": 2048},
    "gpt2": {
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    },
    "gpt_neox": {"attention_bias": True, "use_parallel_residual": True},
    "opt": {"enable_bias": True, "layer_norm_elementwise_affine": True},
    "qwen2_moe": {"qkv_bias": True},
    "stablelm": {"use_parallel_residual": False},
}  # fmt: skip
"""The same for one `model_type`, before the others."""

_PATTERNS: Mapping[str, int] = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""Every how manieth layer attends to everything, where the configuration does not say."""
_NO_ROPE_EVERY: Mapping[str, int] = {"smollm3": 4}

_ROPE = frozenset(
    {
        "rope_theta", "rope_scaling", "rope_parameters", "rotary_base", "rotary_emb_base",
        "rotary_pct", "partial_rotary_factor", "rope_local_base_freq",
    }
)  # fmt: skip
_LAYERS = frozenset(
    {
        "layer_types", "sliding_window_pattern", "_sliding_window_pattern", "max_window_layers",
        "use_sliding_window", "no_rope_layers", "no_rope_layer_interval",
    }
)  # fmt: skip


def spelt_out(config: Config) -> dict[str, object]:
    """The configuration without absent values, defaults filled in, layers and rope in one form."""
    kind = str(config.get("model_type"))
    found = {k: v for k, v in config.items() if v is not None and k not in _ROPE | _LAYERS}
    for key, value in {**_DEFAULTS, **_DEFAULTS_OF.get(kind, {}), **_derived(config)}.items():
        found.setdefault(key, value)
    found.pop("use_sliding_window")  # enters by the kinds of layers
    if _window(config) is None:
        found.pop("sliding_window", None)
    if kind == "gemma" and found["hidden_act"] == "gelu":  # what its first configurations meant
        found["hidden_act"] = "gelu_pytorch_tanh"
    found["layer_types"] = layer_types(config)
    found["no_rope_layers"] = _rope_layers(config)
    found["rope_parameters"] = rope(config)
    return found


def layer_types(config: Config) -> object:
    """What every layer attends to, as `layer_types` says it; None where nothing tells."""
    given, layers = config.get("layer_types"), _layers(config)
    if given is not None or not layers:
        return given
    pattern = _first(config, "sliding_window_pattern", "_sliding_window_pattern")
    if pattern is None:
        pattern = _PATTERNS.get(str(config.get("model_type")))
    if _window(config) is None:
        return ["full_attention"] * layers
    if isinstance(pattern, int) and pattern > 0:
        return [_attends((i + 1) % pattern != 0) for i in range(layers)]
    whole = config.get("max_window_layers")
    if config.get("use_sliding_window") is True and isinstance(whole, int):
        return [_attends(i >= whole) for i in range(layers)]
    return None


def rope(config: Config) -> dict[str, object]:
    """Rotary settings as one mapping, or one for each kind of layer."""
    found, scaling = config.get("rope_parameters"), config.get("rope_scaling")
    parameters: dict[str, object] = dict(scaling) if isinstance(scaling, Mapping) else {}
    parameters |= found if isinstance(found, Mapping) else {}
    if parameters and all(isinstance(value, Mapping) for value in parameters.values()):
        kinds = ((kind, value) for kind, value in parameters.items() if isinstance(value, Mapping))
        return {kind: _settled({}, value) for kind, value in kinds}
    whole = _settled(config, parameters)
    local = config.get("rope_local_base_freq")
    if local is None:
        return whole
    return {"full_attention": whole, "sliding_attention": _settled({"rope_theta": local}, {})}


def contradiction(config: Config) -> tuple[str, object, object] | None:
    """A rotary setting that is given twice and differently: key, value, value in the mapping."""
    found = config.get("rope_parameters")
    if not isinstance(found, Mapping):
        return None
    for key in ("rope_theta", "partial_rotary_factor"):
        outer, inner = config.get(key), found.get(key)
        if outer is not None and inner is not None and outer != inner:
            return key, outer, inner
    return None


def _settled(config: Config, parameters: Config) -> dict[str, object]:
    """Kind, base and share of the rotary settings that `parameters` and `config` give."""
    found = {k: v for k, v in parameters.items() if v is not None and k != "type"}
    found.setdefault("rope_type", parameters.get("type") or "default")
    theta = _first(config, "rope_theta", "rotary_base", "rotary_emb_base")
    found.setdefault("rope_theta", 10000.0 if theta is None else theta)
    share = _first(config, "partial_rotary_factor", "rotary_pct")
    found.setdefault("partial_rotary_factor", 1.0 if share is None else share)
    return found


def _derived(config: Config) -> dict[str, object]:
    """Sizes that follow from others where a configuration leaves them out."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1:
        return {}
    sizes: dict[str, object] = {"num_key_value_heads": heads, "num_kv_heads": heads}
    if width % heads == 0:
        sizes["head_dim"] = width // heads
    if config.get("model_type") == "falcon":
        sizes["ffn_hidden_size"] = 4 * width
    return sizes


def _window(config: Config) -> object:
    """The sliding window that is in use; None for none."""
    if config.get("use_sliding_window") is False:
        return None
    return config.get("sliding_window") or None


def _rope_layers(config: Config) -> object:
    """1 for every layer with rotary embeddings, 0 for the others; None where all have them."""
    given = config.get("no_rope_layers")
    every = config.get("no_rope_layer_interval", _NO_ROPE_EVERY.get(str(config.get("model_type"))))
    if given is not None or not isinstance(every, int) or every < 1:
        return given
    return [int((i + 1) % every != 0) for i in range(_layers(config))]


def _layers(config: Config) -> int:
    """How many; 0 where that is not said, or nonsense."""
    found = config.get("num_hidden_layers")
    return found if isinstance(found, int) and 0 < found < 10_000 else 0


def _attends(slides: bool) -> str:
    return "sliding_attention" if slides else "full_attention"


def _first(config: Config, *keys: str) -> object:
    """The value of the first of these keys that has one."""
    return next((config[key] for key in keys if config.get(key) is not None), None)
