"""Write a soup to disk: everything in a hidden sibling folder first, then one rename.

    plan = plan_soup([(Path("a"), Fraction(2, 5)), (Path("b"), Fraction(3, 5))])
    report = write_soup(plan, Path("soup"))

A killed or interrupted run leaves `.NAME.partial`, which never looks finished (not the asked name,
and no configuration before all weights are written). The next run of the same plan goes on where
its journal ends; any other throws it away, unless it is not a folder, or has one inside: that is
nobody's soup, and is refused. After a refusal or an error nothing is left. A lock keeps two writers
apart.

Not promised: that free disk measured before is still free later. All space for tensors is allocated
before the first block; whatever does not fit, then or at the end, refuses (`disk-full`) too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merge.checkpoint import INDEX, open_regular
from merge.errors import Code, Refused
from merge.jobs import Source
from merge.journal import EVERY, NAME, Journal, sync_folder
from merge.plan import SoupPlan, plan_soup
from merge.readers import Order, check_unchanged
from merge.shards import OutputFile
from merge.stream import PIECE, Hasher, Progress, Stream
from merge.threads import cores
from merge.verify import verify_soup
from merge.windows import WINDOW

_OTHER = "choose another name"
_ROOM = "make room there, or choose another disk, and run it again"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

__all__ = ["FileDigest", "Seconds", "SoupPlan", "SoupReport", "plan_soup", "write_soup"]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """sha256: 64 hex digits, None if hashing was turned off; size in bytes."""

    sha256: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall clock of the phases.

    Of `merge`: `hash` was spent in SHA-256 and `journal` in making written ranges durable, over
    threads, and `resume` in reading back what an earlier run had written.
    """

    merge: float
    hash: float
    sync: float
    verify: float
    journal: float = 0.0
    resume: float = 0.0


@dataclass(frozen=True, slots=True)
class SoupReport:
    """What was written, by file name in the order of names."""

    files: Mapping[str, FileDigest]
    seconds: Seconds


def write_soup(
    plan: SoupPlan,
    out: Path,
    *,
    threads: int | None = None,
    hash: bool = True,
    verify: bool = True,
    durable: bool = True,
    extras: Mapping[str, bytes | Path] | None = None,
    window: int = WINDOW,
    every: int = EVERY,
    progress: Progress | None = None,
) -> SoupReport:
    """Carry out `plan` into the new folder `out`.

    threads: that compute at once, one per core by default. hash: SHA-256 of every file, while
    writing. verify: read the headers back and recompute 1,000 random blocks. durable: fsync before
    the rename, and keep a journal, so that a killed run can be taken up again. extras: other
    files (configuration, tokenizer) by name, as bytes or where to copy them from, written last; not
    through links. window: bytes computed and written at once, changes none of them. every: bytes
    between two lines of the journal. progress: called with (bytes written, bytes in all), from any
    thread, one call at a time.
    Raises Refused; OSError from the disk. `out`, which may be an empty folder before, then holds no
    file, unless it was the last fsync that failed, of the folder around it: then it is complete.
    """
    small = dict(extras or {})
    check_disk(plan, out, sum(map(_size, small.values())))
    order = Order(plan.sources)
    with _disk(out), _partial(out) as folder, _journal(plan, folder, durable) as journal:
        started = time.perf_counter()
        stream = Stream(
            plan, folder, order, threads=threads or cores(), hashed=hash,
            durable=durable, journal=journal, every=every, window=window, progress=progress,
        )  # fmt: skip
        stream.run()
        merged = time.perf_counter()
        if plan.index is not None:
            small[INDEX] = plan.index
        digests = {name: _write_small(folder, name, data, hash) for name, data in small.items()}
        if durable:
            _sync(folder)
        synced = time.perf_counter()
        check_unchanged(_used(plan, small))
        if verify:
            verify_soup(plan, folder, order)
        seconds = Seconds(
            merged - started, stream.hasher.seconds, synced - merged, time.perf_counter() - synced,
            stream.journal_seconds, stream.resumed,
        )  # fmt: skip
        digests |= _digests(plan, stream.hasher, hash)
        report = SoupReport(dict(sorted(digests.items())), seconds)
        (folder / NAME).unlink(missing_ok=True)
        _finish(folder, out)
    if durable:
        sync_folder(out.parent)
    return report


