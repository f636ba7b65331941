"""Xet transfers over hf-xet's `local://` store.

The token call hands out `local://DIR` as storage address; the client's hf-xet then reads and
writes that folder itself, so client and server must share a file system. A commit names a large
file by SHA-256 only; the shards that hf-xet uploaded tell which Xet hash that is.

Shard layout: a 48-byte header, then per file a 48-byte record (hash, u32 flags, u32 count, pad),
`count` segments of 48 bytes, as many verification records if flag bit 31 is set, and a metadata
record that starts with the SHA-256 if bit 30 is set. A record whose hash is all ones ends the list.

`local://` is hf-xet's simulation store, not a promised interface; tested with hf-xet 1.8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from hf_xet import XetFileInfo, XetSession

HEADER = RECORD = 48
VERIFIED, HAS_METADATA = 1 << 31, 1 << 30
END = b"\xff" * 32
TOKEN_SECONDS = 3600


class XetStore:
    """The store in `folder`, which uploads and downloads of hf-xet share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.absolute()
        self._session: XetSession | None = None
        self._seen: set[Path] = set()
        self._hashes: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"local://{self._folder}"

    def hash_of(self, sha256: str) -> str | None:
        """The Xet hash of an uploaded file, None if no shard names it."""
        if sha256 not in self._hashes:
            self._read_new_shards()
        return self._hashes.get(sha256)

    def _read_new_shards(self) -> None:
        for shard in set(self._folder.rglob("*.mdb")) - self._seen:
            if shard.parent.name == "shards":
                self._hashes.update(files_of_shard(shard.read_bytes()))
                self._seen.add(shard)

    def rebuild(self, xet_hash: str, size: int, into: Path) -> None:
        """Writes the file `xet_hash` of `size` bytes to `into`."""
        if self._session is None:
            self._session = XetSession()
        with self._session.new_file_download_group(endpoint=self.address) as group:
            group.start_download_file(XetFileInfo(xet_hash, size), str(into))


def files_of_shard(shard: bytes) -> Iterator[tuple[str, str]]:
    """Pairs (SHA-256, Xet hash), both hex. Files without a SHA-256 are left out."""
    at = HEADER
    while at + RECORD <= len(shard) and (name := shard[at : at + 32]) != END:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        at += RECORD * (1 + count * (2 if flags & VERIFIED else 1))
        if flags & HAS_METADATA:
            yield _hex(shard[at : at + 32]), _hex(name)
            at += RECORD


def _hex(raw: bytes) -> str:
    """Hashes are stored as four little-endian 64-bit words and written big-endian."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))
