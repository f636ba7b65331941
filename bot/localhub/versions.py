"""Commits, trees and refs: every version of a repository stays readable at its 40-hex sha.

A commit keeps its whole tree as rows, so reading an old version costs the same as reading the
newest. Commit ids look like git's but are not git objects: nobody can `git clone` from here.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.localhub.blobs import git_oid, lfs_pointer
from bot.localhub.database import now
from bot.localhub.errors import (
    HubError,
    bad_request,
    entry_not_found,
    revision_not_found,
    stale_parent,
)
from bot.localhub.repos import Repo

MAIN = "refs/heads/main"
SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Commit:
    number: int
    sha: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str


@dataclass(frozen=True)
class Entry:
    """A file of one version. `oid` is git's name of what git would store (LFS: the pointer)."""

    path: str
    sha256: str
    git_oid: str
    size: int
    lfs: bool
    changed_in: str
    xet_hash: str | None

    @property
    def oid(self) -> str:
        return git_oid(lfs_pointer(self.sha256, self.size)) if self.lfs else self.git_oid

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Put:
    path: str
    sha256: str
    lfs: bool


@dataclass(frozen=True)
class Delete:
    """Removes a file, or with `folder` everything below the path."""

    path: str
    folder: bool = False


def resolve(db: sqlite3.Connection, repo: Repo, revision: str) -> Commit:
    """The commit that a branch, tag, full ref name or 40-hex sha stands for.

    Raises RevisionNotFound.
    """
    sha = ref(db, repo, full_ref(db, repo, revision)) or revision
    row = db.execute("SELECT * FROM commits WHERE sha = ? AND repo = ?", (sha, repo.key)).fetchone()
    if row is None:
        raise revision_not_found(revision)
    return _commit(row)


def full_ref(db: sqlite3.Connection, repo: Repo, revision: str) -> str:
    """`main` -> `refs/heads/main`; a tag's name -> `refs/tags/...`; branches win."""
    if revision.startswith("refs/"):
        return revision
    branch, tag = f"refs/heads/{revision}", f"refs/tags/{revision}"
    return tag if ref(db, repo, branch) is None and ref(db, repo, tag) is not None else branch


def ref(db: sqlite3.Connection, repo: Repo, name: str) -> str | None:
    row = db.execute(
        "SELECT sha FROM refs WHERE repo = ? AND name = ?", (repo.key, name)
    ).fetchone()
    return None if row is None else str(row["sha"])


def refs(db: sqlite3.Connection, repo: Repo, prefix: str) -> list[tuple[str, str]]:
    """Pairs (full name, sha) below `prefix`, by name."""
    rows = db.execute("SELECT name, sha FROM refs WHERE repo = ? ORDER BY name", (repo.key,))
    return [(row["name"], row["sha"]) for row in rows if row["name"].startswith(prefix)]


def set_ref(db: sqlite3.Connection, repo: Repo, name: str, sha: str) -> None:
    db.execute("INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", (repo.key, name, sha))


def new_ref(db: sqlite3.Connection, repo: Repo, name: str, sha: str) -> None:
    """Raises 409 if the name is taken, 400 if it is not a name that git would take."""
    short = name.split("/", 2)[2]
    if not re.fullmatch(r"(?!/)(?!.*(\.\.|//|@\{|\.lock$|/$))[\w./@+-]+", short):
        raise bad_request(f"Invalid reference name: {short}")
    if ref(db, repo, name) is not None:
        raise HubError(409, f"Reference already exists: {name}")
    set_ref(db, repo, name, sha)


def delete_ref(db: sqlite3.Connection, repo: Repo, name: str) -> None:
    if db.execute("DELETE FROM refs WHERE repo = ? AND name = ?", (repo.key, name)).rowcount == 0:
        raise revision_not_found(name)


def tree(db: sqlite3.Connection, commit: Commit) -> list[Entry]:
    """All files of a version, by path."""
    rows = db.execute(
        "SELECT path, entries.sha256, git_oid, size, lfs, changed_in, xet_hash FROM entries "
        "JOIN blobs USING (sha256) WHERE commit_number = ? ORDER BY path",
        (commit.number,),
    )
    return [_entry(row) for row in rows]


def entry(db: sqlite3.Connection, commit: Commit, path: str) -> Entry:
    """One file. Raises EntryNotFound."""
    row = db.execute(
        "SELECT path, entries.sha256, git_oid, size, lfs, changed_in, xet_hash FROM entries "
        "JOIN blobs USING (sha256) WHERE commit_number = ? AND path = ?",
        (commit.number, path),
    ).fetchone()
    if row is None:
        raise entry_not_found(path)
    return _entry(row)


