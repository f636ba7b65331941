"""What the classes of transformers take for what a `config.json` leaves out: a table, no code.

`class_defaults.json` was made from the classes by `tests/merge_engine/class_defaults.py`, once for
all; nothing here imports them. A `model_type` that it does not have has no defaults: absence then
equals absence alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("class_defaults.json")


@dataclass(frozen=True)
class Kind:
    """One `model_type`.

    defaults: values of keys that are absent. renamed: other names of keys -> the one that is
    written. rotary: its `rope_parameters`. nested: key -> the `model_type` of the configuration
    there, and whether it can be no other. ties: whether the head is the embedding; None where that
    is not known.
    """

    defaults: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    rotary: Mapping[str, object] = field(default_factory=dict)
    nested: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    ties: bool | None = None


_UNKNOWN = Kind()


def known(model_type: object) -> Kind:
    """What the class of this `model_type` takes; nothing where there is no such class."""
    return _kinds().get(model_type, _UNKNOWN) if isinstance(model_type, str) else _UNKNOWN


@cache
def _kinds() -> Mapping[str, Kind]:
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: Kind(**entry) for name, entry in table.items()}
