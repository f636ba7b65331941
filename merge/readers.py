"""Bytes of members for blocks: read into a buffer, or seen through a memory map.

`Reader` keeps private memory small and turns a file that was cut short into a refusal; a soup on
disk uses it. What is not in the page cache it reads past it (`merge.direct`). `MappedReader` saves
the copy where the same members are read again and again; a file that is cut short under it kills
the process (SIGBUS), so map only folders that nobody else writes. Each serves all threads.
"""

from __future__ import annotations

import mmap
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from merge.checkpoint import BITS, Stamp, open_regular
from merge.direct import Bytes, Input
from merge.errors import Refused, changed
from merge.fingerprints import fingerprint
from merge.jobs import Source, Term

OPEN_FILES = 4096
"""At most, of one reader."""
Key = tuple[int, str]
"""A source and a file of its."""


def open_files() -> int:
    """How many a reader may have open: half of what the process may, two descriptors a file."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if most < 0 else max(1, min(OPEN_FILES, most // 4))


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


class _Opened:
    """A file, and how many threads are reading it."""

    def __init__(self, file: Input) -> None:
        self.file, self.users = file, 0


class Reader:
    """Reads parts of tensors into buffers. Files stay open, up to `most` beside those in use."""

    def __init__(self, sources: Sequence[Source], most: int | None = None) -> None:
        self._sources, self._most = sources, most or open_files()
        self._lock = threading.Lock()
        self._open: OrderedDict[Key, _Opened] = OrderedDict()
        self._cached: dict[Key, bool] = {}

    def read(self, term: Term, start: int, count: int, into: Bytes) -> Bytes:
        """The bytes of elements start : start + count, naturally aligned, somewhere in `into`.

        into: a `merge.direct.room` two pages longer than that. Raises Refused: `changed`.
        """
        item = BITS[term.spec.dtype] // 8
        with self._file(term) as file:
            found = file.read(term.spec.begin + start * item, count * item, into, align=item)
        if len(found) != count * item:
            raise changed(f"{self._sources[term.source].name}: {term.spec.file}")
        return found

    def close(self) -> None:
        """Once no thread reads any more."""
        while self._open:
            self._open.popitem()[1].file.close()

    @contextmanager
    def _file(self, term: Term) -> Iterator[Input]:
        """The term's file, which stays open meanwhile."""
        with self._lock:
            opened = self._opened(term)
            opened.users += 1
        try:
            yield opened.file
        finally:
            with self._lock:
                opened.users -= 1

    def _opened(self, term: Term) -> _Opened:
        key = term.source, term.spec.file
        if key not in self._open:
            idle = [one for one, opened in self._open.items() if not opened.users]
            for one in idle[: max(0, len(self._open) - self._most + 1)]:  # unused for longest
                self._open.pop(one).file.close()
            # Asked once: the question itself makes the kernel read.
            file = Input(_open(self._sources[term.source], term), self._cached.get(key))
            self._cached[key], self._open[key] = file.cached, _Opened(file)
        self._open.move_to_end(key)
        return self._open[key]


class MappedReader:
    """Shows parts of tensors in place; maps every file once."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._maps: dict[tuple[int, str], Bytes] = {}

    def read(self, term: Term, start: int, count: int, into: Bytes) -> Bytes:
        """As `Reader.read`, but mapped; a copy in `into` where the bytes lie unaligned."""
        item = BITS[term.spec.dtype] // 8
        begin = term.spec.begin + start * item
        found = self._file(term)[begin : begin + count * item]
        if len(found) != count * item:
            raise changed(f"{self._sources[term.source].name}: {term.spec.file}")
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
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                finally:
                    os.close(fd)
                self._maps[key] = np.asarray(_Map(mapped))
            return self._maps[key]


class _Map:
    """A map that is read-only, which numpy is not told: torch warns about arrays that are.

    Whoever writes there kills the process. A copy-on-write map would forgive it, but is refused
    where a file is larger than memory and swap.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        seen = np.frombuffer(mapped, dtype=np.uint8).__array_interface__
        self.__array_interface__ = {**seen, "data": (seen["data"][0], False)}


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
