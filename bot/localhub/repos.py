"""Repositories as such: make, find, move, delete, settings. Their contents are in versions.py."""

from __future__ import annotations

import re
import secrets
import sqlite3
from dataclasses import dataclass

from bot.localhub import accounts
from bot.localhub.accounts import Caller
from bot.localhub.database import now
from bot.localhub.errors import (
    HubError,
    RepoMoved,
    bad_request,
    disabled,
    forbidden,
    gated,
    repo_not_found,
    unauthenticated,
)

TYPES = ("model", "dataset", "space")
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(?<![.-])(?<!\.git)(?<!\.ipynb)")


@dataclass(frozen=True)
class Repo:
    """One row of the table `repos`; `key` is the identity that survives a move."""

    key: str
    type: str
    owner: str
    name: str
    private: bool
    gated: str | None
    disabled: bool
    created_at: str
    modified_at: str
    downloads: int

    @property
    def id(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def path(self) -> str:
        """Where the repository's pages start, without a leading slash."""
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"


def from_row(row: sqlite3.Row) -> Repo:
    return Repo(
        row["id"],
        row["type"],
        row["owner"],
        row["name"],
        bool(row["private"]),
        row["gated"],
        bool(row["disabled"]),
        row["created_at"],
        row["modified_at"],
        row["downloads"],
    )


def find(db: sqlite3.Connection, type_: str, owner: str, name: str) -> Repo | None:
    row = db.execute(
        "SELECT * FROM repos WHERE type = ? AND owner = ? AND name = ?", (type_, owner, name)
    ).fetchone()
    return None if row is None else from_row(row)


def may_see(db: sqlite3.Connection, repo: Repo, caller: Caller) -> bool:
    return not repo.private or accounts.role_in(db, caller, repo.owner) is not None


def get(db: sqlite3.Connection, type_: str, owner: str, name: str, caller: Caller) -> Repo:
    """The repository as `caller` may see it.

    Raises RepoNotFound where there is none *or* it is private to others, RepoMoved after a rename,
    and "disabled" for a repository that was taken down.
    """
    repo = find(db, type_, owner, name) or _after_move(db, type_, f"{owner}/{name}")
    if repo is None or not may_see(db, repo, caller):
        raise repo_not_found()
    if (repo.owner.lower(), repo.name.lower()) != (owner.lower(), name.lower()):
        raise RepoMoved(f"{owner}/{name}", repo.id)
    if repo.disabled:
        raise disabled()
    return repo


def _after_move(db: sqlite3.Connection, type_: str, old: str) -> Repo | None:
    row = db.execute(
        "SELECT repos.* FROM moved JOIN repos ON repos.id = moved.repo "
        "WHERE moved.type = ? AND moved.old = ?",
        (type_, old),
    ).fetchone()
    return None if row is None else from_row(row)


def require_write(db: sqlite3.Connection, namespace: str, caller: Caller) -> None:
    if caller.name is None:
        raise unauthenticated()
    if not caller.can_write:
        raise forbidden("this token can only read")
    if accounts.role_in(db, caller, namespace) not in ("admin", "write"):
        raise forbidden(f"you may not write in the namespace {namespace}")


def require_files(db: sqlite3.Connection, repo: Repo, caller: Caller) -> None:
    """Raises GatedRepo unless `caller` may read file contents."""
    if repo.gated is None or accounts.role_in(db, caller, repo.owner) is not None:
        return
    granted = db.execute(
        "SELECT 1 FROM grants WHERE repo = ? AND user = ?", (repo.key, caller.name)
    ).fetchone()
    if granted is None:
        raise gated(anonymous=caller.name is None)


def create(
    db: sqlite3.Connection, type_: str, owner: str, name: str, *, private: bool, url: str
) -> Repo:
    """A repository without any version. Raises 409 with `url` if the name is taken."""
    if type_ not in TYPES:
        raise bad_request(f"Unknown repository type: {type_}")
    if not NAME.fullmatch(name):
        raise bad_request(f"Invalid repository name: {name}")
    if find(db, type_, owner, name) is not None:
        raise HubError(409, f"You already created this {type_} repo: {owner}/{name}", url=url)
    moment = now()
    db.execute("DELETE FROM moved WHERE type = ? AND old = ?", (type_, f"{owner}/{name}"))
    db.execute(
        "INSERT INTO repos (id, type, owner, name, private, created_at, modified_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (secrets.token_hex(12), type_, owner, name, private, moment, moment),
    )
    repo = find(db, type_, owner, name)
    assert repo is not None
    return repo


def delete(db: sqlite3.Connection, repo: Repo) -> None:
    db.execute("DELETE FROM repos WHERE id = ?", (repo.key,))


def move(db: sqlite3.Connection, repo: Repo, owner: str, name: str) -> Repo:
    """Renames; the old name answers with a redirect until somebody takes it."""
    if not NAME.fullmatch(name):
        raise bad_request(f"Invalid repository name: {name}")
    if find(db, repo.type, owner, name) is not None:
        raise HubError(409, f"{owner}/{name} exists already")
    db.execute("DELETE FROM moved WHERE type = ? AND old = ?", (repo.type, f"{owner}/{name}"))
    db.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", (repo.type, repo.id, repo.key))
    db.execute("UPDATE repos SET owner = ?, name = ? WHERE id = ?", (owner, name, repo.key))
    moved = find(db, repo.type, owner, name)
    assert moved is not None
    return moved


def set_visibility(db: sqlite3.Connection, repo: Repo, private: bool) -> None:
    db.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.key))


def set_gated(db: sqlite3.Connection, repo: Repo, mode: str | None) -> None:
    """`mode` is "auto", "manual" or None (open)."""
    db.execute("UPDATE repos SET gated = ? WHERE id = ?", (mode, repo.key))


def likes(db: sqlite3.Connection, repo: Repo) -> int:
    return int(db.execute("SELECT count(*) FROM likes WHERE repo = ?", (repo.key,)).fetchone()[0])
