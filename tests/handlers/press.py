"""The real publisher against a Hub on loopback and a database: drafts of a few small files.

A publication is a router's in name, since a soup's row would need a search behind it; the publisher
tells them apart by nothing but their target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from bot.config import Settings
from bot.daemon import register
from bot.errors import Busy, Gone, LeaseLost, Moved, Transient, Unknown
from bot.hashes import sha256_of
from bot.hub import Hub
from bot.localhub import LocalHub
from bot.provenance import FILE_NAME, FileDigest, Kind, Provenance
from bot.publish import publish
from bot.sections import BaseSection
from bot.steps import Step
from bot.verify import State, verify
from bot.world import World
from db import outcomes as o
from db.reader import Reader
from db.rows import PublicationRow
from db.store import Store
from tests.db.story import NOW, TTL
from tests.hub.conftest import safetensors

from .family import SHA, write_suite

PASSING = (Transient, Unknown, Moved, Busy, Gone, LeaseLost)  # what the loop tries again
CARD = "---\nlicense: mit\n---\n# Version {}\n"


class Press:
    """One target on `hub`, of the bot `us`; `person` is its operator, who has the same rights."""

    def __init__(self, hub: LocalHub, store: Store, folder: Path, target: str = "us/soup") -> None:
        self.server, self.store, self.folder, self.target = hub, store, folder, target
        self.lease = store.take_lease("test", NOW, TTL, lambda holder: True)
        if not (folder / "suite").exists():
            write_suite(folder / "suite", 12)
        section = BaseSection(repo="org/base", sha=SHA, target=target, benchmark=f"{folder}/suite")
        self.person = HfApi(endpoint=hub.url, token=hub.token("us"))
        self.before_write: Callable[[], None] = lambda: None
        self.world = World(
            settings=Settings(data=folder / "data", bases=(section,)),
            reader=Reader(store.engine),
            hub=self.door(),
            executor=None,
            bases={"org/base": register(store, section)},
            fence=lambda: self.before_write(),
            now=lambda: NOW,
        )

    def door(self, url: str | None = None, role: str = "write", timeout: float = 30.0) -> Hub:
        """A client that asks once, so that every fault reaches the publisher."""
        token = self.server.token("us", role)
        cache = self.folder / "cache"
        return Hub(url or self.server.url, token, cache, attempts=1, pause=0.0)

    def through(self, hub: Hub) -> None:
        self.world = replace(self.world, hub=hub)

    def keep_private(self, private: bool = True) -> None:
        base = self.world.bases["org/base"]
        section = base.section.model_copy(update={"private": private})
        self.world = replace(self.world, bases={"org/base": replace(base, section=section)})

    # -- drafts and runs ---------------------------------------------------------------------------

    def draft(
        self, version: int = 1, more: Mapping[str, str] | None = None, public: bool = True
    ) -> int:
        """Rendered and approved. Each version has weights, a card and a digest of its own."""
        name = f"{self.target} v{version}"
        digest = hashlib.sha256(name.encode()).hexdigest()
        folder = self.folder / "drafts" / digest
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(CARD.format(version))
        (folder / "model.safetensors").write_bytes(safetensors({"a": (9, 9)}, extra=name))
        for path, text in {"router.json": "{}", **(more or {})}.items():
            (folder / path).write_text(text)
        files = {
            file.name: FileDigest(sha256_of(file), file.stat().st_size)
            for file in folder.iterdir()
            if file.name != FILE_NAME
        }
        args = (Kind.ROUTER, self.target, f"v{version}", digest, {}, files, {"stockpot": "1"})
        (folder / FILE_NAME).write_text(Provenance(*args).to_json())
        self._drafted(version, digest, folder, public)
        return self.world.reader.publications(self.target)[-1].id

    def _drafted(self, version: int, digest: str, folder: Path, public: bool) -> None:
        pin = f"org/base@{SHA}"
        self.keep(o.Calibrated(1, f"pair of {digest}", pin, pin, digest, "{}"))
        with self.store.engine.connect() as connection:
            query = "SELECT max(id) FROM routers"
            router = connection.exec_driver_sql(query).scalar()
        files = {f.name: {"sha256": sha256_of(f), "size": f.stat().st_size}
                 for f in folder.iterdir()}  # fmt: skip
        args = (1, "router", self.target, digest, version, str(folder), files, "approved")
        self.keep(o.Drafted(*args, router_id=router, public=public))

    def keep(self, outcome: o.Outcome) -> None:
        self.store.keep(self.lease, outcome, NOW)

    def steps(self, publication: int) -> Iterator[Any]:
        """Every outcome is kept before the publisher goes on."""
        step = Step("publish", f"publish:{publication}", "org/base", 1, publication, "publish", NOW)
        for outcome in publish(step, self.world):
            self.keep(outcome)
            yield outcome

    def run(self, publication: int, stop_after: int | None = None) -> list[Any]:
        """To its end, or to a kill after so many outcomes."""
        return list(islice(self.steps(publication), stop_after))

    def settle(self, publication: int) -> None:
        """Again and again, as the loop does, until it comes to its end."""
        for _ in range(5):
            try:
                self.run(publication)
            except PASSING:
                continue
            return
        raise AssertionError("it never comes to its end")

    def published(self, version: int = 1) -> int:
        """That version, sent undisturbed."""
        publication = self.draft(version)
        self.run(publication)
        return publication

    def retry(self, publication: int) -> PublicationRow:
        """What `bot retry publish:N` does, and the step after it."""
        self.store.retry(f"publish:{publication}")
        self.run(publication)
        return self.row(publication)

    # -- what came of it ---------------------------------------------------------------------------

    def row(self, publication: int) -> PublicationRow:
        return self.world.reader.publication(publication)

    @property
    def head(self) -> str:
        return str(self.person.model_info(self.target).sha)

    @property
    def private(self) -> bool:
        return bool(self.person.model_info(self.target).private)

    @property
    def versions(self) -> list[str]:
        """Titles of the bot's commits, newest first."""
        titles = [commit.title for commit in self.person.list_repo_commits(self.target)]
        return [title for title in titles if title.startswith("Version")]

    @property
    def tags(self) -> dict[str, str]:
        return {t.name: t.target_commit for t in self.person.list_repo_refs(self.target).tags}

    def text(self, path: str) -> str:
        hub = self.door()
        return hub.read_bytes(self.target, self.head, path, 10**6).decode()

    def verified(self, revision: str = "") -> State:
        """What `bot verify` says of it."""
        target = f"{self.target}@{revision}" if revision else self.target
        return verify(self.door(), None, self.folder / "data", target).state

    def assert_published_once(self, *publications: int) -> None:
        """Each has one commit, one tag and a good name; the last one stands at the head."""
        rows = [self.row(publication) for publication in publications]
        assert [row.state for row in rows] == ["verified"] * len(rows)
        assert len(self.versions) == len(rows)
        assert self.tags == {f"v{row.version}": row.commit_sha for row in rows}
        assert self.head == rows[-1].commit_sha
        assert self.verified() is State.SAME

    # -- what a person does there ------------------------------------------------------------------

    def edit(self, files: Mapping[str, str | None]) -> str:
        """One commit by hand: path -> its new content, None to remove it. Returns its sha."""
        operations = [
            CommitOperationDelete(path, is_folder=False)
            if text is None
            else CommitOperationAdd(path, text.encode())
            for path, text in files.items()
        ]
        return str(self.person.create_commit(self.target, operations, commit_message="by hand").oid)
