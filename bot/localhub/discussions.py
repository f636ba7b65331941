"""Discussions and pull requests. A pull request's commits live on the ref `refs/pr/N`."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.localhub import versions
from bot.localhub.accounts import Caller
from bot.localhub.database import now
from bot.localhub.errors import HubError, bad_request
from bot.localhub.repos import Repo
from bot.localhub.versions import MAIN, Commit, Delete, Put


@dataclass(frozen=True)
class Discussion:
    num: int
    title: str
    author: str
    created_at: str
    status: str
    pull_request: bool
    merge_sha: str | None


def ref_of(num: int) -> str:
    return f"refs/pr/{num}"


def get(db: sqlite3.Connection, repo: Repo, num: int) -> Discussion:
    row = db.execute(
        "SELECT * FROM discussions WHERE repo = ? AND num = ?", (repo.key, num)
    ).fetchone()
    if row is None:
        raise HubError(404, f"Discussion not found: {num}")
    return _discussion(row)


def all_of(db: sqlite3.Connection, repo: Repo) -> list[Discussion]:
    """Newest first."""
    rows = db.execute("SELECT * FROM discussions WHERE repo = ? ORDER BY num DESC", (repo.key,))
    return [_discussion(row) for row in rows]


def open_discussion(db: sqlite3.Connection, repo: Repo, title: str, text: str, author: str) -> int:
    """A discussion with its first comment; its number."""
    return _open(db, repo, title, text, author, "open", pull_request=False)


def open_pull_request(
    db: sqlite3.Connection,
    repo: Repo,
    title: str,
    text: str,
    author: str,
    base: Commit,
    *,
    draft: bool,
) -> int:
    """A pull request whose branch starts at `base`; its number."""
    status = "draft" if draft else "open"
    num = _open(db, repo, title, text, author, status, pull_request=True)
    versions.set_ref(db, repo, ref_of(num), base.sha)
    return num


def _open(
    db: sqlite3.Connection,
    repo: Repo,
    title: str,
    text: str,
    author: str,
    status: str,
    *,
    pull_request: bool,
) -> int:
    if not 3 <= len(title) <= 200:
        raise bad_request("A title has 3 to 200 characters")
    row = db.execute(
        "SELECT coalesce(max(num), 0) + 1 FROM discussions WHERE repo = ?", (repo.key,)
    ).fetchone()
    num = int(row[0])
    db.execute(
        "INSERT INTO discussions VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
        (repo.key, num, title, author, now(), status, pull_request),
    )
    comment(db, repo, num, text, author)
    return num


def comment(db: sqlite3.Connection, repo: Repo, num: int, text: str, author: str) -> dict[str, Any]:
    """Adds a comment; the event as the client reads it."""
    data = {"edited": False, "hidden": False, "latest": {"raw": text}}
    return _add_event(db, repo, num, "comment", author, data)


def set_status(
    db: sqlite3.Connection, repo: Repo, num: int, status: str, author: str
) -> dict[str, Any]:
    """Opens or closes."""
    if status not in ("open", "closed"):
        raise bad_request(f"Invalid status: {status}")
    if get(db, repo, num).status == "merged":
        raise bad_request("This pull request is merged")
    db.execute(
        "UPDATE discussions SET status = ? WHERE repo = ? AND num = ?", (status, repo.key, num)
    )
    return _add_event(db, repo, num, "status-change", author, {"status": status})


def rename(db: sqlite3.Connection, repo: Repo, num: int, title: str, author: str) -> dict[str, Any]:
    data = {"from": get(db, repo, num).title, "to": title}
    db.execute(
        "UPDATE discussions SET title = ? WHERE repo = ? AND num = ?", (title, repo.key, num)
    )
    return _add_event(db, repo, num, "title-change", author, data)


def edit_comment(
    db: sqlite3.Connection, repo: Repo, num: int, event: str, text: str | None, caller: Caller
) -> dict[str, Any]:
    """Replaces a comment's text, or hides it where `text` is None. Authors only."""
    row = db.execute(
        "SELECT * FROM events WHERE id = ? AND repo = ? AND num = ? AND type = 'comment'",
        (event, repo.key, num),
    ).fetchone()
    if row is None:
        raise HubError(404, "Comment not found")
    if row["author"] != caller.name:
        raise HubError(403, "Only the author edits a comment")
    data = {"edited": True, "hidden": text is None, "latest": {"raw": text or ""}}
    db.execute("UPDATE events SET data = ? WHERE id = ?", (json.dumps(data), event))
    return {**_event(row), "data": data}


