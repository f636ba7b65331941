"""What a file, and a published repository, hold by SHA-256: one answer for all who ask.

The publisher calls a version verified, and `bot verify` calls its files the same, by the one
comparison here. Not promised: anything about files that the Hub makes itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from bot.hub import FileFact, Hub
from bot.provenance import FILE_NAME, FileDigest

MAX_SMALL = 64 * 2**20  # bytes of a file that is not in large-file storage
UNLISTED = frozenset({FILE_NAME, ".gitattributes"})  # cannot list itself; the Hub's own


class Difference(StrEnum):
    """How a file at the Hub is not what provenance lists."""

    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


def sha256_of(file: Path) -> str:
    """64 hex digits; the file is read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remote_sha256(hub: Hub, repo: str, sha: str, file: FileFact) -> str:
    """From the listing for large files; small ones are read and hashed."""
    if file.sha256 is not None:
        return file.sha256
    return hashlib.sha256(hub.read_bytes(repo, sha, file.path, MAX_SMALL)).hexdigest()


def differences(
    hub: Hub, repo: str, sha: str, listed: Mapping[str, FileDigest]
) -> dict[str, Difference]:
    """Path -> what is wrong with it, sorted; empty where the commit holds just what is `listed`."""
    remote = hub.remote_files(repo, sha)
    found = dict.fromkeys(remote.keys() - listed.keys() - UNLISTED, Difference.ADDED)
    for path, digest in listed.items():
        if path not in remote:
            found[path] = Difference.REMOVED
        elif remote_sha256(hub, repo, sha, remote[path]) != digest.sha256:
            found[path] = Difference.CHANGED
    return dict(sorted(found.items()))
