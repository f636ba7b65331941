"""Branches, tags, history."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body, Request, Response

from bot.localhub import versions
from bot.localhub.errors import HubError
from bot.localhub.versions import MAIN
from bot.localhub.wire.deps import OwnRepo, TheCaller, TheCommit, TheHub, VisibleRepo, unquoted
from bot.localhub.wire.pagination import page

router = APIRouter()
_BASE = "/api/{kind}/{owner}/{name}"


@router.get(_BASE + "/refs")
def refs(repo: VisibleRepo, hub: TheHub) -> dict[str, list[dict[str, str]]]:
    def below(prefix: str) -> list[dict[str, str]]:
        found = versions.refs(db, repo, prefix)
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
            for ref, sha in found
        ]

    with hub.database.transaction() as db:
        return {
            "branches": below("refs/heads/"),
            "tags": below("refs/tags/"),
            "converts": below("refs/convert/"),
            "pullRequests": below("refs/pr/"),
        }


@router.get(_BASE + "/commits/{revision}")
def commits(
    request: Request, response: Response, repo: VisibleRepo, commit: TheCommit, hub: TheHub
) -> list[dict[str, Any]]:
    with hub.database.transaction() as db:
        line = versions.history(db, repo, commit)
    response.headers["X-Total-Count"] = str(len(line))
    return [_described(each) for each in page(line, request, response, hub, 50)]


def _described(commit: versions.Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "title": commit.title,
        "message": commit.message,
        "date": commit.date,
        "authors": [{"user": commit.author}],
        "formatted": {"title": commit.title, "message": commit.message},
    }


@router.post(_BASE + "/branch/{branch}")
def create_branch(
    branch: str,
    repo: OwnRepo,
    hub: TheHub,
    caller: TheCaller,
    startingPoint: str = Body(default="main", embed=True),
) -> dict[str, bool]:
    name = f"refs/heads/{unquoted(branch)}"
    with hub.database.transaction() as db:
        start = versions.resolve(db, repo, startingPoint)
        versions.new_ref(db, repo, name, start.sha)
    hub.announcer.tell(repo, "repo.content", "update", updated={name: (None, start.sha)})
    return {"success": True}


@router.delete(_BASE + "/branch/{branch}")
def delete_branch(branch: str, repo: OwnRepo, hub: TheHub, caller: TheCaller) -> dict[str, bool]:
    name = f"refs/heads/{unquoted(branch)}"
    if name == MAIN:
        raise HubError(403, "The branch main cannot be deleted")
    with hub.database.transaction() as db:
        old = versions.ref(db, repo, name)
        versions.delete_ref(db, repo, name)
    hub.announcer.tell(repo, "repo.content", "update", updated={name: (old, None)})
    return {"success": True}


@router.post(_BASE + "/tag/{revision}")
def create_tag(
    repo: OwnRepo,
    commit: TheCommit,
    hub: TheHub,
    caller: TheCaller,
    tag: str = Body(),
    message: str | None = Body(default=None),
) -> dict[str, bool]:
    """Tags are names only; the message is accepted and not kept."""
    name = f"refs/tags/{tag}"
    with hub.database.transaction() as db:
        versions.new_ref(db, repo, name, commit.sha)
    hub.announcer.tell(repo, "repo.content", "update", updated={name: (None, commit.sha)})
    return {"success": True}


@router.delete(_BASE + "/tag/{tag}")
def delete_tag(tag: str, repo: OwnRepo, hub: TheHub, caller: TheCaller) -> dict[str, bool]:
    name = f"refs/tags/{unquoted(tag)}"
    with hub.database.transaction() as db:
        old = versions.ref(db, repo, name)
        versions.delete_ref(db, repo, name)
    hub.announcer.tell(repo, "repo.content", "update", updated={name: (old, None)})
    return {"success": True}


@router.post(_BASE + "/super-squash/{branch}")
def super_squash(
    branch: str,
    repo: OwnRepo,
    hub: TheHub,
    caller: TheCaller,
    message: str = Body(default="Super-squash", embed=True),
) -> dict[str, str]:
    """One commit instead of the history. Old shas stay readable here."""
    name = f"refs/heads/{unquoted(branch)}"
    with hub.database.transaction() as db:
        old = versions.ref(db, repo, name)
        made = versions.squash(db, repo, name, message, caller.name or "")
        hub.refresh(db, repo)
    hub.announcer.tell(repo, "repo.content", "update", updated={name: (old, made.sha)})
    return {"commitId": made.sha}
