"""How far a soup got, so that a killed run can be taken up again.

    {"journal": 2, "plan": "<sha256 of everything that decides the bytes>"}
    {"done": 134217728}

The file lies in the unfinished folder. Its first line binds it to the plan and to the very files
that the plan was made from, so that after any change the next run starts clean. Each further line
says that the first `done` bytes of the output (its files one after the other, in the plan's order)
are on disk: it is appended only after these files were synced, and synced itself. What a crash
leaves of a last line is ignored.

Not promised: that a member has the same bytes where its inode, size and time of change are the
same: it may have been written over in place and its time set back.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from merge.checkpoint import Stamp
from merge.direct import PAGE
from merge.errors import changed
from merge.jobs import Source
from merge.plan import SoupPlan

NAME = "journal.jsonl"
EVERY = 1 << 26
"""Bytes of output between two lines: about what a kill costs."""


class Journal:
    """Open journal of one run; `done` is where the run before it ended."""

    def __init__(self, fd: int, done: int) -> None:
        self._fd, self.done = fd, done

    @classmethod
    def create(cls, folder: Path, plan: SoupPlan) -> Journal:
        """Begin anew in `folder`, whose output files are there and empty."""
        fd = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        journal = cls(fd, 0)
        try:
            journal._append({"journal": 2, "plan": plan_digest(plan)})
            sync_folder(folder)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def resume(cls, folder: Path, plan: SoupPlan) -> Journal | None:
        """The journal in `folder` if it belongs to `plan` and its files; else None."""
        whole = [(folder / file.name, file.size) for file in plan.files]
        if not all(_is_file_of(path, size) for path, size in [(folder / NAME, None), *whole]):
            return None
        lines = (folder / NAME).read_bytes().split(b"\n")[:-1]
        done = _done(lines, plan)
        if done is None:
            return None
        fd = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        os.ftruncate(fd, sum(len(line) + 1 for line in lines))
        return cls(fd, done)

    def record(self, done: int, sync: Callable[[], None]) -> None:
        """Say that the first `done` bytes are on disk, which they are after `sync`."""
        sync()
        self._append({"done": done})

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, line: dict[str, object]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)


class Finished:
    """Windows that are written, in any order, as a growing number of first bytes."""

    def __init__(self, done: int, every: int) -> None:
        self._lock = threading.Lock()
        self._early: dict[int, int] = {}
        self._next, self._every = 0, every
        self._told, self._asking = done, False
        self.done = done

    def add(self, number: int, size: int) -> int | None:
        """Note a window; returns `done` when `every` bytes came since it was last returned.

        The next number to return waits for `told`.
        """
        with self._lock:
            self._early[number] = size
            while self._next in self._early:
                self.done += self._early.pop(self._next)
                self._next += 1
            if self.done - self._told < self._every or self._asking:
                return None
            self._told, self._asking = self.done, True
            return self.done

    def told(self) -> None:
        with self._lock:
            self._asking = False


def plan_digest(plan: SoupPlan) -> str:
    """SHA-256 of the layout, the arithmetic and the identity of every input file."""
    digest = hashlib.sha256(repr(("stockpot journal 2", plan.denominator, plan.index)).encode())
    for file in plan.files:
        digest.update(repr((file.name, file.size)).encode() + file.header)
    for job in plan.jobs:
        digest.update(repr(job).encode())
    for source in plan.sources:
        digest.update(repr((source.digest, source.adapter, *_identity(source))).encode())
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the entries of `folder` durable."""
    fd = os.open(folder.absolute(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _identity(source: Source) -> Iterable[tuple[str, Stamp, int]]:
    """What the file system said of a source's files, and when it last changed what it says: another
    file can have the size, the number and the time of the one in whose place it was put. A hard
    link changes that too, and costs a resume.

    Raises Refused: `changed`.
    """
    for file, stamp in sorted(source.layout.stamps.items()):
        path = source.folder / file
        try:
            yield str(path.resolve()), stamp, path.lstat().st_ctime_ns
        except OSError as error:
            raise changed(f"{source.name}: {file}") from error


def _is_file_of(path: Path, size: int | None) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)


def _done(lines: list[bytes], plan: SoupPlan) -> int | None:
    """The last number of bytes, None if the journal is another plan's or makes no sense."""
    try:
        first, *others = [json.loads(line) for line in lines]
        if first != {"journal": 2, "plan": plan_digest(plan)}:
            return None
        done = max((int(line["done"]) for line in others), default=0)
    except (ValueError, KeyError, TypeError):
        return None
    return done if _is_boundary(done, plan) else None


def _is_boundary(done: int, plan: SoupPlan) -> bool:
    """Whether a window can begin after so many bytes."""
    for file in plan.files:
        if done <= file.size:
            return done == file.size or (done >= 0 and done % PAGE == 0)
        done -= file.size
    return False
