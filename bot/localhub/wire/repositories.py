"""Create, delete, move, settings, access checks."""

from __future__ import annotations

import sqlite3
from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel

from bot.localhub import accounts, repos
from bot.localhub.accounts import Caller
from bot.localhub.errors import RepoMoved, bad_request, forbidden, repo_not_found
from bot.localhub.repos import Repo
from bot.localhub.wire.deps import OwnRepo, TheCaller, TheHub, User, VisibleRepo

router = APIRouter()


class NewRepo(BaseModel):
    name: str
    organization: str | None = None
    type: str = "model"
    visibility: Literal["public", "private"] | None = None
    private: bool | None = None  # what clients sent before `visibility`

    @property
    def is_private(self) -> bool:
        return self.visibility == "private" if self.visibility else bool(self.private)


class RepoName(BaseModel):
    name: str
    organization: str | None = None
    type: str = "model"


class Settings(BaseModel):
    visibility: Literal["public", "private"] | None = None
    private: bool | None = None
    gated: Literal["auto", "manual", False] | None = None


@router.post("/api/repos/create")
def create(new: NewRepo, hub: TheHub, user: User) -> dict[str, str]:
    assert user.name is not None
    owner = new.organization or user.name
    with hub.database.transaction() as db:
        if not accounts.exists(db, owner):
            raise forbidden(f"you may not write in the namespace {owner}")
        repos.require_write(db, owner, user)
        repo = hub.create(new.type, owner, new.name, private=new.is_private, author=user.name)
    hub.announcer.tell(repo, "repo", "create")
    return {"url": hub.repo_url(repo), "name": repo.id, "id": repo.key}


@router.delete("/api/repos/delete")
def delete(old: RepoName, hub: TheHub, user: User) -> dict[str, bool]:
    assert user.name is not None
    with hub.database.transaction() as db:
        repo = _named(db, old.type, old.organization or user.name, old.name, user)
        repos.require_write(db, repo.owner, user)
        repos.delete(db, repo)
    hub.announcer.tell(repo, "repo", "delete")
    return {"success": True}


@router.post("/api/repos/move")
def move(
    fromRepo: Annotated[str, Body()],
    toRepo: Annotated[str, Body()],
    hub: TheHub,
    user: User,
    type: Annotated[str, Body()] = "model",
) -> dict[str, str]:
    """Both namespaces must be the caller's."""
    if fromRepo.count("/") != 1 or toRepo.count("/") != 1:
        raise bad_request("Repository names are OWNER/NAME")
    (old_owner, old_name), (owner, name) = fromRepo.split("/"), toRepo.split("/")
    with hub.database.transaction() as db:
        repo = _named(db, type, old_owner, old_name, user)
        repos.require_write(db, repo.owner, user)
        repos.require_write(db, owner, user)
        moved = repos.move(db, repo, owner, name)
    hub.announcer.tell(repo, "repo", "move", moved_to=moved)
    return {"url": hub.repo_url(moved)}


def _named(db: sqlite3.Connection, type_: str, owner: str, name: str, user: Caller) -> Repo:
    """repos.get for a name in a body, where a redirect would lead nowhere."""
    try:
        return repos.get(db, type_, owner, name, user)
    except RepoMoved as moved:
        raise repo_not_found() from moved


@router.put("/api/{kind}/{owner}/{name}/settings")
def settings(change: Settings, repo: OwnRepo, hub: TheHub, user: User) -> dict[str, bool]:
    with hub.database.transaction() as db:
        if change.visibility is not None or change.private is not None:
            private = change.visibility == "private" if change.visibility else change.private
            repos.set_visibility(db, repo, bool(private))
        if "gated" in change.model_fields_set:
            repos.set_gated(db, repo, change.gated or None)
        changed = repos.get(db, repo.type, repo.owner, repo.name, user)
    hub.announcer.tell(changed, "repo.config", "update")
    return {"success": True}


@router.get("/api/{kind}/{owner}/{name}/auth-check")
def may_read(repo: VisibleRepo, hub: TheHub, caller: TheCaller) -> dict[str, bool]:
    with hub.database.transaction() as db:
        repos.require_files(db, repo, caller)
    return {"success": True}


@router.get("/api/{kind}/{owner}/{name}/auth-check/write")
def may_write(repo: OwnRepo) -> dict[str, bool]:
    return {"success": True}


@router.post("/api/{kind}/{owner}/{name}/like")
def like(repo: VisibleRepo, hub: TheHub, user: User) -> dict[str, bool]:
    with hub.database.transaction() as db:
        db.execute("INSERT OR IGNORE INTO likes VALUES (?, ?)", (repo.key, user.name))
    return {"success": True}


@router.delete("/api/{kind}/{owner}/{name}/like")
def unlike(repo: VisibleRepo, hub: TheHub, user: User) -> dict[str, bool]:
    with hub.database.transaction() as db:
        db.execute("DELETE FROM likes WHERE repo = ? AND user = ?", (repo.key, user.name))
    return {"success": True}
