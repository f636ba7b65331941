"""Files read and written past the page cache, where the file system can (`O_DIRECT`).

The page cache needs fresh memory for every byte of a large file, and a virtual machine may have to
get that from its host first. Measured on such a machine, ext4 and 1.1 GB: through the cache `cp`
took 1.6 to 2.1 s and then 0.3 s of fsync, in pieces of any size; past it the same bytes were on the
disk after 0.3 to 0.4 s, with no fsync to wait for. Reading 4.4 GB that were not in the cache took
4.0 to 4.5 s through it and 1.9 s past it. Nor does a soup push out what others keep there.

A file that lies in the cache is read from there. A file system that cannot do the one or the other
is used through the cache; bytes are the same.

Not promised: a gain where memory is at hand or the disk slow. `Output` says what it does then.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
PAGE = 4096
"""Where direct reads and writes begin and end, in files and in memory."""
PIECE = 1 << 18
"""Bytes of one write through the cache; in a virtual machine 1 MiB took half as long again."""
SMALL = 1 << 17
"""Bytes; where less is wanted, what the cache reads ahead is worth more than what it costs."""
SWIFT, PATIENCE = 0.8e-9, 8e-9
"""Seconds a byte of one write, through the cache and past it. With memory at hand the cache takes
0.3e-9, without it 1.7e-9; with four writes under way a disk of half a GB a second takes 8e-9."""
TRIAL = 1 << 24
_SAMPLE = 16
_UNABLE = (errno.EINVAL, errno.EOPNOTSUPP)


def room(size: int) -> Bytes:
    """Memory that begins at a page, and goes back to the system as soon as it is given up.

    What many threads get and give up in megabytes elsewhere, glibc keeps: 20 MB a thread.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, max(size, 1), flags=private), dtype=np.uint8)


class Input:
    """A file open for reading, by any number of threads. fd: its descriptor, which this object
    closes; cached: whether most of it is in the cache, where that was found out before."""

    def __init__(self, fd: int, cached: bool | None = None) -> None:
        self._fd = fd
        self.cached = _mostly_cached(fd) if cached is None else cached
        self._direct = None if self.cached else _twin(fd, os.O_RDONLY)
        self._past = self._direct is not None

    def read(self, begin: int, size: int, into: Bytes, align: int = 1) -> Bytes:
        """Bytes begin : begin + size, or as many as there are, somewhere in `into`.

        into: a `room` two pages longer than `size`. align: what the address of the first byte must
        be a multiple of; 1, 2, 4 or 8.
        """
        if self._past and self._direct is not None and size >= SMALL:
            try:
                return _read_past(self._direct, begin, size, into, align)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                self._past = False  # not closed: another thread may be reading
        return into[: _fill(self._fd, into[:size].data, begin)]

    def close(self) -> None:
        os.close(self._fd)
        if self._direct is not None:
            os.close(self._direct)


class Output:
    """A preallocated file, written by many threads in parts that begin at pages.

    patient: whether the bytes must reach the disk anyway; then they go past the cache. If not, they
    go through it as long as that is swift (SWIFT), then past it, and if the disk turns out to be
    slow (PATIENCE), through it after all.
    """

    def __init__(self, path: Path, *, patient: bool) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._direct = _twin(self._fd, os.O_WRONLY)
        self._past = patient and self._direct is not None
        self._changes = 0 if patient or self._direct is None else 2
        self._seconds, self._bytes = 0.0, 0

    def write(self, data: Bytes, offset: int) -> None:
        """data: from the beginning of a `room`. offset: a multiple of PAGE."""
        started = time.perf_counter()
        whole = self._write_past(data[: len(data) // PAGE * PAGE], offset) if self._past else 0
        _write_all(self._fd, data[whole:].data, offset + whole)
        if self._changes:
            self._weigh(len(data), time.perf_counter() - started)

    def sync(self) -> None:
        """Return when what was written is on the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        if self._direct is not None:
            os.close(self._direct)

    def _write_past(self, data: Bytes, offset: int) -> int:
        """How many bytes were written; the rest is for the cache."""
        assert self._direct is not None
        try:
            return os.pwrite(self._direct, data.data, offset) if len(data) else 0
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            self._past, self._changes = False, 0
            return 0

    def _weigh(self, size: int, seconds: float) -> None:
        """Change the way where the last TRIAL bytes took too long on this one."""
        # Threads may count over each other here: a little lost changes no byte.
        self._seconds, self._bytes = self._seconds + seconds, self._bytes + size
        if self._bytes < TRIAL:
            return
        if self._seconds > self._bytes * (PATIENCE if self._past else SWIFT):
            self._past, self._changes = not self._past, self._changes - 1
        self._seconds, self._bytes = 0.0, 0


def _twin(fd: int, flags: int) -> int | None:
    """The same file, opened for direct access; None where that is impossible."""
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None


def _mostly_cached(fd: int) -> bool:
    """Whether most pages of a sample are in the cache, or nobody can tell.

    Where one is not, the kernel begins to read it: harmless for a few, but cold reads took three
    times as long when each asked first.
    """
    size, draw = os.fstat(fd).st_size, random.Random()
    # Else it would read megabytes ahead of each, which can be all of a small file.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        found = sum(_cached(fd, draw.randrange(size)) for _ in range(_SAMPLE)) if size else 0
    except OSError:  # no such call, or not allowed; if it is the disk, reading will say so
        return True
    finally:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NORMAL)
    return 2 * found >= _SAMPLE


def _cached(fd: int, at: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False


def _read_past(fd: int, begin: int, size: int, into: Bytes, align: int) -> Bytes:
    head = begin % PAGE
    whole = (head + size + PAGE - 1) // PAGE * PAGE
    got = _fill(fd, into[:whole].data, begin - head)
    found = into[head : min(head + size, got)]
    if head % align == 0:
        return found
    into[: len(found)] = found
    return into[: len(found)]


def _fill(fd: int, view: memoryview, begin: int) -> int:
    """Read until `view` is full or the file ends; how much that was."""
    done = 0
    while done < len(view) and (got := os.preadv(fd, [view[done:]], begin + done)):
        done += got
    return done


def _write_all(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view[:PIECE], offset)
        view, offset = view[written:], offset + written
