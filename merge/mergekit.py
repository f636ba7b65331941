"""Linear merges in mergekit's configuration language, read and written.

    merge_method: linear
    models:
      - model: org/name@40-hex-sha
        parameters: {weight: 0.4}

Numbers are taken as decimal text, so 0.4 means 4/10; 010, which is 8 to YAML 1.1, is refused.
`normalize`, true by default there, divides by the exact sum. A weight among the top `parameters`
goes to every model without its own. Everything that is not one weight per whole model is refused
rather than ignored: slices, filters by tensor name, gradients, other methods, unknown or repeated
keys. `BASE+ADAPTER` is a member that is an adapter, where BASE is the merge's `base_model`; where
a + belongs to a name, mergekit wants `{model: BASE, lora: ADAPTER}`, or `{model: NAME}`.
`tokenizer_source` may be `base`, as it always is here; rows of padding, which mergekit then cuts
off, stay.

mergekit itself holds weights as doubles and sums in float32: about 1 % of the elements of its
bfloat16 result lie one step away from the soup written here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NoReturn

import yaml

from merge.errors import Code, Refused, brief
from merge.recipe import (
    DTYPES,
    LARGEST,
    MAX_RECIPE,
    Recipe,
    check_weights,
    common_denominator,
    numerators,
    parse_weight,
)

_TOP = frozenset(
    {"merge_method", "models", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source"}
)
_MAX_NODES = 50_000
"""Of a configuration: a model has about ten, and PyYAML needs a second for 30 000."""
_LONGEST = 5000
"""Characters of a name: more than a path has, or a repository with its revision."""
_NULL = "tag:yaml.org,2002:null"
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "off", "0", "0.0"), False),
}
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?", re.ASCII)

_OCTAL = re.compile(r"[-+]?0[0-9_]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Blend:
    """A linear merge as mergekit names it: models as written, e.g. `org/name@sha` or a folder;
    weights sum to one; dtype a torch name, None if the file does not say."""

    base: str | None
    members: tuple[tuple[str, Fraction], ...]
    dtype: str | None


def from_mergekit_yaml(text: str, *, allow_negative: bool = False) -> Blend:
    """The linear merge in `text`. Raises Refused: `bad-recipe`, `weights`, `duplicate-member`."""
    top = _given(_load(text), "configuration")
    _only(top, _TOP, "configuration")
    if top.get("tokenizer_source", "base") != "base":
        _bad("tokenizer_source", "is not base, whose tokenizer it always is")
    if top.get("merge_method") != "linear":
        _bad("merge_method", f"{brief(top.get('merge_method'))} is not linear")
    models = top.get("models")
    if not isinstance(models, list) or not models:
        _bad("models", "none are listed")
    base = None if top.get("base_model") is None else _base(top.get("base_model"))
    parameters = _given(top.get("parameters", {}), "parameters")
    # int8_mask is about the masks of other methods, and often copied along.
    _only(parameters, frozenset({"normalize", "weight", "int8_mask"}), "parameters")
    members = [_member(entry, base, parameters.get("weight")) for entry in models]
    _check_distinct([name for name, _ in members])
    if _normalized(parameters):
        common_denominator((weight for _, weight in members), LARGEST**2)
        total = sum((weight for _, weight in members), Fraction(0))
        if total == 0:
            raise Refused(Code.WEIGHTS, "sum", "is zero", "weights must not cancel")
        members = [(name, weight / total) for name, weight in members]
    check_weights([weight for _, weight in members], allow_negative=allow_negative)
    return Blend(base, tuple(members), _dtype(top))


def to_mergekit_yaml(recipe: Recipe, *, adapters: Collection[str] = ()) -> str:
    """The nearest configuration that mergekit understands; `model@sha` pins each revision.

    adapters: digests of the members that are adapters of the base. No dtype is written where the
    recipe keeps the base's; mergekit then keeps the models'.
    """
    members = [(_pinned(m.repo, m.sha), m.weight) for m in recipe.members]
    names = {_pinned(m.repo, m.sha) for m in recipe.members if m.digest in adapters}
    base = _pinned(recipe.base_repo, recipe.base_sha)
    return blend_yaml(Blend(base, tuple(members), recipe.dtype), adapters=names)


def blend_yaml(blend: Blend, *, adapters: Collection[str] = ()) -> str:
    """The configuration that `from_mergekit_yaml` reads back; adapters: names among the members."""
    assert blend.base is not None or not adapters
    lines = ["merge_method: linear"]
    lines += [] if blend.base is None else [f"base_model: {_written(blend.base)}"]
    lines.append("models:")
    whole, _ = numerators([weight for _, weight in blend.members])
    for (name, _), numerator in zip(blend.members, whole, strict=True):
        lines.append(f"  - model: {_written(name, blend.base if name in adapters else None)}")
        lines.append("    parameters:")
        lines.append(f"      weight: {numerator}")
    # Integers divided by their sum: fractions such as 2/7 have no finite decimal.
    lines += ["parameters:", "  normalize: true"]
    lines += [] if blend.dtype is None else [f"dtype: {blend.dtype}"]
    return "\n".join(lines) + "\n"


def _load(text: str) -> object:
    if len(text) > MAX_RECIPE:
        _bad("configuration", f"more than {MAX_RECIPE} characters")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        remedy = "give one document of mergekit's language"
        raise Refused(Code.BAD_RECIPE, "configuration", "not valid YAML", remedy) from error


class _Loader(yaml.BaseLoader):
    """Every scalar but null stays text; entries that are null are left out.

    PyYAML keeps the last of two equal keys; here they are refused.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            _bad("configuration", f"more than {_MAX_NODES} keys, values and lists")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        found: dict[object, object] = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            keys = Counter(str(key.value) for key, _ in node.value)
            _bad("configuration", f"has {keys.most_common(1)[0][0]!r:.60} twice")
        return {key: value for key, value in found.items() if value is not None}


