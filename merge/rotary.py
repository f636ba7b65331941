"""One form for rotary settings, however and wherever a `config.json` writes them.

Later versions of transformers move them into one mapping, `rope_parameters`, or one for each kind
of layer, and write there what earlier ones left to the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

Config = Mapping[str, object]

_THETAS = ("rope_theta", "rotary_base", "rotary_emb_base", "global_rope_theta")
_SHARES = ("partial_rotary_factor", "rotary_pct")
_LOCAL_THETAS = ("rope_local_base_freq", "local_rope_theta")
ROTARY = frozenset({*_THETAS, *_SHARES, *_LOCAL_THETAS, "rope_scaling", "rope_parameters"})
"""Keys that the one form stands for."""

_RENAMED = {"su": "longrope", "mrope": "default"}
_STRETCHED = ("llama3", "yarn", "longrope")
"""Kinds that begin from the length that was trained with."""
_EVERYWHERE = frozenset({"modernbert", "modernbert-decoder"})
"""Where `rope_scaling` was meant for all layers; elsewhere for those that attend to everything."""
_ONE_THETA = frozenset({"olmo3"})
"""Where both kinds of layers had the same base."""
_FULL, _SLIDING = "full_attention", "sliding_attention"


def rope(config: Config, usual: Config | None = None) -> dict[str, object]:
    """Rotary settings as one mapping, or one for each kind of layer.

    usual: what the class takes where nothing is said, in the same form; None for no such class.
    """
    found, scaling = config.get("rope_parameters"), config.get("rope_scaling")
    given: dict[str, object] = dict(scaling) if isinstance(scaling, Mapping) else {}
    given |= found if isinstance(found, Mapping) else {}
    if _by_layer(given):
        kinds = usual if usual and _by_layer(usual) else {}
        return {kind: _layer(config, given, usual, kind) for kind in {**kinds, **given}}
    if _by_layer(usual or {}) or first(config, *_LOCAL_THETAS) is not None:
        return _spread(config, given, usual)
    return _settled(config, given, usual)


def contradiction(config: Config) -> tuple[str, object, object] | None:
    """A rotary setting that is given twice and differently: key, value, the other value."""
    found = config.get("rope_parameters")
    inside = found if isinstance(found, Mapping) else {}
    for names in (_THETAS, _SHARES):
        given = [(key, config[key]) for key in names if config.get(key) is not None]
        inner = inside.get(names[0])
        given += [] if inner is None else [("rope_parameters", inner)]
        for (key, outer), (_, other) in pairwise(given):
            if outer != other:
                return key, outer, other
    return None


def first(config: Config, *keys: str) -> object:
    """The value of the first of these keys that has one."""
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _by_layer(parameters: Config) -> bool:
    """Whether there is a mapping for each kind of layer, or null for one without rotation."""
    found = [value for value in parameters.values() if value is not None]
    return bool(found) and all(isinstance(value, Mapping) for value in found)


def _layer(config: Config, given: Config, usual: Config | None, kind: str) -> object:
    """Settings of one kind of layers, from mappings that have one for each."""
    parameters, known = given.get(kind), _of(usual, kind)
    if isinstance(parameters, Mapping):
        return _settled(config, parameters, known)
    return None if kind in given or known is None else _settled(config, {}, known)


def _spread(config: Config, given: Config, usual: Config | None) -> dict[str, object]:
    """Settings of every kind of layers, from the spelling that had one, and another base."""
    name, local = str(config.get("model_type")), first(config, *_LOCAL_THETAS)
    kinds = usual if usual and _by_layer(usual) else {}
    if local is None and name in _ONE_THETA:
        local = config.get("rope_theta")
    inner = {**config, **dict.fromkeys(_THETAS), "rope_theta": local}
    return {
        **{kind: _layer({}, {}, usual, kind) for kind in kinds},
        _FULL: _settled(config, given, _of(usual, _FULL)),
        _SLIDING: _settled(inner, given if name in _EVERYWHERE else {}, _of(usual, _SLIDING)),
    }


def _of(usual: Config | None, kind: str) -> Config | None:
    """What is usual for one kind of layers."""
    found = usual.get(kind) if usual and _by_layer(usual) else usual
    return found if isinstance(found, Mapping) else None


def _settled(config: Config, parameters: Config, usual: Config | None) -> dict[str, object]:
    """Kind, base and share of the rotary settings that `parameters` and `config` give."""
    theta, share = first(config, *_THETAS), first(config, *_SHARES)
    found = {k: v for k, v in parameters.items() if v is not None and k != "type"}
    if not parameters and usual:
        found = {k: v for k, v in usual.items() if k != "type"}
        found |= {} if theta is None else {"rope_theta": theta}
        found |= {} if share is None else {"partial_rotary_factor": share}
    kind = found.get("rope_type") or parameters.get("type") or "default"
    found["rope_type"] = _RENAMED.get(kind, kind) if isinstance(kind, str) else kind
    if usual is not None:
        theta = usual.get("rope_theta") if theta is None else theta
        share = usual.get("partial_rotary_factor", 1.0) if share is None else share
        if (found["rope_type"], usual.get("rope_type")) == ("default", "axial"):
            found["rope_type"] = "axial"  # what its first configurations meant
    if found["rope_type"] in _STRETCHED:
        length = first(config, "original_max_position_embeddings", "max_position_embeddings")
        found.setdefault("original_max_position_embeddings", length)
    found.setdefault("rope_theta", theta)
    found.setdefault("partial_rotary_factor", share)
    return {key: value for key, value in found.items() if value is not None}
