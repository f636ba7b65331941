"""Untrusted files and JSON, opened with care; standard library only.

Not promised: that a file stays what it was when it was opened.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

from merge.errors import Code, Refused

_FAULTS = {
    errno.ELOOP: "is a link", errno.ENXIO: "not a regular file", errno.ENOTDIR: "lies in no folder",
    errno.EACCES: "may not be read", errno.EPERM: "may not be read",
    errno.ENAMETOOLONG: "has too long a name",
}  # fmt: skip
_REWRITE = "write it again as one plain JSON object"
_INFINITE = ("config.json", "time_step_limit")
"""The file and the key in which transformers 4 wrote an infinity for each Mamba-2."""


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


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises Refused like `open_regular`."""
    with open(open_regular(path), "rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise Refused(Code.HEADER_TOO_LARGE, path.name, f"more than {limit} bytes", "shorten it")
    return raw


def parse_json(raw: bytes, file: str, code: Code = Code.CONFIG_MISMATCH) -> dict[str, object]:
    """A JSON object from untrusted bytes: no duplicate keys, no NaN, no endless nesting.

    The one infinity that is let through, see _INFINITE, becomes what transformers 5 writes for it,
    {"__float__": "Infinity"}: a value to compare, not to compute with. Raises Refused with `code`.
    """
    constants = _Constants(_INFINITE[1] if file == _INFINITE[0] else None)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=constants.unique, parse_constant=constants.read,
        )  # fmt: skip
        constants.settle()
    except (ValueError, RecursionError) as error:
        raise Refused(code, file, f"not valid JSON ({_short(error)})", _REWRITE) from error
    if not isinstance(value, dict):
        raise Refused(code, file, "not a JSON object", _REWRITE)
    return value


class _Constants:
    """What is no JSON although Python reads it: let through at the end of one key's list only."""

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.strays: list[dict[str, str]] = []

    def read(self, name: str) -> dict[str, str]:
        if self.key is None or name != "Infinity":
            raise ValueError(f"{name} is not JSON")
        self.strays.append({"__float__": name})
        return self.strays[-1]

    def unique(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key occurs twice")
        limit = result.get(self.key) if self.key else None
        if self.strays and isinstance(limit, list) and limit and limit[-1] is self.strays[-1]:
            self.strays.pop()
        return result

    def settle(self) -> None:
        if self.strays:
            raise ValueError("Infinity is not JSON")


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]


def _unsafe(path: Path, detail: str) -> Refused:
    return Refused(
        Code.UNSAFE_FILE, path.name, detail, "give a folder of plain files: cp -rL resolves links"
    )
