"""Do two `config.json` describe the same forward pass?

A key falls in one of three classes: it cannot change the forward pass with given tensors
(`HARMLESS`), or it must equal the base's once both are spelt alike (`merge.spellings`), and a key
that nobody here has heard of must be equal too. Values are compared, never given to a library.

Not promised: completeness of `HARMLESS`; an unknown harmless key refuses a good model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from merge.classes import known
from merge.errors import Code, Refused, brief
from merge.rotary import contradiction
from merge.spellings import DERIVED, spelt_out

HARMLESS = frozenset(
    {
        # provenance and containers
        "_name_or_path", "_commit_hash", "name_or_path", "transformers_version", "dtype",
        "torch_dtype", "unsloth_version", "unsloth_fixed", "architectures_map", "finetuning_task",
        # ids and texts of tasks and generation, none enters the forward pass
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "sep_token_id",
        "id2label", "label2id", "problem_type", "task_specific_params", "prefix", "num_labels",
        "_pad_token_id", "bos_token", "eos_token", "pad_token", "eod_token_id", "padding_side",
        "tokenizer_name",
        # settings of generation that transformers 4 wrote here; 5 drops them
        "assistant_confidence_threshold", "assistant_lookbehind", "bad_words_ids",
        "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
        "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff",
        "eta_cutoff", "exponential_decay_length_penalty", "forced_bos_token_id",
        "forced_eos_token_id", "length_penalty", "max_length", "min_length",
        "no_repeat_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule",
        "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
        "remove_invalid_values", "repetition_penalty", "suppress_tokens", "target_lookbehind",
        "temperature", "top_k", "top_p", "typical_p",
        # which code computes the same, and in which runtime
        "_flash_attn_2_enabled", "use_flash_attention_2", "transformers.js_config",
        "is_llama_config", "use_return_dict", "use_mambapy", "use_falcon_mambapy",
        "use_associative_scan", "use_mamba_kernels", "tf_legacy_loss", "output_past",
        # what is returned or cached, and training-time noise
        "use_cache", "output_attentions", "output_hidden_states", "return_dict",
        "return_dict_in_generate", "gradient_checkpointing", "torchscript", "use_bfloat16",
        "initializer_range", "pretraining_tp", "attention_dropout", "hidden_dropout",
        "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout_prob", "classifier_dropout",
        "chunk_size_feed_forward", "router_aux_loss_coef", "output_router_logits",
        "router_jitter_noise", "tokenizer_class", "model_max_length", "cache_implementation",
        "loss_type", "neftune_noise_alpha", "initializer_factor", "init_std",
        # decided on the tensors themselves
        "tie_word_embeddings",
    }
)  # fmt: skip
"""Configuration keys that may differ: the forward pass with given tensors is the same."""

_ARCHITECTURE = ("architectures", "model_type")
_DEEPEST = 8
_LEVELS = 64
"""As many as `_walk` looks into: what lies below is refused, not overlooked."""
_WEIGHTS = "transformers_weights"
_CHOSEN_BY_ITSELF = "_attn_implementation_autoset"
"""Whether transformers 4.48 to 4.51 chose the attention or was told: a boolean, and no choice."""
_SAFE_ATTENTION = frozenset(
    {None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}
)


def compare_configs(base: Mapping[str, object], other: Mapping[str, object]) -> list[Refused]:
    """Reasons why two parsed `config.json` describe different models; empty when they agree.

    Codes: `needs-code`, `quantised`, `other-architecture`, `config-mismatch` (the subject is the
    key; those in nested configurations have the keys above them before it).
    """
    found = [*_needs_code(other), *_quantised_config(other), *_other_weights(other)]
    deep = list(_nesting(other))
    return [*found, *(deep or _differences(base, other, ""))]


def canonical(
    config: Mapping[str, object], inside: tuple[str, bool] | None = None
) -> dict[str, object]:
    """The keys that matter, spelt one way. inside: see `spelt_out`."""
    return spelt_out({k: v for k, v in config.items() if not harmless(k)}, inside)


def _differences(
    base: Mapping[str, object],
    other: Mapping[str, object],
    prefix: str,
    inside: tuple[str, bool] | None = None,
) -> Iterator[Refused]:
    yield from _contradictions(other, prefix)
    ours, theirs = canonical(base, inside), canonical(other, inside)
    nested = known(ours.get("model_type")).nested
    for key in _in_order(ours, theirs):
        mine, yours = ours.get(key), theirs.get(key)
        path = f"{prefix}{key}"
        if isinstance(mine, Mapping) and isinstance(yours, Mapping) and key.endswith("_config"):
            yield from _differences(mine, yours, f"{path}.", nested.get(key))
        elif not _same(mine, yours):
            yield _config_reason(key, path, mine, yours)


def _in_order(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Keys to compare; of another architecture only those that say so: it explains the others."""
    if not all(_same(ours.get(key), theirs.get(key)) for key in _ARCHITECTURE):
        return list(_ARCHITECTURE)
    return sorted(ours.keys() | theirs.keys(), key=lambda key: (key in DERIVED, key))