def ever_had(db: sqlite3.Connection, repo: Repo, sha256: str) -> bool:
    """Whether any version of the repository holds these contents."""
    row = db.execute(
        "SELECT 1 FROM entries JOIN commits ON number = commit_number "
        "WHERE repo = ? AND sha256 = ? LIMIT 1",
        (repo.key, sha256),
    ).fetchone()
    return row is not None


def history(db: sqlite3.Connection, repo: Repo, head: Commit) -> list[Commit]:
    """The commits from `head` back to the first."""
    rows = db.execute("SELECT * FROM commits WHERE repo = ?", (repo.key,))
    commits = {row["sha"]: _commit(row) for row in rows}
    line, sha = [], head.sha
    while sha in commits:
        line.append(commits[sha])
        sha = commits[sha].parent or ""
    return line


def commit(
    db: sqlite3.Connection,
    repo: Repo,
    branch: str,
    operations: Sequence[Put | Delete],
    *,
    title: str,
    message: str = "",
    author: str,
    expected_parent: str | None = None,
    orphan: bool = False,
) -> Commit:
    """A new version on the full ref name `branch`.

    `expected_parent` (5-40 hex) must be where the branch is now, else 412. `orphan` starts a new
    line of history; without it the branch must exist, except in a repository without any commit.
    """
    head = None if orphan else ref(db, repo, branch)
    if head is None and not orphan and _any_commit(db, repo):
        raise revision_not_found(branch)
    if expected_parent and not (head or "").startswith(expected_parent):
        raise stale_parent()
    before = tree(db, resolve(db, repo, head)) if head else []
    files = {item.path: (item.sha256, item.lfs, item.changed_in) for item in before}
    sha = _new_sha(repo, head, title, operations)
    _apply(files, operations, sha)
    _refuse_bad_paths(files)
    date = now()
    number = db.execute(
        "INSERT INTO commits (sha, repo, parent, title, message, author, date) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (sha, repo.key, head, title, message, author, date),
    ).lastrowid
    assert number is not None
    db.executemany(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
        [(number, path, *rest) for path, rest in files.items()],
    )
    set_ref(db, repo, branch, sha)
    return Commit(number, sha, head, title, message, author, date)


def squash(db: sqlite3.Connection, repo: Repo, branch: str, title: str, author: str) -> Commit:
    """Puts the tree of `branch` into one commit without parents."""
    files = tree(db, resolve(db, repo, branch))
    operations = [Put(item.path, item.sha256, item.lfs) for item in files]
    return commit(db, repo, branch, operations, title=title, author=author, orphan=True)


def _apply(
    files: dict[str, tuple[str, bool, str]], operations: Iterable[Put | Delete], sha: str
) -> None:
    for step in operations:
        if isinstance(step, Put):
            files[step.path] = (step.sha256, step.lfs, sha)
        elif step.folder:
            inside = [path for path in files if path.startswith(step.path.rstrip("/") + "/")]
            if not inside:
                raise entry_not_found(step.path)
            for path in inside:
                del files[path]
        elif files.pop(step.path, None) is None:
            raise entry_not_found(step.path)


def _refuse_bad_paths(files: Iterable[str]) -> None:
    """A path must stay inside the repository and not be a file and a folder at once."""
    paths = set(files)
    for path in paths:
        parts = path.split("/")
        if any(part in ("", ".", "..", ".git") for part in parts) or "\0" in path:
            raise bad_request(f"Invalid path in repository: {path!r}")
        if any("/".join(parts[:depth]) in paths for depth in range(1, len(parts))):
            raise bad_request(f"A file lies where this path needs a folder: {path}")


def _new_sha(repo: Repo, parent: str | None, title: str, operations: Sequence[Put | Delete]) -> str:
    seed = repr((repo.key, parent, title, now(), operations)).encode()
    return hashlib.sha1(seed, usedforsecurity=False).hexdigest()


def _any_commit(db: sqlite3.Connection, repo: Repo) -> bool:
    found = db.execute("SELECT 1 FROM commits WHERE repo = ? LIMIT 1", (repo.key,)).fetchone()
    return found is not None


def _commit(row: sqlite3.Row) -> Commit:
    return Commit(
        row["number"],
        row["sha"],
        row["parent"],
        row["title"],
        row["message"],
        row["author"],
        row["date"],
    )


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        row["path"],
        row["sha256"],
        row["git_oid"],
        row["size"],
        bool(row["lfs"]),
        row["changed_in"],
        row["xet_hash"],
    )
