"""Webhooks: who wants to hear what. Telling them is in announcements.py."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.localhub import accounts
from bot.localhub.errors import HubError, bad_request
from bot.localhub.repos import Repo

DOMAINS = ("repo", "discussion")


@dataclass(frozen=True)
class Webhook:
    id: str
    account: str
    url: str
    watched: Sequence[Mapping[str, str]]
    domains: Sequence[str]
    secret: str | None
    disabled: bool

    def shown(self) -> dict[str, Any]:
        """As the client reads it."""
        return {
            "id": self.id,
            "url": self.url,
            "watched": list(self.watched),
            "domains": list(self.domains),
            "secret": self.secret,
            "disabled": self.disabled,
        }


@dataclass(frozen=True)
class Event:
    """`scope` is repo, repo.content, repo.config, discussion or discussion.comment.

    `more` holds the payload's further parts: updatedRefs, discussion, comment, movedTo.
    """

    repo: Repo
    scope: str
    action: str
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        return self.scope.split(".", 1)[0]


def all_of(db: sqlite3.Connection, account: str) -> list[Webhook]:
    rows = db.execute("SELECT * FROM webhooks WHERE account = ? ORDER BY rowid", (account,))
    return [_from_row(row) for row in rows]


def get(db: sqlite3.Connection, account: str, key: str) -> Webhook:
    found = [hook for hook in all_of(db, account) if hook.id == key]
    if not found:
        raise HubError(404, "Webhook not found")
    return found[0]


def save(db: sqlite3.Connection, hook: Webhook) -> None:
    """Adds or replaces. Raises 400 for an address or a watched item that cannot work."""
    if not hook.url.startswith(("http://", "https://")):
        raise bad_request("A webhook needs an http(s) address")
    if not hook.watched or any({"type", "name"} - set(item) for item in hook.watched):
        raise bad_request("A webhook watches at least one {type, name}")
    if unknown := set(hook.domains) - set(DOMAINS):
        raise bad_request(f"Unknown domains: {', '.join(sorted(unknown))}")
    db.execute(
        "INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            hook.id,
            hook.account,
            hook.url,
            json.dumps(list(hook.watched)),
            json.dumps(list(hook.domains)),
            hook.secret,
            hook.disabled,
        ),
    )


def delete(db: sqlite3.Connection, hook: Webhook) -> None:
    db.execute("DELETE FROM webhooks WHERE id = ?", (hook.id,))


def new_id() -> str:
    return secrets.token_hex(12)


def listeners(db: sqlite3.Connection, event: Event) -> list[Webhook]:
    """Enabled webhooks that watch the repository and whose owners may see it."""
    hooks = [_from_row(row) for row in db.execute("SELECT * FROM webhooks WHERE NOT disabled")]
    return [
        hook
        for hook in hooks
        if event.domain in hook.domains
        and any(_watches(item, event.repo) for item in hook.watched)
        and _may_hear(db, hook, event.repo)
    ]


def _watches(item: Mapping[str, str], repo: Repo) -> bool:
    if item["type"] in ("user", "org"):
        return item["name"].lower() == repo.owner.lower()
    return item["type"] == repo.type and item["name"].lower() == repo.id.lower()


def _may_hear(db: sqlite3.Connection, hook: Webhook, repo: Repo) -> bool:
    reader = accounts.Caller(hook.account)
    return not repo.private or accounts.role_in(db, reader, repo.owner) is not None


def _from_row(row: sqlite3.Row) -> Webhook:
    return Webhook(
        row["id"],
        row["account"],
        row["url"],
        json.loads(row["watched"]),
        json.loads(row["domains"]),
        row["secret"],
        bool(row["disabled"]),
    )
