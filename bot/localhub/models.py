"""Repositories as the JSON objects that the client reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bot.localhub import repos, versions
from bot.localhub.blobs import lfs_pointer
from bot.localhub.errors import bad_request
from bot.localhub.facts import RELATIONS, Facts
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo
from bot.localhub.versions import Commit, Entry

IN_LISTS = (
    *("likes", "downloads", "private", "tags", "pipeline_tag", "library_name", "createdAt"),
    *("trendingScore",),
)
IN_FULL_LISTS = (*IN_LISTS, "author", "sha", "lastModified", "gated", "disabled", "siblings")
IN_INFO = (
    *IN_FULL_LISTS,
    *("cardData", "config", "safetensors", "usedStorage", "model-index", "spaces"),
)
INFO_ONLY = ("baseModels", "childrenModelCount", "usedStorage")


@dataclass(frozen=True)
class _Subject:
    """One repository at one version, with what a property may need."""

    hub: Hub
    db: sqlite3.Connection
    repo: Repo
    sha: str
    facts: Facts
    blobs: bool

    def siblings(self) -> list[dict[str, Any]]:
        commit = versions.resolve(self.db, self.repo, self.sha)
        return [sibling(entry, self.blobs) for entry in versions.tree(self.db, commit)]

    def used_storage(self) -> int:
        row = self.db.execute(
            "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT sha256, size FROM entries "
            "JOIN blobs USING (sha256) JOIN commits ON number = commit_number "
            "WHERE repo = ? AND lfs)",
            (self.repo.key,),
        ).fetchone()
        return int(row[0])

    def children(self) -> dict[str, int]:
        """Models that name this one as their base, counted by relation."""
        tags = {f"base_model:{relation}:{self.repo.id}": relation for relation in RELATIONS}
        rows = self.db.execute(
            f"SELECT tag, count(*) AS n FROM tags WHERE tag IN ({', '.join('?' * len(tags))}) "
            "GROUP BY tag",
            list(tags),
        )
        return {tags[row["tag"]]: row["n"] for row in rows}

    def bases(self) -> dict[str, Any] | None:
        if not self.facts.bases:
            return None
        models = [{"_id": "", "id": base} for base in self.facts.bases]
        return {"relation": self.facts.relation, "models": models}


_PROPERTIES: dict[str, Callable[[_Subject], Any]] = {
    "author": lambda it: it.repo.owner,
    "baseModels": _Subject.bases,
    "cardData": lambda it: it.facts.card,
    "childrenModelCount": _Subject.children,
    "config": lambda it: it.facts.config,
    "createdAt": lambda it: it.repo.created_at,
    "disabled": lambda it: it.repo.disabled,
    "downloads": lambda it: it.repo.downloads,
    "downloadsAllTime": lambda it: it.repo.downloads,
    "gated": lambda it: it.repo.gated or False,
    "lastModified": lambda it: it.repo.modified_at,
    "library_name": lambda it: it.facts.library,
    "likes": lambda it: repos.likes(it.db, it.repo),
    "model-index": lambda it: it.facts.card.get("model-index"),
    "pipeline_tag": lambda it: it.facts.pipeline,
    "private": lambda it: it.repo.private,
    "safetensors": lambda it: it.facts.safetensors,
    "sha": lambda it: it.sha,
    "siblings": _Subject.siblings,
    "spaces": lambda it: [],
    "tags": lambda it: list(it.facts.tags),
    "trendingScore": lambda it: 0,
    "usedStorage": _Subject.used_storage,
}
_OPTIONAL = ("config", "library_name", "model-index", "pipeline_tag", "safetensors")
_NEVER_KNOWN = (  # the client may ask for these; this Hub has nothing to say
    *("evalResults", "gguf", "inference", "inferenceProviderMapping", "mask_token"),
    *("resourceGroup", "securityRepoStatus", "transformersInfo", "widgetData", "xetEnabled"),
)


def model(
    hub: Hub,
    db: sqlite3.Connection,
    repo: Repo,
    wanted: Sequence[str],
    *,
    commit: Commit | None = None,
    blobs: bool = False,
) -> dict[str, Any]:
    """The object with `wanted` properties; `id` and its like are always there.

    Raises 400 for a property that the Hub does not have.
    """
    wanted = [name for name in wanted if name not in _NEVER_KNOWN]
    unknown = [name for name in wanted if name not in _PROPERTIES]
    if unknown:
        raise bad_request(f"Invalid value for expand: {', '.join(unknown)}")
    head, facts = hub.facts(db, repo)
    if commit is not None and commit.sha != head:
        head, facts = commit.sha, hub.derive(versions.tree(db, commit))
    subject = _Subject(hub, db, repo, head, facts, blobs)
    answer: dict[str, Any] = {"_id": repo.key, "id": repo.id}
    if repo.type == "model":
        answer["modelId"] = repo.id
    for name in wanted:
        value = _PROPERTIES[name](subject)
        if value is not None or name not in _OPTIONAL:
            answer[name] = value
    return answer


def sibling(entry: Entry, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": entry.path}
    answer = {"rfilename": entry.path, "size": entry.size, "blobId": entry.oid}
    return answer | ({"lfs": {"sha256": entry.sha256, **_lfs_sizes(entry)}} if entry.lfs else {})


def tree_entry(entry: Entry) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "type": "file",
        "oid": entry.oid,
        "size": entry.size,
        "path": entry.path,
    }
    if entry.lfs:
        answer["lfs"] = {"oid": entry.sha256, **_lfs_sizes(entry)}
    if entry.xet_hash:
        answer["xetHash"] = entry.xet_hash
    return answer


def _lfs_sizes(entry: Entry) -> dict[str, int]:
    return {"size": entry.size, "pointerSize": len(lfs_pointer(entry.sha256, entry.size))}
