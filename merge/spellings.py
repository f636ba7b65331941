"""One spelling for the `config.json` of one model, whichever version of transformers wrote it.

Later versions write what earlier ones left to the class: widths of heads, kinds of layers,
defaults. They rename keys, move settings of rotary embeddings into one mapping and drop others that
are without effect. A fine-tune saved today must equal its base published years ago, so both are
spelt out here first, with what the classes take (`merge.classes`). Values are evened out, never
given to a library.

Not promised: every architecture; what is not known here is compared as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping

from merge.classes import Kind, known
from merge.rotary import ROTARY, Config, first, rope

DEFAULTS: Config = {
    "is_encoder_decoder": False, "is_decoder": False, "add_cross_attention": False,
    "tie_encoder_decoder": False, "slow_but_exact": False, "rope_interleaved": False,
}  # fmt: skip
"""What absent means, whatever the class."""

DERIVED = frozenset({"layer_types", "no_rope_layers"})
"""Where these differ, so do most often the keys that they follow from, which say more."""

_PATTERNS: Mapping[str, int] = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""Every how manieth layer attends to everything, where the configuration does not say."""
_FLAT = frozenset({"qwen2_vl", "qwen2_5_vl"})
"""What was published with the settings of the text model beside those of the whole."""
_ALL_ALIKE: Mapping[str, str] = {"granitemoehybrid": "linear_attention"}
_NO_ROPE_EVERY: Mapping[str, int] = {"smollm3": 4}
_RENAMED_LAYERS: Mapping[str, str] = {
    "mamba": "linear_attention", "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention", "qwen_sparse_attention": "indexed_attention",
}  # fmt: skip
_RANKS = ("time_step_rank", "mamba_dt_rank")
_LISTS_OF_LAYERS = ("layer_types", "layers_block_type", "mtp_layer_types")

_LAYERS = frozenset(
    {
        "layer_types", "sliding_window_pattern", "_sliding_window_pattern", "max_window_layers",
        "use_sliding_window", "no_rope_layers", "no_rope_layer_interval",
    }
)  # fmt: skip


def spelt_out(config: Config, inside: tuple[str, bool] | None = None) -> dict[str, object]:
    """The configuration without absent values, defaults filled in, layers and rope in one form.

    inside: of a nested one, the `model_type` that it has by where it stands, and whether it is
    that in any case. What `architectures` names is the whole, so a nested one may name another.
    """
    config = _of_its_kind(config, inside)
    kind = known(config.get("model_type"))
    if str(config.get("model_type")) in _FLAT:
        config = _unflattened(config, kind)
    config = _filled(_renamed(config, kind.renamed), kind)
    found = {k: v for k, v in config.items() if not _nothing(v) and k not in ROTARY | _LAYERS}
    for key, value in {**DEFAULTS, **_derived(config)}.items():
        found.setdefault(key, value)
    if _window(config) is None:
        found.pop("sliding_window", None)
    if config.get("model_type") == "gemma" and found.get("hidden_act") == "gelu":
        found["hidden_act"] = "gelu_pytorch_tanh"  # what its first configurations meant
    if inside is not None:
        found.pop("architectures", None)
    found["layer_types"] = layer_types(config)
    found["no_rope_layers"] = _rope_layers(config)
    found["rope_parameters"] = rope(config, kind.rotary if kind.defaults else None)
    return found


def _unflattened(config: Config, kind: Kind) -> Config:
    """With the settings of the text model where later versions have them."""
    text = known(kind.nested["text_config"][0])
    ours = ({*text.defaults, *text.renamed, *_LAYERS} | ROTARY) - kind.defaults.keys()
    inner = config.get("text_config", {})
    if not isinstance(inner, Mapping):
        return config
    moved = {key: value for key, value in config.items() if key in ours}
    rest = {key: value for key, value in config.items() if key not in ours}
    own = {k: v for k, v in inner.items() if k in ours or k not in rest or rest[k] != v}
    return {**rest, "text_config": {**moved, **own}}


def _nothing(value: object) -> bool:
    """Some versions write an empty list, or an empty mapping, where others write null."""
    return value is None or value == [] or value == {}


def _of_its_kind(config: Config, inside: tuple[str, bool] | None) -> Config:
    name, fixed = inside or ("", False)
    if name and (fixed or config.get("model_type") is None):
        return {**config, "model_type": name}
    return config


def _renamed(config: Config, names: Mapping[str, str]) -> Config:
    """Every key under the name that is written; both where they contradict each other."""
    moved = {k: v for k, v in config.items() if k in names and config.get(names[k], v) == v}
    kept = {k: v for k, v in config.items() if k not in moved}
    return {**kept, **{names[k]: v for k, v in moved.items()}}


def _filled(config: Config, kind: Kind) -> Config:
    """With what the class takes for absent keys; a switch that is null is off."""
    usual = _renamed(kind.defaults, kind.renamed)
    found = {**usual, **config}
    found |= {key: False for key, value in usual.items() if value is False and found[key] is None}
    for key in _RANKS:
        if found.get(key) == "auto":
            found[key] = -(-_whole(found.get("hidden_size")) // 16)
    for key in _LISTS_OF_LAYERS:
        names = found.get(key)
        if isinstance(names, list):
            found[key] = [_RENAMED_LAYERS.get(n, n) if isinstance(n, str) else n for n in names]
    return found


def layer_types(config: Config) -> object:
    """What every layer attends to, as `layer_types` says it; None where nothing tells."""
    given, layers = config.get("layer_types"), _layers(config)
    if given is not None or not layers:
        return given
    alike = _ALL_ALIKE.get(str(config.get("model_type")))
    if alike is not None:
        return [alike] * layers
    pattern = first(config, "sliding_window_pattern", "_sliding_window_pattern")
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


def _derived(config: Config) -> dict[str, object]:
    """Sizes that follow from others where a configuration leaves them out."""
    sizes: dict[str, object] = {}
    width, heads = _whole(config.get("hidden_size")), _whole(config.get("num_attention_heads"))
    if width and heads:
        sizes = {"num_key_value_heads": heads, "num_kv_heads": heads}
        sizes |= {"head_dim": width // heads} if width % heads == 0 else {}
    rotated, plain = (_whole(config.get(f"qk_{part}_head_dim")) for part in ("rope", "nope"))
    if rotated and plain:
        sizes["qk_head_dim"] = rotated + plain
    kind = config.get("model_type")
    if kind == "falcon":
        sizes["ffn_hidden_size"] = 4 * width
    elif kind == "opt":
        sizes["word_embed_proj_dim"] = width
    elif kind == "gpt_bigcode":
        sizes["num_key_value_heads"] = 1 if config.get("multi_query") else config.get("n_head")
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


def _whole(value: object) -> int:
    """A size; 0 where there is none."""
    whole = isinstance(value, int | float) and value > 0 and value == value // 1
    return int(value) if whole and isinstance(value, int | float) else 0


def _attends(slides: bool) -> str:
    return "sliding_attention" if slides else "full_attention"
