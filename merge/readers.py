"""Bytes of members for blocks: read into a buffer, or seen through a memory map.

`Reader` keeps private memory small and turns a file that was cut short into a refusal; a soup on
disk uses it. What is not in the page cache it reads past it (`merge.direct`). `MappedReader` saves
the copy where the same members are read again and again; a file that is cut short under it kills
the process (SIGBUS), so map only folders that nobody else writes.
"""

from __future__ import annotations

import mmap
import os
import resource
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from merge.checkpoint import BITS, Stamp, open_regular
from merge.direct import Bytes, Input
from merge.errors import Refused, changed
from merge.fingerprints import fingerprint
from merge.jobs import Source, Term

OPEN_FILES = 64
"""At most, of one reader."""


def open_files(readers: int) -> int:
    """How many each of so many readers may have open: half of what the process may, two a file."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if most < 0 else max(1, min(OPEN_FILES, most // (4 * readers)))


class Order:
    """Rank of every source by content digest, computed when a block first needs it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._digests = {k: s.digest for k, s in enumerate(sources) if s.digest is not None}

    def known(self, terms: Sequence[Term]) -> list[Term] | None:
        """`terms` in summing order, None where a digest is still unknown."""
        if any(term.source not in self._digests for term in terms):
            return None
        return sorted(terms, key=self._rank)

    def sorted(self, terms: Sequence[Term]) -> list[Term]:
        """`terms` in summing order; reads the members if digests are unknown."""
        with self._lock:
            for term in terms:
                if term.source not in self._digests:
                    self._digests[term.source] = content_digest(self._sources[term.source])
        return sorted(terms, key=self._rank)

    def _rank(self, term: Term) -> tuple[str, int]:
        """Members of equal content differ by their numerators at most."""
        return self._digests[term.source], term.numerator


def content_digest(source: Source) -> str:
    """Digest of what the source contributes; reads it once."""
    whole = fingerprint(source.folder)
    return whole if source.adapter is None else source.adapter.digest(whole)


class Reader:
    """Reads parts of tensors into buffers; one per thread, keeps at most `most` files open."""

    def __init__(self, sources: Sequence[Source], most: int = OPEN_FILES) -> None:
        self._sources, self._most = sources, most
        self._open: dict[tuple[int, str], Input] = {}

    def read(self, term: Term, start: int, count: int, into: Bytes) -> Bytes:
        """The bytes of elements start : start + count, naturally aligned, somewhere in `into`.

        into: a `merge.direct.room` two pages longer than that. Raises Refused: `changed`.
        """
        item = BITS[term.spec.dtype] // 8
        file, begin = self._file(term), term.spec.begin + start * item
        found = file.read(begin, count * item, into, align=item)
        if len(found) != count * item:
            raise changed(f"{self._sources[term.source].name}: {term.spec.file}")
        return found

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, term: Term) -> Input:
        key = term.source, term.spec.file
        if key not in self._open:
            if len(self._open) >= self._most:
                self._open.pop(next(iter(self._open))).close()  # open for longest
            self._open[key] = Input(_open(self._sources[term.source], term))
        return self._open[key]


class MappedReader:
    """Shows parts of tensors in place; one for all threads, maps every file once."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._maps: dict[tuple[int, str], Bytes] = {}

    def read(self, term: Term, start: int, count: int, into: Bytes) -> Bytes:
        """As `Reader.read`, but mapped; a copy in `into` where the bytes lie unaligned."""
        item = BITS[term.spec.dtype] // 8
        begin = term.spec.begin + start * item
        found = self._file(term)[begin : begin + count * item]
        if begin % item == 0:
            return found
        into[: len(found)] = found
        return into[: len(found)]

    def close(self) -> None:
        """Maps end with the reader: tensors may still look at them."""

    def _file(self, term: Term) -> Bytes:
        key = term.source, term.spec.file
        with self._lock:
            if key not in self._maps:
                fd = _open(self._sources[term.source], term)
                try:
                    # Copy-on-write, never written: torch warns about read-only buffers.
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
                finally:
                    os.close(fd)
                self._maps[key] = np.frombuffer(mapped, dtype=np.uint8)
            return self._maps[key]


def _open(source: Source, term: Term) -> int:
    try:
        fd = open_regular(source.folder / term.spec.file)
    except Refused as refused:
        raise refused.about(source.name) from refused
    if Stamp.of(os.fstat(fd)) != source.layout.stamps[term.spec.file]:
        os.close(fd)
        raise changed(f"{source.name}: {term.spec.file}")
    return fd


def check_unchanged(sources: Iterable[Source]) -> None:
    """Raise Refused (`changed`) if a file is not what it was when the sources were opened."""
    for source in sources:
        whole = (source.name, source.folder, source.layout.stamps)
        parts = [] if source.adapter is None else [source.adapter]
        for name, folder, stamps in (whole, *((a.name, a.folder, a.stamps) for a in parts)):
            for file, stamp in stamps.items():
                try:
                    found = Stamp.of(os.lstat(folder / file))
                except OSError as error:
                    raise changed(f"{name}: {file}") from error
                if found != stamp:
                    raise changed(f"{name}: {file}")
