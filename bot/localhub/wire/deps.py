"""What every handler starts from: the Hub, the caller, the repository and revision in the address.

Revisions and paths arrive with their slashes quoted (`refs%2Fpr%2F1`) and must not fall apart into
segments; `QuotedSlashes` keeps them whole on the way to the router, `unquoted` brings them back.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.localhub import accounts, repos, versions
from bot.localhub.accounts import ANONYMOUS, Caller
from bot.localhub.errors import bad_token, unauthenticated
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo

_SLASH = "\x1f"  # ASCII's unit separator: never part of a name


class Kind(StrEnum):
    """Repository types as addresses spell them."""

    models = "models"
    datasets = "datasets"
    spaces = "spaces"

    @property
    def type(self) -> str:
        return self.value.removesuffix("s")


class QuotedSlashes:
    """ASGI wrapper: routes by the address as it was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope["raw_path"].decode("ascii")
            scope["path"] = unquote(re.sub("%2f", _SLASH, raw, flags=re.IGNORECASE))
        await self._app(scope, receive, send)


def unquoted(segment: str) -> str:
    return segment.replace(_SLASH, "/")


def get_hub(request: Request) -> Hub:
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub.at(str(request.base_url).rstrip("/"))


TheHub = Annotated[Hub, Depends(get_hub)]


def get_caller(request: Request, hub: TheHub) -> Caller:
    """Raises 401 for a token that nobody holds (a missing one makes an anonymous caller)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return ANONYMOUS
    with hub.database.transaction() as db:
        caller = accounts.caller_of(db, token.strip())
    if caller is None:
        raise bad_token()
    return caller


TheCaller = Annotated[Caller, Depends(get_caller)]


def get_user(caller: TheCaller) -> Caller:
    if caller.name is None:
        raise unauthenticated()
    return caller


User = Annotated[Caller, Depends(get_user)]


def get_repo(kind: Kind, owner: str, name: str, hub: TheHub, caller: TheCaller) -> Repo:
    with hub.database.transaction() as db:
        return repos.get(db, kind.type, owner, name, caller)


def get_own_repo(repo: Annotated[Repo, Depends(get_repo)], hub: TheHub, caller: TheCaller) -> Repo:
    with hub.database.transaction() as db:
        repos.require_write(db, repo.owner, caller)
    return repo


VisibleRepo = Annotated[Repo, Depends(get_repo)]
OwnRepo = Annotated[Repo, Depends(get_own_repo)]


def get_commit(
    request: Request, repo: VisibleRepo, hub: TheHub, revision: str = "main"
) -> versions.Commit:
    return resolve(request, hub, repo, revision)


def resolve(request: Request, hub: Hub, repo: Repo, revision: str) -> versions.Commit:
    """The version asked for; the one before while the fault "stale" lasts (moving names only)."""
    revision = unquoted(revision)
    with hub.database.transaction() as db:
        commit = versions.resolve(db, repo, revision)
        if getattr(request.state, "stale", False) and commit.sha != revision and commit.parent:
            return versions.resolve(db, repo, commit.parent)
        return commit


TheCommit = Annotated[versions.Commit, Depends(get_commit)]
