"""The Hub as an object: storage, blobs, and the steps that touch more than one of them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict
from pathlib import Path

from bot.localhub import facts, headers, repos, uploads, versions
from bot.localhub.announcements import Announcer
from bot.localhub.blobs import Blob, Blobs
from bot.localhub.database import Database, now
from bot.localhub.errors import bad_request, commit_lock
from bot.localhub.facts import Facts
from bot.localhub.repos import Repo
from bot.localhub.transfers import Transfers
from bot.localhub.versions import MAIN, Commit, Delete, Entry, Put
from bot.localhub.xet import XetStore

MAX_SUMMARY_FILE = 10_000_000


class Hub:
    """Everything below `directory`. `url` is the address that answers carry, no final slash.

    Without `durable` data survive the end of the process, but not a power cut.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        page_size: int = 1000,
        xet: bool = True,
        durable: bool = True,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.url = url
        self.page_size = page_size
        self.database = Database(directory / "hub.sqlite3", durable=durable)
        self.blobs = Blobs(directory / "blobs", durable=durable)
        self.xet = XetStore(directory / "xet") if xet else None
        self.transfers = Transfers(directory / "transfers")
        self.announcer = Announcer(self.database, url)
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def at(self, url: str) -> Hub:
        """The same Hub, answering with `url`: the address by which the client knows it."""
        seen = copy(self)
        seen.url = url
        return seen

    def close(self) -> None:
        self.announcer.close()
        self.database.close()

    def repo_url(self, repo: Repo) -> str:
        return f"{self.url}/{repo.path}"

    def create(self, type_: str, owner: str, name: str, *, private: bool, author: str) -> Repo:
        """A repository with its first commit. Raises 409 if it exists."""
        prefix = "" if type_ == "model" else f"{type_}s/"
        url = f"{self.url}/{prefix}{owner}/{name}"
        with self.database.transaction() as db:
            repo = repos.create(db, type_, owner, name, private=private, url=url)
            first = self.blobs.add(uploads.GIT_ATTRIBUTES.encode())
            self.know(db, first)
            put = Put(".gitattributes", first.sha256, lfs=False)
            self.commit(db, repo, MAIN, [put], title="initial commit", author=author)
        return repo

    def know(self, db: sqlite3.Connection, blob: Blob, xet_hash: str | None = None) -> None:
        """Enters a blob whose bytes are on disk."""
        db.execute(
            "INSERT INTO blobs VALUES (?, ?, ?, ?) ON CONFLICT (sha256) "
            "DO UPDATE SET xet_hash = coalesce(excluded.xet_hash, xet_hash)",
            (blob.sha256, blob.size, blob.git_oid, xet_hash),
        )

    def known(self, db: sqlite3.Connection, sha256: str, size: int | None = None) -> bool:
        row = db.execute("SELECT size FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
        return row is not None and size in (None, row["size"])

    def commit(
        self,
        db: sqlite3.Connection,
        repo: Repo,
        branch: str,
        operations: Sequence[Put | Delete],
        *,
        title: str,
        message: str = "",
        author: str,
        expected_parent: str | None = None,
    ) -> Commit:
        """versions.commit of known blobs (else 400), after which lists and pages show it."""
        for step in operations:
            if isinstance(step, Put) and not self.known(db, step.sha256):
                raise bad_request(f"Unknown LFS object {step.sha256} for {step.path}")
        made = versions.commit(
            db,
            repo,
            branch,
            operations,
            title=title,
            message=message,
            author=author,
            expected_parent=expected_parent,
        )
        if branch == MAIN:
            self.refresh(db, repo)
        return made

    @contextmanager
    def committing(self, repo: Repo) -> Iterator[None]:
        """Held while a commit is received. Whoever comes meanwhile gets the Hub's 409."""
        with self._locks_lock:
            lock = self._locks.setdefault(repo.key, threading.Lock())
        if not lock.acquire(blocking=False):
            raise commit_lock()
        try:
            yield
        finally:
            lock.release()

    def refresh(self, db: sqlite3.Connection, repo: Repo) -> None:
        """Re-derives what lists and pages say from the head of main."""
        head = versions.resolve(db, repo, MAIN)
        facts_now = self.derive(versions.tree(db, head))
        db.execute(
            "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)",
            (repo.key, head.sha, json.dumps(asdict(facts_now))),
        )
        db.execute("DELETE FROM tags WHERE repo = ?", (repo.key,))
        db.executemany(
            "INSERT INTO tags VALUES (?, ?, ?)",
            [(repo.key, tag, position) for position, tag in enumerate(facts_now.tags)],
        )
        db.execute("UPDATE repos SET modified_at = ? WHERE id = ?", (now(), repo.key))

    def derive(self, tree: Sequence[Entry]) -> Facts:
        files = {entry.path: entry for entry in tree}

        def read(path: str) -> bytes:
            return b"".join(self.blobs.read(files[path].sha256, 0, MAX_SUMMARY_FILE))

        weights = [
            self.blobs.path(entry.sha256)
            for path, entry in files.items()
            if path.endswith(".safetensors") and path.startswith("model")
        ]
        return facts.derive(list(files), read, headers.summarise(weights))

    def adopt(self, sha256: str, size: int) -> None:
        """Makes a large file that came by Xet known, so that a commit may name it.

        Its contents are rebuilt here once, which proves the hash and serves plain GETs.
        """
        with self.database.transaction() as db:
            if self.known(db, sha256):
                return
        with self.blobs.receive() as incoming:
            if self.xet is None or not self.xet.rebuild(sha256, size, incoming.path):
                return
            blob = incoming.keep(sha256)
        xet_hash = self.xet.keep(self.blobs.path(sha256), sha256)
        with self.database.transaction() as db:
            self.know(db, blob, xet_hash)

    def count_download(self, repo: Repo, path: str) -> None:
        """Counts as the Hub does: one per fetch of config.json, whatever else is fetched."""
        if path == "config.json":
            with self.database.transaction() as db:
                db.execute("UPDATE repos SET downloads = downloads + 1 WHERE id = ?", (repo.key,))

    def facts(self, db: sqlite3.Connection, repo: Repo) -> tuple[str, Facts]:
        """The sha of main's head and what it says."""
        row = db.execute("SELECT sha, facts FROM summaries WHERE repo = ?", (repo.key,)).fetchone()
        return row["sha"], Facts(**json.loads(row["facts"]))
