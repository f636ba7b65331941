"""What each page shows, gathered from storage."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bot.localhub import facts, listing, repos, versions
from bot.localhub.accounts import Caller
from bot.localhub.facts import Facts
from bot.localhub.hub import Hub
from bot.localhub.pages import markdown
from bot.localhub.repos import Repo
from bot.localhub.versions import Commit, Entry

MAX_CHILDREN = 30


@dataclass(frozen=True)
class Card:
    """One line of a list of repositories."""

    repo: Repo
    facts: Facts
    likes: int


@dataclass(frozen=True)
class Relative:
    """A base model or a child; `here` says whether this Hub has a page for it."""

    id: str
    relation: str
    here: bool


@dataclass(frozen=True)
class ModelPage:
    repo: Repo
    commit: Commit
    facts: Facts
    body: str  # HTML
    files: Sequence[Entry]
    bases: Sequence[Relative]
    children: Sequence[Relative]
    commits: Sequence[Commit]
    tags: Sequence[tuple[str, str]]  # name, sha
    likes: int

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    @property
    def plain_tags(self) -> list[str]:
        """Those without a page section of their own."""
        return [tag for tag in self.facts.tags if not tag.startswith(("base_model:", "license:"))]

    @property
    def licence(self) -> str | None:
        return ", ".join(facts.texts(self.facts.card.get("license"))) or None


def front_page(
    hub: Hub,
    caller: Caller,
    *,
    search: str | None,
    tags: Sequence[str],
    author: str | None = None,
) -> list[Card]:
    query = listing.Query("model", tags, author, search, sort="lastModified")
    with hub.database.transaction() as db:
        found = listing.find(db, query, caller)
        return [Card(repo, hub.facts(db, repo)[1], repos.likes(db, repo)) for repo in found]


def model_page(hub: Hub, repo: Repo, commit: Commit, caller: Caller) -> ModelPage:
    with hub.database.transaction() as db:
        files = versions.tree(db, commit)
        known = hub.derive(files)
        prefix = "refs/tags/"
        return ModelPage(
            repo,
            commit,
            known,
            _body(hub, repo, commit, files),
            files,
            [
                Relative(base, known.relation or "", _is_here(db, base, caller))
                for base in known.bases
            ],
            _children(db, repo, caller),
            versions.history(db, repo, commit),
            [(name.removeprefix(prefix), sha) for name, sha in versions.refs(db, repo, prefix)],
            repos.likes(db, repo),
        )


def _body(hub: Hub, repo: Repo, commit: Commit, files: Sequence[Entry]) -> str:
    readme = next((entry for entry in files if entry.path == "README.md"), None)
    if readme is None:
        return ""
    text = text_of(hub, readme)
    with suppress(ValueError):  # a broken card is shown whole: the reader sees what is wrong
        text = facts.parse_card(text)[1]
    return markdown.render(text, repo.path, commit.sha)


def text_of(hub: Hub, entry: Entry, limit: int = facts.MAX_CARD) -> str:
    return b"".join(hub.blobs.read(entry.sha256, 0, limit)).decode("utf-8", "replace")


def _is_here(db: sqlite3.Connection, repo_id: str, caller: Caller) -> bool:
    owner, _, name = repo_id.partition("/")
    repo = repos.find(db, "model", owner, name)
    return repo is not None and repos.may_see(db, repo, caller)


def _children(db: sqlite3.Connection, repo: Repo, caller: Caller) -> list[Relative]:
    """Models that name this one as a base, newest first."""
    query = listing.Query("model", [f"base_model:{repo.id}"], sort="createdAt")
    found = listing.find(db, query, caller)[:MAX_CHILDREN]
    return [Relative(child.id, _relation(db, child), here=True) for child in found]


def _relation(db: sqlite3.Connection, repo: Repo) -> str:
    row = db.execute("SELECT facts FROM summaries WHERE repo = ?", (repo.key,)).fetchone()
    return str(json.loads(row["facts"])["relation"] or "")
