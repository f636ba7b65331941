"""Preupload and the NDJSON commit."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from bot.localhub import discussions, repos, uploads, versions
from bot.localhub.accounts import Caller
from bot.localhub.blobs import Blob
from bot.localhub.errors import bad_request, forbidden
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo
from bot.localhub.versions import Delete, Put
from bot.localhub.wire.deps import TheCommit, TheHub, User, VisibleRepo, unquoted

router = APIRouter()
CreatePr = Annotated[bool, Query(alias="create_pr")]


class Candidate(BaseModel):
    path: str
    sample: str
    size: int


class Candidates(BaseModel):
    files: list[Candidate]
    gitIgnore: str | None = None


@router.post("/api/{kind}/{owner}/{name}/preupload/{revision}")
def preupload(
    asked: Candidates, repo: VisibleRepo, commit: TheCommit, hub: TheHub, user: User
) -> dict[str, list[dict[str, Any]]]:
    with hub.database.transaction() as db:
        present = {entry.path: entry for entry in versions.tree(db, commit)}
    git_ignore = asked.gitIgnore
    if git_ignore is None and ".gitignore" in present:
        git_ignore = b"".join(hub.blobs.read(present[".gitignore"].sha256)).decode(errors="replace")

    def answer(file: Candidate) -> dict[str, Any]:
        large = uploads.is_large(file.path, file.size, base64.b64decode(file.sample))
        old = present.get(file.path)
        return {
            "path": file.path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": uploads.ignored(file.path, git_ignore or ""),
            "oid": old.etag if old else None,
        }

    return {"files": [answer(file) for file in asked.files]}


@router.post("/api/{kind}/{owner}/{name}/commit/{revision}")
async def commit(
    request: Request,
    revision: str,
    repo: VisibleRepo,
    hub: TheHub,
    user: User,
    create_pr: CreatePr = False,
) -> dict[str, Any]:
    """Anyone who may read may open a pull request; other branches need the right to write."""
    assert user.name is not None
    await run_in_threadpool(_require_right, hub, repo, unquoted(revision), user, create_pr)
    with hub.committing(repo):
        received = await _received(request, hub)
        return await run_in_threadpool(
            _commit, hub, repo, unquoted(revision), received, user.name, create_pr
        )


class Header(BaseModel):
    summary: str
    description: str = ""
    parentCommit: str | None = None


@dataclass(frozen=True)
class Received:
    """A whole payload; the contents of small files are on disk already."""

    header: Header
    operations: list[Put | Delete]
    blobs: list[Blob]


async def _received(request: Request, hub: Hub) -> Received:
    header: Header | None = None
    operations: list[Put | Delete] = []
    blobs: list[Blob] = []
    async for line in _lines(request):
        try:
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                header = Header.model_validate(value)
            else:
                step, blob = await run_in_threadpool(_operation, hub, key, value)
                operations.append(step)
                blobs += [blob] if blob else []
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise bad_request(f"Invalid commit payload: {error}") from error
    if header is None:
        raise bad_request("Invalid commit payload: no header")
    return Received(header, operations, blobs)


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The NDJSON lines as they arrive, so that a commit is never in memory as a whole."""
    rest = bytearray()
    async for piece in request.stream():
        rest += piece
        if b"\n" in piece:
            *complete, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in complete:
                if line.strip():
                    yield line
    if rest.strip():
        yield bytes(rest)


def _operation(hub: Hub, key: str, value: dict[str, Any]) -> tuple[Put | Delete, Blob | None]:
    path = value["path"]
    path.encode()  # lone surrogates are no text
    if key == "file":
        text, in_base64 = value["content"], value.get("encoding") == "base64"
        content = base64.b64decode(text, validate=True) if in_base64 else text.encode()
        blob = hub.blobs.add(content)
        return Put(path, blob.sha256, lfs=False), blob
    if key == "lfsFile":
        hub.adopt(str(value["oid"]), int(value.get("size", 0)))
        return Put(path, str(value["oid"]), lfs=True), None
    if key in ("deletedFile", "deletedFolder"):
        return Delete(path, folder=key == "deletedFolder"), None
    raise ValueError(f"unknown operation {key}")


def _require_right(hub: Hub, repo: Repo, branch: str, user: Caller, create_pr: bool) -> None:
    """Raises 403, before a byte of the body is read."""
    with hub.database.transaction() as db:
        if create_pr or discussions.is_author_of(db, repo, branch, user):
            if not user.can_write:
                raise forbidden("this token can only read")
        else:
            repos.require_write(db, repo.owner, user)


def _commit(
    hub: Hub,
    repo: Repo,
    revision: str,
    received: Received,
    author: str,
    create_pr: bool,
) -> dict[str, Any]:
    pull, header = None, received.header
    with hub.database.transaction() as db:
        for blob in received.blobs:
            hub.know(db, blob)
        branch = versions.full_ref(db, repo, revision)
        if create_pr:
            base = versions.resolve(db, repo, revision)
            pull = discussions.open_pull_request(
                db, repo, header.summary, header.description, author, base, draft=False
            )
            branch = discussions.ref_of(pull)
        if not branch.startswith(("refs/heads/", "refs/pr/")):
            raise bad_request(f"Only branches take commits: {branch}")
        old = versions.ref(db, repo, branch)
        made = hub.commit(
            db,
            repo,
            branch,
            received.operations,
            title=header.summary,
            message=header.description,
            author=author,
            expected_parent=header.parentCommit,
        )
        discussions.note_commit(db, repo, branch, made)
    hub.announcer.tell(repo, "repo.content", "update", updated={branch: (old, made.sha)})
    if pull is not None:
        hub.announcer.tell(repo, "discussion", "create", discussion=pull)
    return _answer(hub.repo_url(repo), made.sha, pull)


def _answer(page: str, sha: str, pull: int | None) -> dict[str, Any]:
    answer = {
        "success": True,
        "commitOid": sha,
        "commitUrl": f"{page}/commit/{sha}",
        "hookOutput": "",
    }
    return answer if pull is None else {**answer, "pullRequestUrl": f"{page}/discussions/{pull}"}
