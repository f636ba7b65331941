"""What is said over the pipe between the daemon and a child: one JSON object per line, capped.

A child greets with ``{"sandbox": {...}}``. The daemon sends ``{"job": {...}, "limits": {...}}``
(`bot.worker.jobs`). The child answers with the lines of its task and ``{"done": true}``; or with
``{"error": {"code": ..., "message": ...}}`` and a non-zero exit status.

Standard library only; nothing here knows processes.

Not promised: that a child tells the truth. The receiver checks what it uses.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import BinaryIO

MAX_LINE = 4 * 2**20  # bytes; the outcomes of a million items are a quarter of it

SETTING = "setting"
"""The code of an error that the operator can mend; its `subject` is the setting's name."""

Message = dict[str, object]


class ProtocolError(ValueError):
    """A line that is not what was agreed."""


class LineTooLong(ProtocolError):
    """A line above MAX_LINE bytes."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        super().__init__(f"a message is longer than {limit:,} bytes")


def encode(message: Mapping[str, object]) -> bytes:
    """One line, newline included. Raises LineTooLong; ProtocolError for what JSON lacks (NaN)."""
    try:
        line = json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not a JSON message: {error}") from error
    if len(line) > MAX_LINE:
        raise LineTooLong
    return line


def decode(line: bytes) -> Message:
    """The object of one line. Raises ProtocolError."""
    if len(line) > MAX_LINE:
        raise LineTooLong
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a JSON message: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("not a JSON object")
    return message


class Channel:
    """The child's end of the pipe."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader, self._writer = reader, writer

    def send(self, message: Mapping[str, object]) -> None:
        self._writer.write(encode(message))
        self._writer.flush()

    def receive(self) -> Message | None:
        """The next message, or None when the daemon has closed its end."""
        line = self._reader.readline(MAX_LINE + 1)
        return decode(line) if line else None


def take_over_stdio() -> Channel:
    """Keep the pipe for messages: what libraries print goes to standard error from now on, and
    what they read from standard input is empty. The kept descriptors do not survive an exec."""
    reader, writer = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    sys.stdout.flush()
    os.dup2(2, 1)
    return Channel(os.fdopen(reader, "rb"), os.fdopen(writer, "wb"))
