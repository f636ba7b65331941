"""Folders of a version. Only files are stored; folders are what their paths imply."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.localhub.versions import Entry


@dataclass(frozen=True)
class Folder:
    """`oid` names the contents; `changed_in` is the commit of the file changed last by path."""

    path: str
    oid: str
    changed_in: str


def inside(files: Sequence[Entry], folder: str, recursive: bool) -> list[Entry | Folder]:
    """What lies in `folder` ("" for the root), by path; with `recursive` at any depth below."""
    prefix = f"{folder}/" if folder else ""
    below = [entry for entry in files if entry.path.startswith(prefix)]
    members: dict[str, list[Entry]] = {}
    for entry in below:
        for parent in _parents(entry.path[len(prefix) :]):
            members.setdefault(prefix + parent, []).append(entry)
    found: list[Entry | Folder] = [*below, *(_folder(path, all_) for path, all_ in members.items())]
    if not recursive:
        found = [item for item in found if "/" not in item.path[len(prefix) :]]
    return sorted(found, key=lambda item: item.path)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _folder(path: str, files: Iterable[Entry]) -> Folder:
    listing = [(entry.path, entry.oid) for entry in files]
    oid = hashlib.sha1(repr(listing).encode(), usedforsecurity=False).hexdigest()
    return Folder(path, oid, next(iter(files)).changed_in)
