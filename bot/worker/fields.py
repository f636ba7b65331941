"""Strict readers of JSON values: the right type or a ProtocolError that names the place.

Standard library only. Nothing is converted but an integer to a float and a text to a path.
"""

from collections.abc import Callable
from pathlib import Path

from bot.worker.protocol import ProtocolError

Read = Callable[[object, str], object]
"""From a value and the words for its place to what it stands for."""


def of(kind: type, name: str) -> Read:
    """Exactly this type: true is no number here. `name` is what the error calls it."""

    def read(value: object, where: str) -> object:
        if type(value) is not kind:
            raise ProtocolError(f"{where} must be {name}, not {value!r:.80}")
        return value

    return read


def path(value: object, where: str) -> Path:
    """An absolute path; whether anything is there is not asked."""
    found = Path(str(text(value, where)))
    if not found.is_absolute():  # a child works in a folder of its own
        raise ProtocolError(f"{where} must be an absolute path, not {value!r:.200}")
    return found


def number(value: object, where: str) -> float:
    """An integer or a float, as a float."""
    if type(value) not in (int, float):
        raise ProtocolError(f"{where} must be a number, not {value!r:.80}")
    return float(value)  # type: ignore[arg-type]


def many(read: Read) -> Read:
    """A list of what `read` reads, as a tuple."""

    def all_of(value: object, where: str) -> object:
        if not isinstance(value, list | tuple):
            raise ProtocolError(f"{where} must be a list, not {value!r:.80}")
        return tuple(read(one, where) for one in value)

    return all_of


def or_none(read: Read) -> Read:
    """What `read` reads, or null."""
    return lambda value, where: None if value is None else read(value, where)


text = of(str, "a text")
