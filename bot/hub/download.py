"""Download exactly the named files of one commit into a plain folder, every byte checked.

The client's cache is used as a private waiting room per commit, next to the other downloads, and
emptied afterwards: the finished folder holds regular files of its own. The folder appears by one
rename, so whoever sees it sees all of it. `local_dir` is not used: while the Hub is down it hands
back whatever lies in that folder as a success.
Not promised: resuming inside one file; a killed download repeats at most that file.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bot.errors import Broken, Rejected, Transient
from bot.hub.facts import FileFact, is_safe_path, is_sha
from bot.hub.session import Session, translate
from bot.reasons import Reason

_BLOCK = 1 << 20


def fetch(
    session: Session, cache: Path, repo: str, sha: str, files: Sequence[FileFact], into: Path
) -> None:
    """Make `into` a folder that holds exactly `files` of `repo` at `sha`. Idempotent.

    cache: folder for what is under way; on the file system of `into`, links replace copies.
    Raises Transient (also for a first wrong content), Gone, Forbidden; Rejected `corrupt-upstream`
    when the Hub sends wrong bytes a second time; Broken for unsafe paths, and for no files at all:
    an empty folder would count as complete ever after.
    """
    if not is_sha(sha):
        raise Broken(f"{sha!r} is not a full commit sha")
    if not files:
        raise Broken(f"{repo}@{sha}: a download that names no files")
    for file in files:
        if not is_safe_path(file.path):
            raise Broken(f"{repo}@{sha}: {file.path!r} is no safe path")
    if into.is_dir() and any(into.iterdir()):
        return
    room = cache / f"{repo.replace('/', '--')}@{sha}"
    staging = into.with_name(f".{into.name}.partial")
    try:
        for file in files:
            _fetch_one(session, room, repo, sha, file, staging / file.path)
        _remove_strays(staging, {file.path for file in files})
        _flush(staging)
        _settle(staging, into)
    except OSError as error:  # a full disk, mostly; what is complete is kept for the next attempt
        raise translate(error, f"{repo}@{sha}") from error
    shutil.rmtree(room, ignore_errors=True)


def _settle(staging: Path, into: Path) -> None:
    """The one rename that makes the folder visible."""
    try:
        staging.rename(into)
    except OSError:
        if not into.is_dir():  # somebody else finished the same download first: as good as ours
            raise
        shutil.rmtree(staging)


def _fetch_one(
    session: Session, room: Path, repo: str, sha: str, file: FileFact, target: Path
) -> None:
    if target.is_file() and not target.is_symlink() and matches(target, file):
        return
    with session.calling(f"{repo}@{sha}: {file.path}") as call:
        found = session.api.hf_hub_download(
            repo, file.path, revision=sha, cache_dir=room / "cache", etag_timeout=call.timeout
        )
    blob = Path(found).resolve(strict=True)
    if not matches(blob, file):
        shutil.rmtree(room / "cache")
        _once(room / f"wrong-{hashlib.sha256(file.path.encode()).hexdigest()[:16]}", file.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(blob, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(blob, target)


def _once(mark: Path, path: str) -> None:
    """Transient the first time, Rejected from then on; the mark on disk survives a restart."""
    if mark.exists():
        raise Rejected(Reason.CORRUPT_UPSTREAM, path, "wrong content twice")
    mark.touch()
    raise Transient(f"{path}: content does not match its hash")


def matches(path: Path, file: FileFact) -> bool:
    """True if the bytes at `path` have the size and the hash that the listing gave for `file`.

    Where a Hub names no hash, only the size is compared. A file outside large-file storage has
    git's hash of its blob; some Hubs name the plain sha1 of its content.
    """
    size = path.stat().st_size
    if size != file.size:
        return False
    if file.sha256 is not None:
        return _hashed(path, hashlib.sha256()) == file.sha256
    if file.blob_id is None:
        return True
    of_blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # git's object header
    plain = hashlib.sha1(usedforsecurity=False)
    return file.blob_id in (_hashed(path, of_blob), _hashed(path, plain))


def _hashed(path: Path, hasher: "hashlib._Hash") -> str:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def _remove_strays(folder: Path, wanted: set[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def _flush(folder: Path) -> None:
    """Ask the disk to keep every file before the rename makes them visible."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
