"""Telling webhooks what happened: payloads of the Hub's version 3, delivered in the background.

A receiver that fails is tried a few more times and then given up for that event. Events that were
not delivered when the server stops are lost.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

from bot.localhub import discussions, webhooks
from bot.localhub.database import Database
from bot.localhub.discussions import Discussion
from bot.localhub.repos import Repo
from bot.localhub.versions import MAIN
from bot.localhub.webhooks import Event, Webhook

TIMEOUT = 5.0  # seconds per attempt
PAUSES = (0.2, 1.0, 3.0)  # seconds before each further attempt
Moves = Mapping[str, tuple[str | None, str | None]]


class Announcer:
    """Turns what handlers did into deliveries; `url` is the Hub's own address."""

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url
        self._sender = Sender()

    def close(self) -> None:
        self._sender.close()

    def tell(
        self,
        repo: Repo,
        scope: str,
        action: str,
        *,
        updated: Moves | None = None,
        discussion: int | None = None,
        comment: Mapping[str, Any] | None = None,
        moved_to: Repo | None = None,
    ) -> None:
        """`updated` maps full ref names to (old sha, new sha); `comment` is the event's JSON."""
        more: dict[str, Any] = {}
        if updated:
            more["updatedRefs"] = [
                {"ref": ref, "oldSha": old, "newSha": new} for ref, (old, new) in updated.items()
            ]
        if moved_to is not None:
            more["movedTo"] = {"name": moved_to.id, "owner": {"id": moved_to.owner}}
        with self._database.transaction() as db:
            if discussion is not None:
                page = f"{self._url}/{repo.path}/discussions/{discussion}"
                found = discussions.get(db, repo, discussion)
                more["discussion"] = _discussion(page, repo, found)
                if comment is not None:
                    more["comment"] = _comment(page, comment)
            event = Event(repo, scope, action, more)
            head = _head(db, repo)
            for hook in webhooks.listeners(db, event):
                self._sender.send(hook, self._payload(hook, event, *head))

    def _payload(self, hook: Webhook, event: Event, sha: str | None, tags: list[str]) -> bytes:
        repo, url = event.repo, self._url
        body = {
            "event": {"action": event.action, "scope": event.scope},
            "repo": {
                "type": repo.type,
                "name": repo.id,
                "id": repo.key,
                "private": repo.private,
                "url": {"web": f"{url}/{repo.path}", "api": f"{url}/api/{repo.type}s/{repo.id}"},
                "headSha": sha,
                "tags": tags,
                "owner": {"id": repo.owner},
            },
            "webhook": {"id": hook.id, "version": 3},
            **event.more,
        }
        return json.dumps(body).encode()


def _head(db: sqlite3.Connection, repo: Repo) -> tuple[str | None, list[str]]:
    """The newest sha and the tags; nothing of a repository that is gone."""
    row = db.execute(
        "SELECT sha FROM refs WHERE repo = ? AND name = ?", (repo.key, MAIN)
    ).fetchone()
    tags = db.execute("SELECT tag FROM tags WHERE repo = ? ORDER BY position", (repo.key,))
    return (row["sha"] if row else None), [tag["tag"] for tag in tags]


def _discussion(page: str, repo: Repo, found: Discussion) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": f"{repo.key}-{found.num}",
        "num": found.num,
        "title": found.title,
        "status": found.status,
        "author": {"id": found.author},
        "isPullRequest": found.pull_request,
        "url": {"web": page},
    }
    if found.pull_request:
        answer["changes"] = {"base": MAIN, "mergeCommitId": found.merge_sha}
    return answer


def _comment(page: str, event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": event["id"],
        "author": {"id": event["author"]["name"]},
        "hidden": event["data"]["hidden"],
        "content": event["data"]["latest"]["raw"],
        "url": {"web": f"{page}#{event['id']}"},
    }


class Sender:
    """Delivers in the background, in order, until closed."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Webhook, bytes] | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def send(self, hook: Webhook, body: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
            self._thread.start()
        self._queue.put((hook, body))

    def close(self) -> None:
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._closing.is_set():
            self._deliver(*item)

    def _deliver(self, hook: Webhook, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        if hook.secret is not None:
            headers["X-Webhook-Secret"] = hook.secret
        request = urllib.request.Request(hook.url, body, headers, method="POST")
        for pause in (0.0, *PAUSES):
            if self._closing.wait(pause):
                return
            try:
                with self._opener.open(request, timeout=TIMEOUT):
                    return
            except (OSError, ValueError):
                continue  # the receiver's trouble; the next attempt may find it well
