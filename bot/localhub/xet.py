"""Xet transfers over hf-xet's `local://` store.

The token call hands out `local://DIR` as storage address; the client's hf-xet then reads and
writes that folder itself, so client and server must share a file system. hf-xet keeps an index
beside the data that only one process may have open. So no two parties share a folder:

    store/      everything committed; only the server opens it
    rooms/X     one per token: empty for an upload, for a download the store's data by symlink
                and a copy of its index

A commit names a large file by SHA-256 only. The shards in the upload rooms tell which Xet hash
that is; the file is rebuilt from its room and then kept in the store. Deduplication of chunks
between uploads is lost that way, deduplication in the store is not.

Shard layout: a 48-byte header, then per file a 48-byte record (hash, u32 flags, u32 count, pad),
`count` segments of 48 bytes, as many verification records if flag bit 31 is set, and a metadata
record that starts with the SHA-256 if bit 30 is set. A record whose hash is all ones ends the list.

`local://` is hf-xet's simulation store, not a promised interface; tested with hf-xet 1.8.
"""

from __future__ import annotations

import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hf_xet import XetFileInfo, XetSession

HEADER = RECORD = 48
VERIFIED, HAS_METADATA = 1 << 31, 1 << 30
END = b"\xff" * 32
TOKEN_SECONDS = 3600
INDEX, DATA = "global_dedup_lookup.redb", ("xorbs", "shards")
ATTEMPTS = 5


class XetStore:
    """The store in `folder`, and the rooms beside it."""

    def __init__(self, folder: Path) -> None:
        self._store = folder.absolute() / "store"
        self._rooms = folder.absolute() / "rooms"
        self._rooms.mkdir(parents=True, exist_ok=True)
        self._session = XetSession()
        self._lock = threading.Lock()  # over the store's index

    def upload_room(self) -> str:
        """A storage address to write to, good for as long as its token."""
        self._close_old_rooms()
        return f"local://{self._new_room()}"

    def download_room(self) -> str:
        """A storage address with everything committed so far."""
        self._close_old_rooms()
        with self._lock:
            return f"local://{self._view_of(self._store)}"

    def rebuild(self, sha256: str, size: int, into: Path) -> bool:
        """Writes an uploaded file to `into`; False if no upload room has it.

        Raises ValueError if what was uploaded does not make a file of `size` bytes.
        """
        for room in self._rooms.iterdir():
            if xet_hash := _files_in(room).get(sha256):
                self._rebuild_from(room, xet_hash, size, into)
                return True
        return False

    def _rebuild_from(self, room: Path, xet_hash: str, size: int, into: Path) -> None:
        """The uploader may still be writing to the room's index, so a copy of it can be torn."""
        for attempt in range(ATTEMPTS):
            view = self._view_of(room)
            try:
                with self._session.new_file_download_group(endpoint=f"local://{view}") as group:
                    group.start_download_file(XetFileInfo(xet_hash, size), str(into))
                return
            except RuntimeError as error:  # all that hf-xet raises
                if attempt == ATTEMPTS - 1:
                    raise ValueError(f"cannot rebuild {xet_hash}: {error}") from error
                time.sleep(0.1 * 2**attempt)
            finally:
                shutil.rmtree(view, ignore_errors=True)

    def keep(self, path: Path, sha256: str) -> str:
        """Puts a file into the store; its Xet hash (64 hex)."""
        with self._lock:
            with self._session.new_upload_commit(endpoint=f"local://{self._store}") as commit:
                upload = commit.start_upload_file(str(path), sha256=sha256)
            return str(upload.result().xet_info.hash)

    def _new_room(self) -> Path:
        room = self._rooms / secrets.token_hex(8)
        room.mkdir()
        return room

    def _view_of(self, source: Path) -> Path:
        """A room that shows the data in `source` under an index of its own."""
        room = self._new_room()
        inside, original = _inside(room), _inside(source)
        inside.mkdir(parents=True)
        if (original / INDEX).exists():
            shutil.copyfile(original / INDEX, inside / INDEX)
            for part in DATA:
                (inside / part).symlink_to(original / part, target_is_directory=True)
        return room

    def _close_old_rooms(self) -> None:
        latest = time.time() - 2 * TOKEN_SECONDS
        for room in self._rooms.iterdir():
            if room.stat().st_mtime < latest:
                shutil.rmtree(room, ignore_errors=True)


def _inside(room: Path) -> Path:
    return room / "xet" / "xorbs"  # hf-xet's own layout


def _files_in(room: Path) -> dict[str, str]:
    """SHA-256 -> Xet hash of what was uploaded to a room. Views of other folders count as empty."""
    shards = _inside(room) / "shards"
    if shards.is_symlink():
        return {}
    found: dict[str, str] = {}
    for shard in shards.glob("*.mdb"):
        found.update(files_of_shard(shard.read_bytes()))
    return found


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
