"""Discussions and pull requests over the wire."""

from __future__ import annotations

import sqlite3
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel

from bot.localhub import discussions, repos, versions
from bot.localhub.discussions import Discussion
from bot.localhub.errors import HubError, forbidden
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo
from bot.localhub.versions import MAIN
from bot.localhub.wire.deps import TheHub, User, VisibleRepo

router = APIRouter()
_BASE = "/api/{kind}/{owner}/{name}/discussions"
PER_PAGE = 50
Comment = Annotated[str | None, Body(embed=True)]


class New(BaseModel):
    title: str
    description: str = ""
    pullRequest: bool = False


@router.get(_BASE)
def list_(
    repo: VisibleRepo,
    hub: TheHub,
    p: int = 0,
    type: str = "all",
    status: str = "all",
    author: str | None = None,
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        found = [
            each
            for each in discussions.all_of(db, repo)
            if type in ("all", "pull_request" if each.pull_request else "discussion")
            and status in ("all", "open" if each.status in ("open", "draft") else "closed")
            and author in (None, each.author)
        ]
    size = min(PER_PAGE, hub.page_size)
    shown = found[p * size : (p + 1) * size]
    listed = [_summary(repo, each) for each in shown]
    return {"count": len(found), "start": p * size, "discussions": listed}


@router.post(_BASE)
def create(new: New, repo: VisibleRepo, hub: TheHub, user: User) -> dict[str, Any]:
    """Open to everyone who may see the repository. A pull request starts as a draft."""
    name = _writer(user)
    with hub.database.transaction() as db:
        if new.pullRequest:
            base = versions.resolve(db, repo, MAIN)
            num = discussions.open_pull_request(
                db, repo, new.title, new.description, name, base, draft=True
            )
        else:
            num = discussions.open_discussion(db, repo, new.title, new.description, name)
    hub.announcer.tell(repo, "discussion", "create", discussion=num)
    return {"num": num, "url": f"{hub.repo_url(repo)}/discussions/{num}"}


@router.get(_BASE + "/{num}")
def details(num: int, repo: VisibleRepo, hub: TheHub) -> dict[str, Any]:
    with hub.database.transaction() as db:
        found = discussions.get(db, repo, num)
        answer = _summary(repo, found) | {"events": discussions.events(db, repo, num)}
        if found.pull_request:
            answer |= _changes(db, repo, found)
        return answer


def _summary(repo: Repo, found: Discussion) -> dict[str, Any]:
    return {
        "num": found.num,
        "title": found.title,
        "author": {"name": found.author},
        "createdAt": found.created_at,
        "status": found.status,
        "repo": {"name": repo.id, "type": repo.type},
        "isPullRequest": found.pull_request,
    }


def _changes(db: sqlite3.Connection, repo: Repo, found: Discussion) -> dict[str, Any]:
    """`diff` names what changes; contents are a click away on both refs."""
    if found.status == "merged":
        changes = {"base": MAIN, "mergeCommitId": found.merge_sha}
        return {"changes": changes, "filesWithConflicts": [], "diff": None}
    steps, clashes = discussions.changes(db, repo, found.num)
    diff = "".join(f"{type(step).__name__.lower()} {step.path}\n" for step in steps)
    return {"changes": {"base": MAIN}, "filesWithConflicts": list(clashes), "diff": diff}


@router.post(_BASE + "/{num}/comment")
def comment(
    num: int, repo: VisibleRepo, hub: TheHub, user: User, comment: Annotated[str, Body(embed=True)]
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        event = discussions.comment(db, repo, num, comment, _writer(user))
    hub.announcer.tell(repo, "discussion.comment", "create", discussion=num, comment=event)
    return {"newMessage": event}


@router.post(_BASE + "/{num}/comment/{key}/edit")
def edit(
    num: int,
    key: str,
    repo: VisibleRepo,
    hub: TheHub,
    user: User,
    content: Annotated[str, Body(embed=True)],
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        event = discussions.edit_comment(db, repo, num, key, content, user)
    hub.announcer.tell(repo, "discussion.comment", "update", discussion=num, comment=event)
    return {"updatedComment": event}


@router.post(_BASE + "/{num}/comment/{key}/hide")
def hide(num: int, key: str, repo: VisibleRepo, hub: TheHub, user: User) -> dict[str, Any]:
    with hub.database.transaction() as db:
        event = discussions.edit_comment(db, repo, num, key, None, user)
    hub.announcer.tell(repo, "discussion.comment", "update", discussion=num, comment=event)
    return {"updatedComment": event}


@router.post(_BASE + "/{num}/title")
def title(
    num: int, repo: VisibleRepo, hub: TheHub, user: User, title: Annotated[str, Body(embed=True)]
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        _require_say(db, repo, num, user)
        event = discussions.rename(db, repo, num, title, _writer(user))
    hub.announcer.tell(repo, "discussion", "update", discussion=num)
    return {"newTitle": event}


@router.post(_BASE + "/{num}/status")
def status(
    num: int,
    repo: VisibleRepo,
    hub: TheHub,
    user: User,
    status: Annotated[str, Body()],
    comment: Comment = None,
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        _require_say(db, repo, num, user)
        if comment:
            discussions.comment(db, repo, num, comment, _writer(user))
        event = discussions.set_status(db, repo, num, status, _writer(user))
    hub.announcer.tell(repo, "discussion", "update", discussion=num)
    return {"newStatus": event}


@router.post(_BASE + "/{num}/merge")
def merge(
    num: int, repo: VisibleRepo, hub: TheHub, user: User, comment: Comment = None
) -> dict[str, Any]:
    """Puts the pull request's changes on top of main, in one commit."""
    name = _writer(user)
    with hub.committing(repo), hub.database.transaction() as db:
        repos.require_write(db, repo.owner, user)
        old, made = _merge(hub, db, repo, num, name)
        if comment:
            discussions.comment(db, repo, num, comment, name)
    hub.announcer.tell(repo, "repo.content", "update", updated={MAIN: (old, made)})
    hub.announcer.tell(repo, "discussion", "update", discussion=num)
    return {"mergeCommitId": made}


def _merge(
    hub: Hub, db: sqlite3.Connection, repo: Repo, num: int, author: str
) -> tuple[str | None, str]:
    found = discussions.get(db, repo, num)
    if not found.pull_request or found.status != "open":
        raise HubError(400, "Only an open pull request can be merged")
    steps, clashes = discussions.changes(db, repo, num)
    if clashes:
        raise HubError(409, f"Both sides changed: {', '.join(clashes)}")
    old = versions.ref(db, repo, MAIN)
    title = f"{found.title} (#{num})"
    made = hub.commit(db, repo, MAIN, steps, title=title, author=author)
    discussions.mark_merged(db, repo, num, made.sha, author)
    return old, made.sha


def _require_say(db: sqlite3.Connection, repo: Repo, num: int, user: User) -> None:
    """Authors decide about their own discussion, writers about all."""
    if discussions.get(db, repo, num).author != user.name:
        repos.require_write(db, repo.owner, user)


def _writer(user: User) -> str:
    if not user.can_write:
        raise forbidden("this token can only read")
    return user.name or ""
