"""JSON of a stranger read a piece at a time, so that memory does not grow with the file.

`json` makes one object of a text, ten times as large as its bytes and more where these were chosen
for it. Here whoever reads says what comes next: the keys of an object one by one, entries of a long
array or object in batches, anything else as a whole of about LONGEST characters at most.

Standard library only. Not promised: that the keys of an object read in batches differ.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from merge.untrusted import no_constant, unique_keys

LONGEST = 1 << 20
"""Characters of one value that is read as a whole."""
CHUNK = 1 << 16
"""Bytes read at once, and about how much of a long array or object is a batch."""
MOST_KEYS = 1000
"""Of an object that is read key by key."""
_TRIES, _SINGLY = 8, 4096
"""Commas tried to find one between entries; entries then read by themselves if none was."""
_GOES_ON = ".eE+-0123456789"
"""What comes after a number that the end of the window has cut; so does nothing."""
_SPACE = re.compile(r"[ \t\n\r]*")


class Readable(Protocol):
    """A file open for reading bytes; fewer than `size` only at its end."""

    def read(self, size: int, /) -> bytes: ...


class Scanner:
    """A place in one JSON text. Where that is none, methods raise ValueError or RecursionError."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text, self._at, self._ended = "", 0, False
        self._singly = 0

    def next(self) -> str:
        """The character that comes next, spaces apart; "" at the end of the text."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None  # it matches everywhere
            self._at = space.end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def value(self) -> object:
        """The value that begins here, as a whole."""
        self.next()
        while True:
            try:
                found, end = _WHOLE.raw_decode(self._text, self._at)
                if self._ended or self._text[end : end + 1] not in _GOES_ON:
                    self._at = end
                    return found
            except ValueError:
                if self._ended:
                    raise
            if len(self._text) - self._at > LONGEST:
                raise ValueError(f"no value within {LONGEST} characters")
            self._more()

    def keys(self) -> Iterator[str]:
        """Of the object that begins here; the caller reads the value before it asks for more."""
        seen = set[str]()
        for _ in self._entries("{", "}"):
            key = self._key()
            if key in seen or len(seen) >= MOST_KEYS:
                raise ValueError("a key occurs twice" if key in seen else "too many keys")
            seen.add(key)
            yield key

    def items(self) -> Iterator[list[Any]]:
        """Entries of the array that begins here, in batches."""
        for _ in self._entries("[", "]"):
            yield self._batch(_WHOLE, "[", "]") or [self.value()]

    def pairs(self) -> Iterator[list[tuple[str, Any]]]:
        """Keys and values of the object that begins here, in batches."""
        for _ in self._entries("{", "}"):
            yield self._batch(_PAIRS, "{", "}") or [(self._key(), self.value())]

    def end(self) -> None:
        """Nothing comes after this."""
        if self.next():
            raise ValueError("more than one value")

    def _entries(self, opening: str, closing: str) -> Iterator[None]:
        """Once before every entry, or every batch of them."""
        self._take(opening)
        if self.next() != closing:
            yield
            while self.next() != closing:
                self._take(",")
                yield
        self._take(closing)

    def _key(self) -> str:
        key = self.value()
        if not isinstance(key, str):
            raise ValueError("a key is no text")
        self._take(":")
        return key

    def _batch(self, decoder: json.JSONDecoder, opening: str, closing: str) -> list[Any]:
        """Entries from here to the end, or to some comma of this window; none if that is unknown.

        A comma inside a text or an entry is no end: what comes before it leaves something open.
        """
        if self._singly:
            self._singly -= 1
            return []
        if len(self._text) - self._at < CHUNK // 2:
            self._more()
        end = len(self._text)
        for _ in range(_TRIES):
            end = self._text.rfind(",", self._at, end)
            if end < 0:
                break
            with suppress(ValueError):
                found = decoder.decode(opening + self._text[self._at : end] + closing)
                self._at = end
                return list(found)
        with suppress(ValueError):
            found, end = decoder.raw_decode(opening + self._text[self._at :])
            self._at += end - 2  # what closes it comes next
            return list(found)
        self._singly = _SINGLY
        return []

    def _take(self, character: str) -> None:
        found = self.next()
        if found != character:
            raise ValueError(f"{found!r} instead of {character!r}" if found else "ends too early")
        self._at += 1

    def _more(self) -> bool:
        """Let go of what was read and read on; False if the file had ended."""
        if self._ended:
            return False
        raw = self._stream.read(CHUNK)
        self._ended = not raw
        self._text = self._text[self._at :] + self._decode(raw, final=self._ended)
        self._at = 0
        return True


_WHOLE = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=no_constant)
_PAIRS = json.JSONDecoder(object_pairs_hook=list, parse_constant=no_constant)