def events(db: sqlite3.Connection, repo: Repo, num: int) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT * FROM events WHERE repo = ? AND num = ? ORDER BY rowid", (repo.key, num)
    )
    return [_event(row) for row in rows]


def is_author_of(db: sqlite3.Connection, repo: Repo, branch: str, caller: Caller) -> bool:
    """Whether `branch` is the ref of a pull request that `caller` opened."""
    match = re.fullmatch(r"refs/pr/(\d+)", branch)
    if match is None or caller.name is None:
        return False
    return get(db, repo, int(match[1])).author == caller.name


def note_commit(db: sqlite3.Connection, repo: Repo, branch: str, commit: Commit) -> None:
    """Shows a commit on `refs/pr/N` in the pull request's events."""
    if match := re.fullmatch(r"refs/pr/(\d+)", branch):
        data = {"subject": commit.title, "oid": commit.sha}
        _add_event(db, repo, int(match[1]), "commit", commit.author, data)


def changes(
    db: sqlite3.Connection, repo: Repo, num: int
) -> tuple[list[Put | Delete], tuple[str, ...]]:
    """What merging would do to main, and the paths on which both sides disagree."""
    head = versions.resolve(db, repo, ref_of(num))
    ours = _contents(db, versions.resolve(db, repo, MAIN))
    theirs = _contents(db, head)
    base = _contents(db, _fork_point(db, repo, head))
    touched = [path for path in sorted({*base, *theirs}) if base.get(path) != theirs.get(path)]
    clashes = [path for path in touched if ours.get(path) not in (base.get(path), theirs.get(path))]
    steps: list[Put | Delete] = [
        Put(path, *theirs[path]) if path in theirs else Delete(path)
        for path in touched
        if path in theirs or path in ours
    ]
    return steps, tuple(clashes)


def _fork_point(db: sqlite3.Connection, repo: Repo, head: Commit) -> Commit:
    main = versions.history(db, repo, versions.resolve(db, repo, MAIN))
    ours = {commit.sha for commit in main}
    return next(each for each in versions.history(db, repo, head) if each.sha in ours)


def _contents(db: sqlite3.Connection, commit: Commit) -> Mapping[str, tuple[str, bool]]:
    return {entry.path: (entry.sha256, entry.lfs) for entry in versions.tree(db, commit)}


def mark_merged(db: sqlite3.Connection, repo: Repo, num: int, sha: str, author: str) -> None:
    db.execute(
        "UPDATE discussions SET status = 'merged', merge_sha = ? WHERE repo = ? AND num = ?",
        (sha, repo.key, num),
    )
    _add_event(db, repo, num, "status-change", author, {"status": "merged"})


def _add_event(
    db: sqlite3.Connection,
    repo: Repo,
    num: int,
    type_: str,
    author: str,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    get(db, repo, num)
    key = secrets.token_hex(12)
    db.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key, repo.key, num, type_, author, now(), json.dumps(data)),
    )
    return _event(db.execute("SELECT * FROM events WHERE id = ?", (key,)).fetchone())


def _event(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "type": row["type"],
        "author": {"name": row["author"]},
        "createdAt": row["created_at"],
        "data": json.loads(row["data"]),
    }


def _discussion(row: sqlite3.Row) -> Discussion:
    return Discussion(
        row["num"],
        row["title"],
        row["author"],
        row["created_at"],
        row["status"],
        bool(row["pull_request"]),
        row["merge_sha"],
    )
