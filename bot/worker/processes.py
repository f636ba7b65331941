"""A child and everything it started, as the kernel lists them (``/proc``, Linux).

Standard library only. Not promised: a process that was orphaned on purpose (double fork) has no
traceable parent; only the child's process namespace (`bot.worker.sandbox`) ends such ones.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def tree(root: int) -> tuple[int, ...]:
    """`root` and its living descendants, parents first; empty when `root` is gone."""
    children: dict[int, list[int]] = {}
    known = set()
    for pid, parent in _parents():
        known.add(pid)
        children.setdefault(parent, []).append(pid)
    found = [root] if root in known else []
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return tuple(found)


def held_memory(pids: tuple[int, ...]) -> int:
    """Bytes that the kernel cannot take back: anonymous and shared memory, without mapped files."""
    return sum(_held(pid) for pid in pids)


def kill_tree(root: int) -> None:
    """SIGKILL the process group led by `root`, which must not have been waited for, and every
    descendant that left the group."""
    family = tree(root)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(root, signal.SIGKILL)
    for pid in family:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                stat = Path(entry.path, "stat").read_bytes()
                # "pid (name) state ppid ...": the name may hold spaces and brackets.
                yield int(entry.name), int(stat[stat.rindex(b")") + 1 :].split()[1])


def _held(pid: int) -> int:
    total = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total