def harmless(key: str) -> bool:
    """Whether values may differ; also whatever training drops at random, under any name."""
    return key in HARMLESS or _attention_choice(key) or "dropout" in key or key.endswith("_pdrop")


def _needs_code(config: Mapping[str, object]) -> Iterator[Refused]:
    for path, key, value in _walk(config):
        foreign_kernel = _attention_choice(key) and not (
            value in _SAFE_ATTENTION if isinstance(value, str | None) else not value
        )
        if key == _CHOSEN_BY_ITSELF and isinstance(value, bool):
            continue
        if (key in {"auto_map", "trust_remote_code", "custom_pipelines"} and value) or (
            foreign_kernel
        ):
            yield Refused(
                Code.NEEDS_CODE, path, "asks for code from a repository",
                "none is ever run: leave this member out",
            )  # fmt: skip


def _other_weights(config: Mapping[str, object]) -> Iterator[Refused]:
    """transformers 5 loads the file that this key names, others load `model.safetensors`."""
    if config.get(_WEIGHTS):
        yield Refused(
            Code.CONFIG_MISMATCH, _WEIGHTS, f"names a file of weights: {brief(config[_WEIGHTS])}",
            "call it model.safetensors and leave the key out",
        )  # fmt: skip


def _quantised_config(config: Mapping[str, object]) -> Iterator[Refused]:
    for path, key, value in _walk(config):
        if key in {"quantization_config", "compression_config"} and value:
            yield Refused(
                Code.QUANTISED, path, "the configuration declares quantised weights",
                "use the checkpoint before quantisation, or dequantise it",
            )  # fmt: skip


def _contradictions(config: Mapping[str, object], prefix: str) -> Iterator[Refused]:
    found = contradiction(config)
    if found is not None:
        key, outer, inner = found
        yield Refused(
            Code.CONFIG_MISMATCH, f"{prefix}{key}",
            f"{brief(outer)}, and elsewhere {brief(inner)}", "say it once",
        )  # fmt: skip


def _walk(node: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str, object]]:
    """(path, key, value) of every entry, also nested in lists, as far down as _LEVELS."""
    if depth > _LEVELS:
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{prefix}{key}", str(key), value
            yield from _walk(value, f"{prefix}{key}.", depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value, prefix, depth + 1)


def _nesting(config: Mapping[str, object]) -> Iterator[Refused]:
    """Keys whose values nest so deeply that comparing them would exhaust the stack."""
    for key, value in config.items():
        level: list[object] = [value]
        for _ in range(_LEVELS):
            level = [inner for node in level for inner in _inside(node)]
        if level:
            yield Refused(
                Code.CONFIG_MISMATCH, key, f"nested more than {_LEVELS} levels deep",
                "no model needs that: write the configuration again",
            )  # fmt: skip


def _inside(node: object) -> Iterable[object]:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list) else ()


def _attention_choice(key: str) -> bool:
    return key.lstrip("_").startswith(("attn_implementation", "experts_implementation"))


def _config_reason(key: str, path: str, mine: object, yours: object) -> Refused:
    where, mine, yours = first_difference(mine, yours)
    shown = f"{brief(yours)} instead of {brief(mine)}" + (f" at {where}" if where else "")
    if key in _ARCHITECTURE:
        remedy = "only same-architecture models merge: leave this member out"
        return Refused(Code.OTHER_ARCHITECTURE, path, shown, remedy)
    remedy = "the setting enters the forward pass: take members that have the base's"
    return Refused(Code.CONFIG_MISMATCH, path, shown, remedy)


def first_difference(mine: object, yours: object) -> tuple[str, object, object]:
    """Where two values that are not equal first differ ("[0].name"), and what stands there.

    Not looked for below _DEEPEST levels: each costs a comparison of all that is below it.
    """
    where = ""
    for _ in range(_DEEPEST):
        if isinstance(mine, Mapping) and isinstance(yours, Mapping):
            keys = sorted(mine.keys() | yours.keys())
            at = next(key for key in keys if not _same(mine.get(key), yours.get(key)))
            mine, yours, where = mine.get(at), yours.get(at), f"{where}.{at}"
        elif isinstance(mine, list) and isinstance(yours, list) and len(mine) == len(yours):
            pairs = zip(mine, yours, strict=True)
            i = next(i for i, pair in enumerate(pairs) if not _same(*pair))
            mine, yours, where = mine[i], yours[i], f"{where}[{i}]"
    return where.removeprefix("."), mine, yours


def _same(mine: object, yours: object) -> bool:
    """Equality in which 1 equals 1.0 but not True, and null is absent, at any depth."""
    if isinstance(mine, Mapping) and isinstance(yours, Mapping):
        return all(_same(mine.get(key), yours.get(key)) for key in mine.keys() | yours.keys())
    if isinstance(mine, list) and isinstance(yours, list):
        return len(mine) == len(yours) and all(map(_same, mine, yours))
    return isinstance(mine, bool) == isinstance(yours, bool) and mine == yours
