"""A working folder for one command; what a killed command left behind is removed by the next one.

A lock says whose owner lives, and the kernel lets go of it however the owner ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "room-"


@contextmanager
def working_room(cache: Path) -> Iterator[Path]:
    """An empty folder below `cache`, or, where that cannot be written or locked, elsewhere."""
    claim = None
    with suppress(OSError):  # a read-only home; a network file system without locks
        claim = _claim(cache / "work")
    if claim is None:
        with tempfile.TemporaryDirectory(prefix="bot-") as other:
            yield Path(other)
        return
    room, held = claim
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(held)


def _claim(folder: Path) -> tuple[Path, int]:
    """A locked folder of our own in `folder`; those that nobody holds are removed.

    One process at a time does this, so that no folder is seen between its making and its locking.
    """
    folder.mkdir(parents=True, exist_ok=True)
    turn = _locked(folder, fcntl.LOCK_EX)
    try:
        for old in folder.glob(f"{PREFIX}*"):
            with suppress(OSError):  # held, or gone
                os.close(_locked(old, fcntl.LOCK_EX | fcntl.LOCK_NB))
                shutil.rmtree(old, ignore_errors=True)
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        return room, _locked(room, fcntl.LOCK_EX)
    finally:
        os.close(turn)


def _locked(folder: Path, operation: int) -> int:
    """Descriptor of the folder, which holds the lock until it is closed. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, operation)
    except OSError:
        os.close(fd)
        raise
    return fd
