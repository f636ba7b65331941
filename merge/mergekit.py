"""Linear merges in mergekit's configuration language, read and written.

    merge_method: linear
    models:
      - model: org/name@40-hex-sha
        parameters: {weight: 0.4}

Numbers are taken as decimal text, so 0.4 means 4/10; 010, which is 8 to YAML 1.1, is refused.
`normalize`, true by default there, divides by the exact sum. A weight among the top `parameters`
goes to every model without its own. Everything that is not one weight per whole model is refused
rather than ignored: slices, filters by tensor name, gradients, other methods, unknown or repeated
keys. `BASE+ADAPTER` is a member that is an adapter, where BASE is the merge's `base_model`.
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

from merge.errors import Code, Refused
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
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "off", "0", "0.0"), False),
}
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?", re.ASCII)

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
        _bad("merge_method", f"{top.get('merge_method')!r:.40} is not linear")
    models = top.get("models")
    if not isinstance(models, list) or not models:
        _bad("models", "none are listed")
    base = None if top.get("base_model") is None else _model(top.get("base_model"))
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
    lines = ["merge_method: linear"]
    lines += [] if blend.base is None else [f"base_model: {_quoted(blend.base)}"]
    lines.append("models:")
    whole, _ = numerators([weight for _, weight in blend.members])
    for (name, _), numerator in zip(blend.members, whole, strict=True):
        lines.append(f"  - model: {_quoted(f'{blend.base}+{name}' if name in adapters else name)}")
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
    """Every scalar stays text. PyYAML keeps the last of two equal keys; here they are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        found: dict[object, object] = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            keys = Counter(str(key.value) for key, _ in node.value)
            _bad("configuration", f"has {keys.most_common(1)[0][0]!r:.60} twice")
        return found


def _member(entry: object, base: str | None, common: object) -> tuple[str, Fraction]:
    """Name and weight; common: the weight of models without one of their own."""
    model = _given(entry, "models")
    _only(model, frozenset({"model", "parameters"}), "models")
    name = _adapter(model.get("model"), base) or _model(model.get("model"))
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
    value = str(parameters.get("normalize", "true")).lower()
    if value not in _BOOLEANS:
        _bad("normalize", f"{value!r:.40} is neither true nor false")
    return _BOOLEANS[value]


def _dtype(top: Mapping[str, object]) -> str | None:
    dtype = top.get("out_dtype", top.get("dtype"))
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        _bad("dtype", f"{dtype!r:.40} is none of {', '.join(DTYPES)}")
    return dtype


def _model(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        _bad("model", "needs a name in one line")
    if "+" in value:
        _bad(value, "is an adapter on something else than the base_model")
    return value


def _adapter(value: object, base: str | None) -> str | None:
    """ADAPTER of `BASE+ADAPTER`."""
    if base is None or not isinstance(value, str) or not value.startswith(f"{base}+"):
        return None
    return _model(value.removeprefix(f"{base}+"))


def _check_distinct(names: list[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise Refused(Code.DUPLICATE_MEMBER, name, "is listed twice", "add the two weights")


def _mapping(value: object, subject: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        _bad(subject, "is not a mapping")
    return value


def _given(value: object, subject: str) -> Mapping[str, object]:
    """A mapping's entries that are not null; none where it is null itself."""
    if isinstance(value, str) and value in _NULL:
        return {}
    found = _mapping(value, subject).items()
    return {k: v for k, v in found if not (isinstance(v, str) and v in _NULL)}


def _only(mapping: Mapping[str, object], known: frozenset[str], subject: str) -> None:
    for key in mapping:
        if key not in known:
            _bad(subject, f"has {key!r:.60}, which is more than one weight per model")


def _pinned(repo: str, sha: str) -> str:
    return f"{repo}@{sha}" if sha else repo


def _quoted(text: str) -> str:
    return json.dumps(text)  # a JSON string is a YAML string


def _bad(subject: str, detail: str) -> NoReturn:
    remedy = "write a linear merge with one weight per model"
    raise Refused(Code.BAD_RECIPE, subject, detail, remedy)
