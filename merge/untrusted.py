"""Untrusted files and JSON, opened with care; standard library only.

Not promised: that a file stays what it was when it was opened.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import NoReturn

from merge.errors import Code, Refused

_FAULTS = {
    errno.ELOOP: "is a link", errno.ENXIO: "not a regular file", errno.ENOTDIR: "lies in no folder",
    errno.EACCES: "may not be read", errno.EPERM: "may not be read",
    errno.ENAMETOOLONG: "has too long a name",
}  # fmt: skip
MAX_CONFIG, MOST_VALUES = 10_000_000, 200_000
"""Bytes and values of a configuration; one that names 20,000 classes, both ways, has 40,000."""
_REWRITE = "write it again as one plain JSON object"


def open_regular(path: Path) -> int:
    """File descriptor for reading a regular file that is not a link; the caller closes it.

    Raises Refused: `unsafe-file` for links, devices, pipes, folders and what may not be read;
    `missing-shard` if absent. OSError where it is not the file's fault.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Refused(Code.MISSING_SHARD, path.name, "not there", "upload it") from error
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        raise _unsafe(path, _FAULTS[error.errno]) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _unsafe(path, "not a regular file")
    return fd


def open_small(path: Path, limit: int) -> int:
    """Like `open_regular`. Raises Refused also for more than `limit` bytes: `header-too-large`."""
    fd = open_regular(path)
    if os.fstat(fd).st_size > limit:
        os.close(fd)
        raise _too_large(path, limit)
    return fd


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises Refused like `open_small`."""
    with open(open_small(path, limit), "rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:  # it grows
        raise _too_large(path, limit)
    return raw


def read_config(path: Path, code: Code = Code.CONFIG_MISMATCH) -> dict[str, object]:
    """A configuration, of as many bytes and values as one can have.

    Raises Refused: `unsafe-file`, `header-too-large`, and `code`.
    """
    raw = read_small(path, MAX_CONFIG)
    if sum(map(raw.count, (b"{", b"[", b","))) > MOST_VALUES:  # before they fill memory
        detail = f"more than {MOST_VALUES} values"
        raise Refused(code, path.name, detail, "take a configuration as published")
    return parse_json(raw, path.name, code)


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For `object_pairs_hook`: ValueError where a key occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def no_constant(name: str) -> NoReturn:
    """For `parse_constant`: ValueError for what Python reads although it is no JSON."""
    raise ValueError(f"{name} is not JSON")


def parse_json(raw: bytes, file: str, code: Code = Code.CONFIG_MISMATCH) -> dict[str, object]:
    """A JSON object from untrusted bytes: no duplicate keys, no NaN, no endless nesting.

    One infinity is let through: transformers 4 wrote one at the end of `time_step_limit` for each
    Mamba-2. It becomes what transformers 5 writes for it, {"__float__": "Infinity"}: a value to
    compare, not to compute with. Raises Refused with `code`.
    """
    config = file == "config.json"
    constant = _infinity if config else no_constant
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=constant
        )
        if config:
            _check_infinities(value)
    except (ValueError, RecursionError) as error:
        raise Refused(code, file, f"not valid JSON ({_short(error)})", _REWRITE) from error
    if not isinstance(value, dict):
        raise Refused(code, file, "not a JSON object", _REWRITE)
    return value


_INFINITY = {"__float__": "Infinity"}


def _infinity(name: str) -> dict[str, str]:
    return _INFINITY if name == "Infinity" else no_constant(name)


def _check_infinities(value: object) -> None:
    """ValueError for one that is elsewhere than at the end of a `time_step_limit`."""
    if value is _INFINITY:
        no_constant("Infinity")
    if isinstance(value, list):
        for item in value:
            _check_infinities(item)
    if isinstance(value, dict):
        for key, item in value.items():
            limit = key == "time_step_limit" and isinstance(item, list) and item
            _check_infinities(item[:-1] if limit and item[-1] is _INFINITY else item)


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]


def _too_large(path: Path, limit: int) -> Refused:
    return Refused(Code.HEADER_TOO_LARGE, path.name, f"more than {limit} bytes", "shorten it")


def _unsafe(path: Path, detail: str) -> Refused:
    return Refused(
        Code.UNSAFE_FILE, path.name, detail, "give a folder of plain files: cp -rL resolves links"
    )
