"""Files read and written past the page cache, where the file system can (`O_DIRECT`).

The page cache needs fresh memory for every byte of a large file, and a virtual machine may have to
get that from its host first. Measured on such a machine, ext4 and 1.1 GB: through the cache `cp`
took 1.6 to 2.1 s and then 0.3 s of fsync, in pieces of any size; past it the same bytes were on the
disk after 0.3 to 0.4 s, with no fsync to wait for. Reading 4.4 GB that were not in the cache took
4.0 to 4.5 s through it and 1.9 s past it. Nor does a soup push out what others keep there.

A file that lies in the cache is read from there. A file system that cannot do the one or the other
is used through the cache; bytes are the same.

Not promised: a gain where memory is at hand or the disk slow. `Way` says what is done then.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import threading
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
SWIFT = 0.8e-9
"""Seconds a byte that writes through the cache may take before another way is tried: 0.3e-9 with
memory at hand, 1.7e-9 without it."""
PHASE = 1 << 25
"""Bytes between two choices of the way."""
HOPE = 1.02
"""By what the speed of the way not taken is thought to grow in a phase, so that a way that was slow
for once is tried again: one half as fast after 35 phases, which costs 3 %."""
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


class Way:
    """Past the cache or through it: for all writes of one soup, by any number of threads.

    durable: whether the bytes must reach the disk anyway; then they go past it. If not, they go
    through it as long as that is swift, and then whichever way the *soup* gets on faster. Not the
    write: past the cache it waits for the disk while other threads compute, through it it computes
    itself, and on a busy machine both wait for a processor. Chosen by the seconds of writes, 1.1 GB
    took 3.6 s on a machine with two other processes at work; this way 1.4 s, all past it 1.1 s.
    """

    def __init__(self, durable: bool) -> None:
        self.past = durable
        self._open, self._lock = not durable, threading.Lock()
        self._speeds = dict[bool, float]()  # bytes a second, of the soup, when last taken
        self._since: float | None = None
        self._bytes, self._writing = 0, 0.0

    def wrote(self, size: int, past: bool, begun: float, ended: float) -> None:
        """Tell of a write and its seconds by one clock; the soup is so many bytes further."""
        if not self._open:
            return
        with self._lock:
            if past != self.past:  # begun before the last change
                return
            if self._since is None:  # what the first one waited for is not this way's doing
                self._since = ended
                return
            self._bytes, self._writing = self._bytes + size, self._writing + ended - begun
            seconds = max(ended - self._since, 1e-9)  # threads may tell in another order
            hopeless = seconds * self._speeds.get(not past, 0) > 2 * PHASE
            if self._bytes >= PHASE or hopeless:
                self._choose(seconds)
                self._since = ended if self.past == past else None
                self._bytes, self._writing = 0, 0.0

    def only_through(self) -> None:
        """The file system cannot do the other."""
        self.past = self._open = False

    def _choose(self, seconds: float) -> None:
        self._speeds[self.past] = self._bytes / seconds
        other = self._speeds.get(not self.past)
        if other is not None:
            self._speeds[not self.past] = other * HOPE
            self.past = self._speeds[True] > self._speeds[False]
        else:
            self.past = self._writing > self._bytes * SWIFT


class Output:
    """A preallocated file, written by many threads in parts that begin at pages."""

    def __init__(self, path: Path, way: Way) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._direct, self._way = _twin(self._fd, os.O_WRONLY), way

    def write(self, data: Bytes, offset: int) -> None:
        """data: from the beginning of a `room`. offset: a multiple of PAGE."""
        begun, past = time.perf_counter(), self._direct is not None and self._way.past
        whole = self._write_past(data[: len(data) // PAGE * PAGE], offset) if past else 0
        _write_all(self._fd, data[whole:].data, offset + whole)
        self._way.wrote(len(data), past, begun, time.perf_counter())

    def sync(self) -> None:
        """Return when what was written is on the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        if self._direct is not None:
            os.close(self._direct)

    def _write_past(self, data: Bytes, offset: int) -> int:
        """How many bytes were written past the cache; the rest is for it."""
        assert self._direct is not None
        try:
            return os.pwrite(self._direct, data.data, offset) if len(data) else 0
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            self._way.only_through()
            return 0


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
