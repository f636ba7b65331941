"""Can this checkpoint be averaged with that base? Reasons, not a yes or no.

Three comparisons, each of parsed headers or parsed JSON, each returning every reason it finds:
tensors (names, shapes, dtypes), configuration, tokenizer. Values are taken as strangers wrote
them: nothing here is given to a library that acts on it.

A configuration key falls in one of three classes: it cannot change the forward pass (`HARMLESS`),
or it must equal the base's after spelling is evened out (`canonical`), and a key nobody here has
heard of must be equal too. A tensor container may differ (a float32 fine-tune of a bfloat16 base),
the numbers of rows may not. A language-model head may be absent where the embedding can stand in
for it; that its values agree is a question to the bytes, answered in `merge.soup`.

Standard library only. Not promised: that equal names mean equal roles, e.g. experts of a
mixture-of-experts model that were permuted after training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from merge.checkpoint import Layout, TensorSpec
from merge.errors import Code, Refused

FLOATS = frozenset({"BF16", "F16", "F32", "F64"})
"""Dtypes that are averaged; integers and booleans are buffers that must be equal, and copied."""

_PACKED = frozenset(
    {"F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
)
_QUANT_NAME = re.compile(
    r"(^|[._])(qweight|qzeros|g_idx|absmax|nested_absmax|quant_map|nested_quant_map|quant_state"
    r"(\..*)?|SCB|weight_format|weight_packed|weight_shape|weight_zero_point|scale_inv|scales"
    r"|weight_scale(_2|_inv)?|input_scale|output_scale|[kqv]_scale|bitsandbytes__\w+)$"
)
_ADAPTER_NAME = re.compile(r"(^|\.)(lora_[AB]|lora_magnitude_vector|lora_embedding_[AB])(\.|$)")
_DERIVED = re.compile(
    r"(^|\.)(inv_freq|original_inv_freq|position_ids|masked_bias|cos_cached|sin_cached)$"
)
_CAUSAL_MASK = re.compile(r"(^|\.)attn(ention)?\.bias$")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight")

HARMLESS = frozenset(
    {
        # provenance and containers
        "_name_or_path", "_commit_hash", "name_or_path", "transformers_version", "dtype",
        "torch_dtype", "unsloth_version", "unsloth_fixed", "architectures_map", "finetuning_task",
        # ids and texts of tasks and generation, none enters the forward pass
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "sep_token_id",
        "id2label", "label2id", "problem_type", "task_specific_params", "prefix", "num_labels",
        "max_length", "min_length", "do_sample", "temperature", "top_k", "top_p", "num_beams",
        "repetition_penalty", "forced_bos_token_id", "forced_eos_token_id",
        # what is returned or cached, and training-time noise
        "use_cache", "output_attentions", "output_hidden_states", "return_dict",
        "return_dict_in_generate", "gradient_checkpointing", "torchscript", "use_bfloat16",
        "initializer_range", "pretraining_tp", "attention_dropout", "hidden_dropout",
        "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout_prob", "classifier_dropout",
        "chunk_size_feed_forward", "router_aux_loss_coef", "output_router_logits",
        "router_jitter_noise", "tokenizer_class", "model_max_length",
        # decided on the tensors themselves
        "tie_word_embeddings",
    }
)  # fmt: skip
"""Configuration keys that may differ: the forward pass with given tensors is the same."""

_DEFAULTS: Mapping[str, object] = {
    "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "use_sliding_window": False,
    "is_encoder_decoder": False, "is_decoder": False, "add_cross_attention": False,
    "pruned_heads": {}, "tie_encoder_decoder": False, "cross_attention_hidden_size": None,
}  # fmt: skip
"""Values that save_pretrained leaves out or writes by version; absent means the same."""

_SAFE_ATTENTION = frozenset(
    {None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}
)


def compare_layouts(base: Layout, other: Layout) -> list[Refused]:
    """Reasons why `other`'s tensors cannot be averaged with `base`'s; empty when they can.

    Codes: `quantised`, `wrong-tensors`, `wrong-shapes`, `wrong-dtypes`.
    """
    reasons = [*_quantised(other), *_adapter_remains(other)]
    if reasons:
        return reasons
    return [*_names(base, other), *_shapes_and_dtypes(base, other)]


def compare_configs(
    base: Mapping[str, object], other: Mapping[str, object], *, subject: str = ""
) -> list[Refused]:
    """Reasons why two parsed `config.json` describe different models; empty when they agree.

    subject: prefix for nested keys. Codes: `needs-code`, `quantised`, `other-architecture`,
    `config-mismatch` (the subject is the key).
    """
    reasons = [] if subject else [*_needs_code(other), *_quantised_config(other)]
    ours, theirs = canonical(base), canonical(other)
    for key in sorted(set(ours) | set(theirs)):
        mine, yours = ours.get(key), theirs.get(key)
        path = f"{subject}{key}"
        if isinstance(mine, Mapping) and isinstance(yours, Mapping) and key.endswith("_config"):
            reasons += compare_configs(mine, yours, subject=f"{path}.")
        elif not _same(mine, yours):
            reasons.append(_config_reason(key, path, mine, yours))
    return reasons


def compare_tokenizers(
    base_json: Mapping[str, object], other_json: Mapping[str, object]
) -> list[Refused]:
    """Reasons why two parsed `tokenizer.json` give tokens different ids; empty when they agree.

    Compared is content: the algorithm, the id of every token, wherever it is listed (vocabulary
    or added tokens), and the merges. Formatting, flags, padding and templates are not: the
    tokenizer in use is always the base's. Code: `vocab-mismatch`.
    """
    mine, yours = _vocabulary(base_json), _vocabulary(other_json)
    if mine.ids != yours.ids:
        odd = sorted(
            t for t in mine.ids.keys() | yours.ids.keys() if mine.ids.get(t) != yours.ids.get(t)
        )
        return [
            _vocab(
                odd[0],
                f"id {yours.ids.get(odd[0])} instead of {mine.ids.get(odd[0])}, "
                f"one of {len(odd)} tokens that differ",
            )
        ]
    if mine.kind != yours.kind:
        return [_vocab("model.type", f"{yours.kind!r} instead of {mine.kind!r}")]
    if mine.rules != yours.rules:
        return [_vocab("model.merges", "merges or scores differ")]
    return []


def canonical(config: Mapping[str, object]) -> dict[str, object]:
    """The keys that matter, spelt one way: defaults filled in, rope in its current form."""
    rope_free = {k: v for k, v in config.items() if k not in HARMLESS and k not in _ROPE_KEYS}
    kept = {k: v for k, v in rope_free.items() if not _attention_choice(k)}
    kept = {k: v for k, v in kept.items() if v is not None}
    for key, default in _DEFAULTS.items():
        if default is not None:
            kept.setdefault(key, default)
    kept["rope_parameters"] = _rope(config)
    return kept


def derived(spec: TensorSpec) -> bool:
    """True for buffers that a model recomputes (rotary frequencies, causal masks): optional."""
    mask = _CAUSAL_MASK.search(spec.name) and len(spec.shape) == 4
    return bool(_DERIVED.search(spec.name) or mask)


def head_and_embedding(layout: Layout) -> tuple[str | None, str | None]:
    """Names of the language-model head and of the input embedding, each None when absent.

    An embedding counts when the head could be tied to it: two dimensions, and one such tensor only.
    """
    head = next((name for name in _HEADS if name in layout.tensors), None)
    ends = tuple(f".{e}" for e in _EMBEDDINGS)
    found = [
        n
        for n, spec in layout.tensors.items()
        if (n in _EMBEDDINGS or n.endswith(ends)) and len(spec.shape) == 2
    ]
    return head, found[0] if len(found) == 1 else None


def _names(base: Layout, other: Layout) -> Iterator[Refused]:
    missing = _required(base) - set(other.tensors)
    extra = _required(other) - set(base.tensors)
    for name in sorted(missing):
        if not _tied_stand_in(name, base, other):
            yield _tensors(name, "absent", "check the names: another version may have renamed them")
    for name in sorted(extra):
        if not _tied_stand_in(name, other, base):
            yield _tensors(name, "not in the base", "remove it, or merge adapters first")


def _shapes_and_dtypes(base: Layout, other: Layout) -> Iterator[Refused]:
    for name in sorted(set(base.tensors) & set(other.tensors)):
        ours, theirs = base.tensors[name], other.tensors[name]
        if derived(ours):
            continue
        if ours.shape != theirs.shape:
            yield Refused(
                Code.WRONG_SHAPES, name, f"{list(theirs.shape)} instead of {list(ours.shape)}",
                "padded or resized vocabularies are not cut: resize to the base's rows",
            )  # fmt: skip
        both_float = ours.dtype in FLOATS and theirs.dtype in FLOATS
        if ours.dtype != theirs.dtype and not both_float:
            yield Refused(
                Code.WRONG_DTYPES, name, f"{theirs.dtype} instead of {ours.dtype}",
                "buffers must have the base's dtype",
            )  # fmt: skip


def _quantised(layout: Layout) -> Iterator[Refused]:
    for name, spec in sorted(layout.tensors.items()):
        bytes_matrix = spec.dtype in {"I8", "U8"} and len(spec.shape) == 2
        if spec.dtype in _PACKED or bytes_matrix or _QUANT_NAME.search(name):
            yield Refused(
                Code.QUANTISED, name, f"{spec.dtype} codes or scales of a quantised model",
                "use the checkpoint before quantisation, or dequantise it",
            )  # fmt: skip
            return


def _adapter_remains(layout: Layout) -> Iterator[Refused]:
    for name in sorted(layout.tensors):
        if _ADAPTER_NAME.search(name):
            yield _tensors(name, "part of an adapter", "merge the adapter (merge_and_unload) first")
            return


def _required(layout: Layout) -> set[str]:
    return {name for name, spec in layout.tensors.items() if not derived(spec)}


def _tied_stand_in(name: str, has: Layout, lacks: Layout) -> bool:
    """True if `name` is the head and the embedding of the layout without it has its shape."""
    embedding = head_and_embedding(lacks)[1]
    return (
        name in _HEADS
        and embedding is not None
        and embedding in has.tensors
        and lacks.tensors[embedding].shape == has.tensors[name].shape
    )


def _needs_code(config: Mapping[str, object]) -> Iterator[Refused]:
    for path, key, value in _walk(config):
        foreign_kernel = _attention_choice(key) and not (
            value in _SAFE_ATTENTION if isinstance(value, str | None) else not value
        )
        if (key in {"auto_map", "trust_remote_code", "custom_pipelines"} and value) or (
            foreign_kernel
        ):
            yield Refused(
                Code.NEEDS_CODE, path, "asks for code from a repository", "none is ever run"
            )


def _quantised_config(config: Mapping[str, object]) -> Iterator[Refused]:
    for path, key, value in _walk(config):
        if key in {"quantization_config", "compression_config"} and value:
            yield Refused(
                Code.QUANTISED, path, "the configuration declares quantised weights",
                "use the checkpoint before quantisation, or dequantise it",
            )  # fmt: skip


def _walk(node: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str, object]]:
    """(path, key, value) of every entry, also nested in lists; 64 levels are enough."""
    if depth > 64:
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{prefix}{key}", str(key), value
            yield from _walk(value, f"{prefix}{key}.", depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value, prefix, depth + 1)


def _attention_choice(key: str) -> bool:
    return key.lstrip("_").startswith(("attn_implementation", "experts_implementation"))


_ROPE_KEYS = frozenset({"rope_theta", "rope_scaling", "rope_parameters", "rotary_base"})


def _rope(config: Mapping[str, object]) -> dict[str, object]:
    """Rotary settings as one mapping, from `rope_parameters` or from theta and scaling."""
    found, scaling = config.get("rope_parameters"), config.get("rope_scaling")
    parameters: dict[str, object] = dict(scaling) if isinstance(scaling, Mapping) else {}
    parameters |= found if isinstance(found, Mapping) else {}
    if parameters and all(isinstance(value, Mapping) for value in parameters.values()):
        return parameters  # one mapping per layer type
    kind = parameters.pop("type", None)
    parameters.setdefault("rope_type", kind or "default")
    theta = config.get("rope_theta", config.get("rotary_base"))
    parameters.setdefault("rope_theta", 10000.0 if theta is None else theta)
    return {k: v for k, v in parameters.items() if v is not None}


def _config_reason(key: str, path: str, mine: object, yours: object) -> Refused:
    shown = f"{yours!r:.80} instead of {mine!r:.80}"
    if key in {"model_type", "architectures"}:
        return Refused(Code.OTHER_ARCHITECTURE, path, shown, "only same-architecture models merge")
    return Refused(Code.CONFIG_MISMATCH, path, shown, "the setting enters the forward pass")


def _same(mine: object, yours: object) -> bool:
    """Equality in which 1 equals 1.0 but not True, at any depth."""
    if isinstance(mine, Mapping) and isinstance(yours, Mapping):
        return mine.keys() == yours.keys() and all(_same(mine[k], yours[k]) for k in mine)
    if isinstance(mine, list) and isinstance(yours, list):
        return len(mine) == len(yours) and all(map(_same, mine, yours))
    return isinstance(mine, bool) == isinstance(yours, bool) and mine == yours


class _Vocabulary:
    """What a tokenizer.json says about ids: algorithm, token -> id, merges or scores."""

    def __init__(self, tokenizer: Mapping[str, object]) -> None:
        model = tokenizer.get("model")
        model = model if isinstance(model, Mapping) else {}
        self.kind = model.get("type") or ("BPE" if "merges" in model else None)
        self.ids: dict[str, object] = {}
        self.rules: list[object] = []
        vocab = model.get("vocab")
        if isinstance(vocab, Mapping):
            self.ids.update(vocab)
        elif isinstance(vocab, list):  # Unigram: [[token, score], ...], the position is the id
            self.ids.update({str(e[0]): i for i, e in enumerate(vocab) if _pair(e)})
            self.rules += [e[1] for e in vocab if _pair(e)]
        for token in _entries(tokenizer.get("added_tokens")):
            if isinstance(token, Mapping):
                self.ids[str(token.get("content"))] = token.get("id")
        for merge in _entries(model.get("merges")):  # "a b" before tokenizers 0.20, then ["a", "b"]
            self.rules.append(merge.split(" ") if isinstance(merge, str) else merge)


def _vocabulary(tokenizer: Mapping[str, object]) -> _Vocabulary:
    return _Vocabulary(tokenizer)


def _entries(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2


def _tensors(name: str, detail: str, remedy: str) -> Refused:
    return Refused(Code.WRONG_TENSORS, name, detail, remedy)


def _vocab(subject: str, detail: str) -> Refused:
    return Refused(Code.VOCAB_MISMATCH, subject, detail, "members must share the base's vocabulary")
