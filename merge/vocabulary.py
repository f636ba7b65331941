"""Do two tokenizers give every token the same id?

`tokenizer.json` is compared by content; where one side has none, the files of older tokenizers are
by their bytes. Files of equal bytes are not looked into. Others are read a piece at a time and
reduced to digests (`merge.tokens`): parsed, the largest published ones take 200 MB each, and one
that was made for it takes gigabytes.

Not promised: that two tokenizers with equal vocabularies cut every text alike; normalisation and
templates may differ, and only the base's tokenizer is ever used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import file_digest, sha256
from io import BytesIO
from pathlib import Path

from merge.checkpoint import MAX_TOKENIZER, open_regular, open_small
from merge.errors import Code, Refused, brief, changed
from merge.scan import Readable
from merge.tokens import (
    Part,
    Vocabulary,
    count,
    differing,
    first_of,
    id_of,
    parsed,
    reduced,
    scanned,
    table,
)

TOKENIZER = "tokenizer.json"
VOCABULARIES = ("tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")
"""Compared by hash where there is no tokenizer.json on both sides."""
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer.json as it was when it was opened. Two are equal where their bytes are, wherever
    they lie; sha256: 64 hex digits."""

    path: Path = field(compare=False)
    sha256: str

    def parts(self) -> Iterator[Part]:
        """What it says. Raises Refused: `changed`, `vocab-mismatch`."""
        with open(open_regular(self.path), "rb") as stream:
            hashed = _Hashed(stream)
            yield from scanned(hashed)
            if hashed.whole() != self.sha256:
                raise changed(self.path.name)


def open_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer.json, None where it has none.

    Raises Refused: `unsafe-file`, `header-too-large`.
    """
    path = folder / TOKENIZER
    if not os.path.lexists(path):
        return None
    with open(open_small(path, MAX_TOKENIZER), "rb") as stream:
        return Tokenizer(path, _Hashed(stream).whole())


def vocabulary_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each of VOCABULARIES that lies in `folder`.

    Raises Refused: `unsafe-file`, `header-too-large`.
    """
    found = {}
    for name in VOCABULARIES:
        if os.path.lexists(folder / name):
            with open(open_small(folder / name, MAX_TOKENIZER), "rb") as stream:
                found[name] = file_digest(stream, sha256).hexdigest()
    return found


def compare_vocabulary_files(base: Mapping[str, str], other: Mapping[str, str]) -> list[Refused]:
    """Reasons why two results of `vocabulary_files` differ in what both have."""
    odd = sorted(name for name in base.keys() & other.keys() if base[name] != other[name])
    return [_vocab(name, "another file than the base's") for name in odd]


def compare_tokenizers(
    base: Mapping[str, object] | bytes, other: Mapping[str, object] | bytes
) -> list[Refused]:
    """Reasons why two `tokenizer.json` give tokens different ids; empty when they agree.

    base, other: parsed, or the bytes of the file, whose size does not matter to memory. Compared is
    content: the algorithm, the id of every token, wherever it is listed (vocabulary
    or added tokens), and the merges. Formatting, flags, padding and templates are not: the
    tokenizer in use is always the base's. Code: `vocab-mismatch`, also where an entry makes no
    sense.
    """
    mine, yours = partial(_parts, base), partial(_parts, other)
    return _compare(mine, yours, lambda: reduced(mine()), lambda: reduced(yours()))


def _parts(tokenizer: Mapping[str, object] | bytes) -> Iterator[Part]:
    return scanned(BytesIO(tokenizer)) if isinstance(tokenizer, bytes) else parsed(tokenizer)


def compare_tokenizer_files(base: Tokenizer, other: Tokenizer) -> list[Refused]:
    """The same of two files, whose sizes do not matter to memory. Raises Refused: `changed`."""
    if base == other:
        return []
    return _compare(base.parts, other.parts, partial(_known, base), partial(_known, other))


def _compare(
    mine: Callable[[], Iterator[Part]],
    yours: Callable[[], Iterator[Part]],
    base: Callable[[], Vocabulary],
    other: Callable[[], Vocabulary],
) -> list[Refused]:
    try:
        ours = base()
    except Refused as refused:
        return [refused.about("base")]
    try:
        theirs = other()
    except Refused as refused:
        return [refused]
    if ours.ids != theirs.ids:
        return [_other_id(mine, yours)]
    if ours.kind != theirs.kind:
        return [_vocab("model.type", f"{brief(theirs.kind)} instead of {brief(ours.kind)}")]
    if ours.rules != theirs.rules:
        return [_vocab("model.merges", "merges or scores differ")]
    return []


def _other_id(mine: Callable[[], Iterator[Part]], yours: Callable[[], Iterator[Part]]) -> Refused:
    """Names the first token, in the order of texts, that has not the same id in both."""
    ours, theirs = table(mine()), table(yours())
    odd = differing(ours, theirs)
    found = (first_of(parts(), odd) for parts in (mine, yours))
    token = min(one for one in found if one is not None)
    detail = f"id {id_of(theirs, token)} instead of {id_of(ours, token)}"
    return _vocab(token, f"{detail}, one of {count(odd)} tokens that differ")


@lru_cache(maxsize=32)
def _known(tokenizer: Tokenizer) -> Vocabulary:
    """Kept by the bytes' digest: right for ever, and members with equal files share it."""
    return reduced(tokenizer.parts())


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, stream: Readable) -> None:
        self._stream, self._sum = stream, sha256()

    def read(self, size: int, /) -> bytes:
        raw = self._stream.read(size)
        self._sum.update(raw)
        return raw

    def whole(self) -> str:
        """SHA-256 of all of it, 64 hex digits."""
        while self.read(_PIECE):
            pass
        return self._sum.hexdigest()


def _vocab(subject: str, detail: str) -> Refused:
    return Refused(Code.VOCAB_MISMATCH, subject, detail, "members must share the base's vocabulary")
