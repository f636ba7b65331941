"""Users, organisations, tokens: who is asking, and what may they do.

A user writes in the namespace of the own name and of organisations where the role is `admin` or
`write`. There are no passwords; whoever starts the server hands out tokens.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from dataclasses import dataclass

from bot.localhub.database import now

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")

RESERVED = ("api", "datasets", "spaces")  # words with which addresses start


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. Anonymous when `name` is None."""

    name: str | None = None
    can_write: bool = False
    token_label: str = ""


ANONYMOUS = Caller()


def add_user(db: sqlite3.Connection, name: str) -> None:
    _add(db, name, "user")


def add_org(db: sqlite3.Connection, name: str, roles: dict[str, str]) -> None:
    """Adds an organisation; `roles` maps its users to admin, write or read."""
    _add(db, name, "org")
    for user, role in roles.items():
        add_user(db, user)
        db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (name, user, role))


def _add(db: sqlite3.Connection, name: str, kind: str) -> None:
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        raise ValueError(f"not a name for an account: {name!r}")
    row = db.execute("SELECT kind FROM accounts WHERE name = ?", (name,)).fetchone()
    if row is None:
        db.execute("INSERT INTO accounts VALUES (?, ?, ?)", (name, kind, now()))
    elif row["kind"] != kind:
        raise ValueError(f"{name} is a {row['kind']} already")


def exists(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM accounts WHERE name = ?", (name,)).fetchone() is not None


def new_token(db: sqlite3.Connection, user: str, role: str = "write", label: str = "local") -> str:
    """A fresh token. Only its digest is kept, so this is the one chance to write it down."""
    token = "hf_" + secrets.token_hex(17)
    db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (_digest(token), user, role, label))
    return token


def revoke_tokens(db: sqlite3.Connection, user: str) -> None:
    db.execute("DELETE FROM tokens WHERE account = ?", (user,))


def caller_of(db: sqlite3.Connection, token: str) -> Caller | None:
    """The holder of `token`, or None if nobody holds it."""
    row = db.execute(
        "SELECT account, role, label FROM tokens WHERE digest = ?", (_digest(token),)
    ).fetchone()
    if row is None:
        return None
    return Caller(row["account"], row["role"] == "write", row["label"])


def role_in(db: sqlite3.Connection, caller: Caller, namespace: str) -> str | None:
    """`admin`, `write`, `read`, or None for a stranger."""
    if caller.name is None:
        return None
    if caller.name.lower() == namespace.lower():
        return "admin"
    row = db.execute(
        "SELECT role FROM members WHERE org = ? AND user = ?", (namespace, caller.name)
    ).fetchone()
    return None if row is None else str(row["role"])


def organisations(db: sqlite3.Connection, user: str) -> list[tuple[str, str]]:
    """Pairs (organisation, role of `user` in it)."""
    rows = db.execute("SELECT org, role FROM members WHERE user = ? ORDER BY org", (user,))
    return [(row["org"], row["role"]) for row in rows]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