def check_disk(plan: SoupPlan, out: Path, extra: int = 0) -> None:
    """Refuse (`disk-full`) if the exact output size does not fit; (`output-exists`) if taken."""
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise Refused(Code.OUTPUT_EXISTS, str(out), "is there already", _OTHER)
    need = plan.output_bytes + extra
    with _disk(out):
        free = shutil.disk_usage(out.absolute().parent).free + _held(_unfinished(out))
    if need > free:
        raise Refused(Code.DISK_FULL, str(out), f"needs {need} bytes, {free} are free", _ROOM)


def _held(left: Path) -> int:
    """Bytes of an unfinished folder, which will be taken up or thrown away."""
    try:
        return sum(path.lstat().st_blocks * 512 for path in left.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return 0  # there is none, or another writer has just renamed it


def _used(plan: SoupPlan, small: Mapping[str, bytes | Path]) -> list[Source]:
    """The sources that the output's bytes depend on."""
    summed = {term.source for job in plan.jobs for term in job.terms}
    donors = {data.parent for data in small.values() if isinstance(data, Path)}
    return [s for k, s in enumerate(plan.sources) if k in summed or s.folder in donors]


def _finish(folder: Path, out: Path) -> None:
    try:
        folder.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise Refused(Code.OUTPUT_EXISTS, str(out), "is there already", _OTHER) from error


def _unfinished(out: Path) -> Path:
    return out.absolute().parent / f".{out.name}.partial"


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Say what a full disk, a quota, a limit on file sizes or on names means for `out`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Refused(Code.UNSAFE_FILE, str(out), "has too long a name", _OTHER) from error
        if error.errno not in _FULL:
            raise
        detail = f"{error.strerror}; nothing is left"
        raise Refused(Code.DISK_FULL, str(out), detail, _ROOM) from error


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A locked sibling folder; removed after an error, kept when interrupted."""
    folder = _unfinished(out)
    made = _make(folder)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError as error:  # renamed by another writer meanwhile
        raise _busy(out) from error
    except NotADirectoryError as error:
        raise _in_the_way(folder) from error
    except OSError:
        if made:
            folder.rmdir()
        raise
    try:
        _lock(fd, folder, out)
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                raise _in_the_way(entry)
        try:
            yield folder
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(fd)


def _make(folder: Path) -> bool:
    """Whether it was not there."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


@contextmanager
def _journal(plan: SoupPlan, folder: Path, durable: bool) -> Iterator[Journal | None]:
    """An open journal beside preallocated output files; None without durability."""
    journal = Journal.resume(folder, plan) if durable else None
    keep = {NAME, *(file.name for file in plan.files)} if journal is not None else set[str]()
    for stale in folder.iterdir():
        if stale.name not in keep:
            stale.unlink()
    if journal is None:
        _preallocate(plan.files, folder)
        journal = Journal.create(folder, plan) if durable else None
    try:
        yield journal
    finally:
        if journal is not None:
            journal.close()


def _lock(fd: int, folder: Path, out: Path) -> None:
    """Hold `folder`, opened as `fd`, or refuse: `busy`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(fd), folder.stat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:  # another writer holds it, or has just finished and renamed it
        raise _busy(out)


def _in_the_way(path: Path) -> Refused:
    """Something under the name of an unfinished soup that no soup has left."""
    return Refused(Code.OUTPUT_EXISTS, str(path), "is in the way", f"remove it, or {_OTHER}")


def _busy(out: Path) -> Refused:
    return Refused(Code.BUSY, str(out), "is being written by another process", "wait for it")


def _preallocate(files: tuple[OutputFile, ...], folder: Path) -> None:
    for file in files:
        fd = os.open(folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.posix_fallocate(fd, 0, file.size)
        finally:
            os.close(fd)


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.lstat().st_size


def _write_small(folder: Path, name: str, data: bytes | Path, hashed: bool) -> FileDigest:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not a plain file name")
    digest, size = hashlib.sha256(), 0
    with open(folder / name, "xb") as stream:
        for piece in _pieces(data):
            size += stream.write(piece)
            if hashed:
                digest.update(piece)
    return FileDigest(digest.hexdigest() if hashed else None, size)


def _pieces(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with open(open_regular(data), "rb", buffering=0) as stream:
        while piece := stream.read(PIECE):
            yield piece


def _digests(plan: SoupPlan, hasher: Hasher, hashed: bool) -> Mapping[str, FileDigest]:
    return {
        file.name: FileDigest(hasher.sums[file.name].hexdigest() if hashed else None, file.size)
        for file in plan.files
    }


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(folder)
