"""File contents on disk, named by their SHA-256.

A blob is written to a temporary file, synced, renamed into place, and never changed again, so
equal contents are kept once and a crash leaves either the whole blob or none. Blobs of deleted
repositories are not collected.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """Identity of some contents: SHA-256 and git blob SHA-1 (both hex), and the size in bytes."""

    sha256: str
    size: int
    git_oid: str


class Blobs:
    """The folder of contents."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self.durable = durable
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():  # of a process that died while receiving
            leftover.unlink()

    def path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def receive(self) -> Incoming:
        """A new blob to write piece by piece."""
        return Incoming(self, self._incoming / secrets.token_hex(8))

    def add(self, content: bytes) -> Blob:
        with self.receive() as incoming:
            incoming.write(content)
            return incoming.keep()

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes [start, stop) in pieces of at most 1 MiB."""
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            left = None if stop is None else stop - start
            while piece := file.read(CHUNK if left is None else min(CHUNK, left)):
                yield piece
                left = None if left is None else left - len(piece)


class Incoming:
    """A blob on its way in. Leaving the `with` block without `keep` throws the bytes away."""

    def __init__(self, blobs: Blobs, path: Path) -> None:
        self._blobs = blobs
        self.path = path
        self._file = path.open("w+b")
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self.size += len(piece)

    def keep(self, expected_sha256: str | None = None) -> Blob:
        """Files the bytes under their name.

        Raises ValueError if they are not what was announced; nothing is kept then.
        """
        self._file.flush()
        blob = identify(self.path)
        if expected_sha256 not in (None, blob.sha256):
            raise ValueError(f"expected sha256 {expected_sha256}, received {blob.sha256}")
        if self._blobs.durable:
            sync(self.path)
        place = self._blobs.path(blob.sha256)
        place.parent.mkdir(exist_ok=True)
        os.replace(self.path, place)
        if self._blobs.durable:
            sync(place.parent)
        return blob


def identify(path: Path) -> Blob:
    """Hashes the file at `path`."""
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), git_hash(size)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            sha256.update(piece)
            git.update(piece)
    return Blob(sha256.hexdigest(), size, git.hexdigest())


def git_hash(size: int) -> hashlib._Hash:
    """SHA-1 as git names blobs, waiting for `size` bytes of content."""
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def git_oid(content: bytes) -> str:
    digest = git_hash(len(content))
    digest.update(content)
    return digest.hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git itself keeps in place of a large file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    ).encode()


def sync(path: Path) -> None:
    """fsync by name: a blob's bytes, then its folder, also when another library wrote them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
