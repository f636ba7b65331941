"""Frozen dataclasses to JSON values and back, strictly.

Unknown keys, missing keys and wrong types are errors that name the place, because a router file is
read by people and programs that did not write it.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, TypeVar

T = TypeVar("T")


class FormatError(ValueError):
    """A value does not have the form it should."""

    def __init__(self, where: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{where or 'the file'}: {problem}")


def to_plain(value: Any) -> Any:
    """Dataclasses as objects without unset (None) fields, tuples as lists, enums as values."""
    if is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: to_plain(one) for name, one in pairs if one is not None}
    if isinstance(value, Mapping):
        return {str(key): to_plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """The inverse of `to_plain` for the dataclass `kind`. Raises FormatError."""
    result: T = _read(kind, value, where)
    return result


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise FormatError(where, f"expected one of {list(arguments)}, got {value!r}")
    if origin is tuple:
        _expect(list, value, where)
        return tuple(_read(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _expect(dict, value, where)
        return {str(k): _read(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if issubclass(kind, Enum):
        if value in [member.value for member in kind]:
            return kind(value)
        raise FormatError(where, f"expected one of {[m.value for m in kind]}, got {value!r}")
    if kind is float and type(value) is int:
        return float(value)
    _expect(kind, value, where)
    return value


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    some = [kind for kind in kinds if kind is not NoneType]
    if len(some) == 1:
        return _read(some[0], value, where)
    problems = []
    for kind in some:
        try:
            return _read(kind, value, where)
        except FormatError as error:
            problems.append(error.problem)
    raise FormatError(where, "; or ".join(problems))


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(dict, value, where)
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(value) - {field.name for field in fields(kind)}):
        raise FormatError(where, f"unknown keys {unknown}")
    needed = {f.name for f in fields(kind) if f.default is f.default_factory is MISSING}
    unset = {name for name in needed - set(value) if NoneType in typing.get_args(hints[name])}
    if missing := sorted(needed - unset - set(value)):
        raise FormatError(where, f"missing keys {missing}")
    read = dict.fromkeys(unset)
    for name, one in value.items():
        read[name] = _read(hints[name], one, f"{where}.{name}".lstrip("."))
    try:
        return kind(**read)
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(where, str(error)) from error


def _expect(kind: type, value: Any, where: str) -> None:
    if type(value) is not kind:
        raise FormatError(where, f"expected {kind.__name__}, got {value!r}")