# Of plain scalars only: a folder may be called "null", in quotes.
_Loader.add_implicit_resolver(_NULL, re.compile(r"(~|null|Null|NULL)?$"), ["~", "n", "N", ""])
_Loader.add_constructor(_NULL, lambda loader, node: None)


def _member(entry: object, base: str | None, common: object) -> tuple[str, Fraction]:
    """Name and weight; common: the weight of models without one of their own."""
    model = _given(entry, "models")
    _only(model, frozenset({"model", "parameters"}), "models")
    whole, adapter = _reference(model.get("model"))
    if adapter is not None and whole != base:
        _bad(f"{whole}+{adapter}", "is an adapter on something else than the base_model")
    name = whole if adapter is None else adapter
    parameters = _given(model.get("parameters", {}), name)
    _only(parameters, frozenset({"weight"}), name)
    return name, _number(parameters.get("weight", common), name)


def _number(value: object, name: str) -> Fraction:
    """A weight in any spelling of YAML's, or as the only entry of a list without a filter."""
    if isinstance(value, list) and len(value) == 1:
        only = _mapping(value[0], name)
        _only(only, frozenset({"value"}), name)
        value = only.get("value")
    if not isinstance(value, str):
        _bad(name, "needs one number as its weight")
    if _OCTAL.match(value):
        _bad(name, f"has the weight {value!r:.40}, which YAML may read as an octal number")
    return parse_weight(f"{Decimal(value):f}" if _NUMBER.fullmatch(value) else value)


def _normalized(parameters: Mapping[str, object]) -> bool:
    value = parameters.get("normalize", "true")
    found = _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        _bad("normalize", f"{brief(value)} is neither true nor false")
    return found


def _dtype(top: Mapping[str, object]) -> str | None:
    dtype = top.get("out_dtype", top.get("dtype"))
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        _bad("dtype", f"{brief(dtype)} is none of {', '.join(DTYPES)}")
    return dtype


def _base(value: object) -> str:
    base, adapter = _reference(value)
    if adapter is not None:
        _bad("base_model", "is an adapter")
    return base


def _reference(value: object) -> tuple[str, str | None]:
    """Model, and adapter or None: `MODEL`, `MODEL+ADAPTER` or a mapping of the two."""
    if isinstance(value, str):
        model, plus, adapter = value.partition("+")
        if "+" in adapter:
            _bad(value, "has more than one +: write a mapping of model and lora")
        return _line(model), _line(adapter) if plus else None
    both = _given(value, "model")
    _only(both, frozenset({"model", "lora"}), "model")
    return _path(both.get("model")), _path(both["lora"]) if "lora" in both else None


def _path(value: object) -> str:
    """`PATH`, `PATH@REVISION` or a mapping of the two."""
    if not isinstance(value, Mapping):
        return _line(value)
    both = _mapping(value, "model")
    _only(both, frozenset({"path", "revision"}), "model")
    path = _line(both.get("path"))
    if "@" in path:
        _bad(path, "has an @, which stands before a revision here")
    return _pinned(path, _line(both["revision"]) if "revision" in both else "")


def _line(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        _bad("model", "needs a name in one line")
    return value


def _check_distinct(names: list[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise Refused(Code.DUPLICATE_MEMBER, name, "is listed twice", "add the two weights")


def _mapping(value: object, subject: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        _bad(subject, "is not a mapping")
    return value


def _given(value: object, subject: str) -> Mapping[str, object]:
    """A mapping; an empty one for null."""
    return {} if value is None else _mapping(value, subject)


def _only(mapping: Mapping[str, object], known: frozenset[str], subject: str) -> None:
    for key in mapping:
        if key not in known:
            _bad(subject, f"has {key!r:.60}, which is more than one weight per model")


def _pinned(repo: str, sha: str) -> str:
    return f"{repo}@{sha}" if sha else repo


def _written(name: str, base: str | None = None) -> str:
    """What `_reference` reads, base: of an adapter. One string, unless a + belongs to a name."""
    if "+" in name or "+" in (base or ""):
        model, lora = (name, "") if base is None else (base, f", lora: {_quoted(name)}")
        return f"{{model: {_quoted(model)}{lora}}}"
    return _quoted(name if base is None else f"{base}+{name}")


def _quoted(text: str) -> str:
    # A JSON string is a YAML string, but for what JSON escapes as two surrogates.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _bad(subject: str, detail: str) -> NoReturn:
    remedy = "write a linear merge with one weight per model"
    raise Refused(Code.BAD_RECIPE, subject, detail, remedy)
