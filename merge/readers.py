"""Bytes of members for blocks: read into a buffer, or seen through a memory map.

`Reader` keeps private memory small and turns a file that was cut short into a refusal; a soup on
disk uses it. `MappedReader` saves the copy where the same members are read again and again; a file
that is cut short under it kills the process (SIGBUS), so map only folders that nobody else writes.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from merge.checkpoint import BITS, open_regular
from merge.errors import Code, Refused
from merge.fingerprints import fingerprint
from merge.jobs import Source, Term

OPEN_FILES = 64


class Order:
    """Rank of every source by content digest, computed when a block first needs it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._digests = {k: s.digest for k, s in enumerate(sources) if s.digest is not None}

    def sorted(self, terms: Sequence[Term]) -> list[int]:
        """Positions of `terms` in summing order; reads the members if digests are unknown."""
        with self._lock:
            for term in terms:
                if term.source not in self._digests:
                    self._digests[term.source] = content_digest(self._sources[term.source])
        return sorted(range(len(terms)), key=lambda i: self._digests[terms[i].source])


def content_digest(source: Source) -> str:
    """Digest of what the source contributes; reads it once."""
    whole = fingerprint(source.folder)
    return whole if source.adapter is None else source.adapter.digest(whole)


class Reader:
    """Reads parts of tensors with pread; one per thread, keeps a few files open."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._open: dict[tuple[int, str], int] = {}

    def read(self, term: Term, start: int, into: Tensor) -> Tensor:
        """`into` (uint8), filled from element `start` on. Raises Refused: `changed`."""
        begin = term.spec.begin + start * BITS[term.spec.dtype] // 8
        view = into.numpy().data
        if os.preadv(self._file(term), [view], begin) != len(view):
            raise _changed(self._sources[term.source], term)
        return into

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _file(self, term: Term) -> int:
        key = term.source, term.spec.file
        if key not in self._open:
            if len(self._open) >= OPEN_FILES:
                self.close()
            self._open[key] = _open(self._sources[term.source], term)
        return self._open[key]


class MappedReader:
    """Shows parts of tensors in place; one for all threads, maps every file once."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._maps: dict[tuple[int, str], Tensor] = {}

    def read(self, term: Term, start: int, into: Tensor) -> Tensor:
        """The mapped bytes from element `start` on; a copy in `into` where they lie unaligned."""
        size = BITS[term.spec.dtype] // 8
        begin = term.spec.begin + start * size
        found = self._file(term)[begin : begin + len(into)]
        return found if begin % size == 0 else into.copy_(found)

    def close(self) -> None:
        """Maps end with the reader: tensors may still look at them."""

    def _file(self, term: Term) -> Tensor:
        key = term.source, term.spec.file
        with self._lock:
            if key not in self._maps:
                fd = _open(self._sources[term.source], term)
                try:
                    # Copy-on-write, never written: torch warns about read-only buffers.
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
                finally:
                    os.close(fd)
                self._maps[key] = torch.frombuffer(mapped, dtype=torch.uint8)
            return self._maps[key]


def _open(source: Source, term: Term) -> int:
    fd = open_regular(source.folder / term.spec.file)
    if os.fstat(fd).st_size != source.layout.file_size(term.spec.file):
        os.close(fd)
        raise _changed(source, term)
    return fd


def _changed(source: Source, term: Term) -> Refused:
    subject = f"{source.name}: {term.spec.file}"
    return Refused(Code.CHANGED, subject, "changed its size since the plan", "plan again")
