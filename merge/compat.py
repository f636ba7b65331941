"""Can this checkpoint be averaged with that base? Reasons, not a yes or no.

Three comparisons, each of parsed headers or parsed JSON, each returning every reason it finds:
tensors (names, shapes, dtypes: here), configuration (`merge.configs`), tokenizer
(`merge.vocabulary`). Values are taken as strangers wrote them: nothing is given to a library that
acts on it.

A tensor container may differ (a float32 fine-tune of a bfloat16 base), the numbers of rows may not.
A language-model head may be absent where the embedding can stand in for it; that its values agree
is a question to the bytes, answered when a soup is made.

Standard library only. Not promised: that equal names mean equal roles, e.g. experts of a
mixture-of-experts model that were permuted after training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from merge.checkpoint import Layout, TensorSpec
from merge.classes import known
from merge.configs import compare_configs
from merge.errors import Code, Refused
from merge.vocabulary import compare_tokenizers

__all__ = [
    "FLOATS",
    "compare_configs",
    "compare_layouts",
    "compare_tokenizers",
    "derived",
    "has_head",
    "head_and_embedding",
]

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
_RESIZE = "padded or resized vocabularies are not cut: resize to the base's rows"
_CAUSAL_MASK = re.compile(r"(^|\.)attn(ention)?\.bias$")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_ANY_HEAD = ("head.weight", "embed_out.weight", "output.weight", "output_layer.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight")


def compare_layouts(base: Layout, other: Layout) -> list[Refused]:
    """Reasons why `other`'s tensors cannot be averaged with `base`'s; empty when they can.

    Codes: `quantised`, `wrong-tensors`, `wrong-shapes`, `wrong-dtypes`.
    """
    reasons = [*_quantised(other), *_adapter_remains(other)]
    if reasons:
        return reasons
    return [*_names(base, other), *_shapes_and_dtypes(base, other)]


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


def ties(config: Mapping[str, object]) -> bool | None:
    """Whether a model of this configuration takes its embedding for its head: what it says itself,
    else what its class does. None where neither is known."""
    said = config.get("tie_word_embeddings")
    return said if isinstance(said, bool) else known(config.get("model_type")).ties


def has_head(layout: Layout) -> bool:
    """Whether any tensor looks like a language-model head, under whatever name."""
    return any(name.endswith(_ANY_HEAD) for name in layout.tensors)


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
                _RESIZE if theirs.shape[1:] == ours.shape[1:] else "take fine-tunes of this base",
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
    if name not in _HEADS:
        return False  # before the whole layout is searched: any number of names may be missing
    embedding = head_and_embedding(lacks)[1]
    return (
        embedding is not None
        and embedding in has.tensors
        and lacks.tensors[embedding].shape == has.tensors[name].shape
    )


def _tensors(name: str, detail: str, remedy: str) -> Refused:
    return Refused(Code.WRONG_TENSORS, name, detail, remedy)
