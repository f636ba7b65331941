"""Writes `merge/class_defaults.json`: what the classes of transformers take for what is not said.

    python tests/merge_engine/class_defaults.py dump > VERSION.json      in each environment, then
    python tests/merge_engine/class_defaults.py table NEWEST.json OLDER.json ... > TABLE

The TABLE in the repository is from 5.23.0, 4.57.1, 4.46.3, 4.40.2 and 4.36.2. Of each model
that writes text, and of each configuration inside it: defaults of its fields, other names of these,
rotary settings, the kinds of nested configurations, and whether it ties its head (from 5.23.0 and
4.57.1, of models without configurations inside). Where two versions have different defaults,
absence says nothing, and the key is left out; so are keys that may differ anyway.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KINDS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "VISION_2_SEQ")
THETAS = ("rope_theta", "rotary_emb_base", "global_rope_theta")
LOCAL_THETAS = ("rope_local_base_freq", "local_rope_theta")


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    if sys.argv[1] == "dump":
        print(json.dumps(dump()))
        return
    versions = [json.loads(Path(file).read_text()) for file in sys.argv[2:]]
    lines = (f"{json.dumps(kind)}: {json.dumps(entry)}" for kind, entry in table(versions).items())
    print("{\n" + ",\n".join(lines) + "\n}")


def dump() -> dict[str, Any]:
    """What the classes of the transformers that is installed say, by `model_type`."""
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    named = (f"MODEL_FOR_{kind}_MAPPING_NAMES" for kind in KINDS)
    kinds = {kind for name in named for kind in getattr(modeling_auto, name, {})}
    found: dict[str, Any] = {}
    for kind in sorted(kinds):
        _add(found, kind, CONFIG_MAPPING[kind], CONFIG_MAPPING)
    for kind, name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        tied = _ties(CONFIG_MAPPING[kind], getattr(transformers, name, None))
        if kind in found and not found[kind]["nested"] and tied is not None:
            found[kind]["ties"] = tied
    return found


def table(versions: list[dict[str, Any]]) -> dict[str, Any]:
    """One table, the newest version first; kinds that it does not have are left out."""
    newest, *older = versions
    found = {}
    for kind, entry in sorted(newest.items()):
        before = [version[kind]["defaults"] for version in older if kind in version]
        entry["defaults"] = dict(sorted(_agreed(entry["defaults"], before)))
        entry["rotary"] = _agreed_rotary(entry["rotary"] or {}, before)
        said = {version[kind].get("ties") for version in versions if kind in version} - {None}
        if len(said) != 1:
            entry.pop("ties", None)
        found[kind] = {key: value for key, value in entry.items() if value or key == "ties"}
    return {kind: entry for kind, entry in found.items() if entry}


def _add(found: dict[str, Any], kind: str, config: type, mapping: Mapping[str, type]) -> None:
    if kind in found:
        return
    found[kind] = {
        "defaults": dict(_fields(config)),
        "renamed": dict(getattr(config, "attribute_map", {})),
        "rotary": _rotary(config),
        "nested": {},
    }
    nested = getattr(config, "sub_configs_defaults", None) or getattr(config, "sub_configs", {})
    for key, spec in (nested or {}).items():
        inside = getattr(spec, "config_class", spec)
        name = getattr(spec, "model_type", None) or getattr(inside, "model_type", "")
        fixed = inside.__name__ != "AutoConfig"
        if fixed and (not name or mapping.get(name, inside) is not inside):
            name = f"{kind}.{key}"  # it has no name of its own
        found[kind]["nested"][key] = name, fixed
        if fixed or name in mapping:
            _add(found, name, inside if fixed else mapping[name], mapping)


def _fields(config: type) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            made = field.default_factory
            value = made() if made is not dataclasses.MISSING else field.default
            yield field.name, _plain(value)
        return
    for cls in reversed(config.__mro__[:-1]):
        if "__init__" in cls.__dict__:
            for name, parameter in inspect.signature(cls.__init__).parameters.items():
                yield name, _plain(parameter.default)


def _rotary(config: type) -> Any:
    try:
        return _plain(getattr(config(), "rope_parameters", None))
    except Exception:  # noqa: BLE001  # some cannot be made without arguments, each for its own reason
        return None


def _ties(config: type, model: type | None) -> bool | None:
    """By default; a model that lists no tied weights ties none, whatever its configuration says."""
    try:
        said = config().tie_word_embeddings
    except Exception:  # noqa: BLE001  # cannot be made without arguments, or has no such field
        return None
    return said if not said or getattr(model, "_tied_weights_keys", None) else None


def _plain(value: Any) -> Any:
    """As JSON has it; None for what it cannot have."""
    if isinstance(value, float) and math.isinf(value):
        return {"__float__": "Infinity"}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return None


def _agreed(newest: dict[str, Any], older: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    from merge.configs import harmless
    from merge.rotary import ROTARY
    from merge.spellings import DEFAULTS

    before = older[0] if older else {}
    for key in newest.keys() | before.keys():
        value = before.get(key) if newest.get(key) is None else newest[key]
        said = {json.dumps(one[key]) for one in older if one.get(key) is not None}
        agreed = value is not None and said <= {json.dumps(value)}
        if agreed and not harmless(key) and key not in ROTARY and DEFAULTS.get(key) != value:
            yield key, value


def _agreed_rotary(rotary: dict[str, Any], older: list[dict[str, Any]]) -> dict[str, Any]:
    """Without a base that an older version had differently, in whichever kinds of layers."""
    layers = {kind: value for kind, value in rotary.items() if isinstance(value, dict)}
    if layers:
        names = {"full_attention": THETAS, "sliding_attention": (*LOCAL_THETAS, *THETAS)}
        return {
            kind: _agreed_base(value, older, names.get(kind, ())) for kind, value in layers.items()
        }
    return _agreed_base(rotary, older, THETAS)


def _agreed_base(
    rotary: dict[str, Any], older: list[dict[str, Any]], names: tuple[str, ...]
) -> dict[str, Any]:
    said = [next((one[n] for n in names if one.get(n) is not None), None) for one in older]
    agreed = all(base in (None, rotary.get("rope_theta")) for base in said)
    return rotary if agreed else {k: v for k, v in rotary.items() if k != "rope_theta"}


if __name__ == "__main__":
    main()
