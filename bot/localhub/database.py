"""The server's own SQLite file: schema and transactions.

One connection, one lock: requests take turns. A local Hub serves a handful of clients and every
statement here is short, so the simplest rule that cannot deadlock or lose an update wins.
WAL with full sync: a transaction that was answered survives a crash. (`durable=False` gives up the
sync, and with it what a power cut would spare, for speed in tests.)
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE accounts (
    name TEXT PRIMARY KEY COLLATE NOCASE,
    kind TEXT NOT NULL CHECK (kind IN ('user', 'org')),
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE members (
    org TEXT NOT NULL REFERENCES accounts COLLATE NOCASE,
    user TEXT NOT NULL REFERENCES accounts COLLATE NOCASE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'write', 'read')),
    PRIMARY KEY (org, user)
) STRICT;
CREATE TABLE tokens (
    digest TEXT PRIMARY KEY,  -- SHA-256 of the token; the token itself is never stored
    account TEXT NOT NULL REFERENCES accounts COLLATE NOCASE,
    role TEXT NOT NULL CHECK (role IN ('read', 'write')),
    label TEXT NOT NULL
) STRICT;
CREATE TABLE repos (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    owner TEXT NOT NULL COLLATE NOCASE REFERENCES accounts,
    name TEXT NOT NULL COLLATE NOCASE,
    private INTEGER NOT NULL,
    gated TEXT CHECK (gated IN ('auto', 'manual')),
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    modified_at TEXT NOT NULL,
    downloads INTEGER NOT NULL DEFAULT 0,
    UNIQUE (type, owner, name)
) STRICT;
CREATE TABLE moved (
    type TEXT NOT NULL,
    old TEXT NOT NULL COLLATE NOCASE,
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    PRIMARY KEY (type, old)
) STRICT;
CREATE TABLE grants (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    user TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (repo, user)
) STRICT;
CREATE TABLE likes (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    user TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (repo, user)
) STRICT;
CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    git_oid TEXT NOT NULL,
    xet_hash TEXT
) STRICT;
CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    sha TEXT NOT NULL UNIQUE,
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    parent TEXT,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    author TEXT NOT NULL,
    date TEXT NOT NULL
) STRICT;
CREATE INDEX commits_of_repo ON commits (repo);
CREATE TABLE entries (
    commit_number INTEGER NOT NULL REFERENCES commits ON DELETE CASCADE,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blobs,
    lfs INTEGER NOT NULL,
    changed_in TEXT NOT NULL,  -- sha of the last commit that touched this path
    PRIMARY KEY (commit_number, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE refs (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    name TEXT NOT NULL,  -- refs/heads/main, refs/tags/v1, refs/pr/1
    sha TEXT NOT NULL,
    PRIMARY KEY (repo, name)
) STRICT;
CREATE TABLE summaries (  -- what the head of main says about itself
    repo TEXT PRIMARY KEY REFERENCES repos ON DELETE CASCADE,
    sha TEXT NOT NULL,
    facts TEXT NOT NULL  -- JSON of facts.Facts
) STRICT;
CREATE TABLE tags (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (repo, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX repos_of_tag ON tags (tag);
CREATE TABLE discussions (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    num INTEGER NOT NULL,
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('open', 'closed', 'merged', 'draft')),
    pull_request INTEGER NOT NULL,
    merge_sha TEXT,
    PRIMARY KEY (repo, num)
) STRICT;
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    repo TEXT NOT NULL,
    num INTEGER NOT NULL,
    type TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at TEXT NOT NULL,
    data TEXT NOT NULL,  -- JSON, as the client reads it
    FOREIGN KEY (repo, num) REFERENCES discussions ON DELETE CASCADE
) STRICT;
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts COLLATE NOCASE,
    url TEXT NOT NULL,
    watched TEXT NOT NULL,  -- JSON list of {"type", "name"}
    domains TEXT NOT NULL,  -- JSON list of "repo", "discussion"
    secret TEXT,
    disabled INTEGER NOT NULL DEFAULT 0
) STRICT;
"""


class Database:
    """The SQLite file at `path`, made on first use. Refuses a file of a newer schema."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._migrate()

    def _migrate(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            self.close()
            raise RuntimeError(f"The Hub's database has schema {version}, newer than this program")
        if version == 0:
            self._connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one at a time. Nests: the outermost block decides."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._connection
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def now() -> str:
    """The time as the Hub writes it: UTC, milliseconds, `Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
