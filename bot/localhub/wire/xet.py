"""Xet tokens: where the store is, for those who may read or write the repository."""

from __future__ import annotations

import secrets
import time
from typing import Any

from fastapi import APIRouter, Response

from bot.localhub import repos
from bot.localhub.errors import HubError, forbidden
from bot.localhub.hub import Hub
from bot.localhub.wire.deps import TheCaller, TheHub, User, VisibleRepo
from bot.localhub.xet import TOKEN_SECONDS, XetStore

router = APIRouter()


@router.get("/api/{kind}/{owner}/{name}/xet-write-token/{revision}")
def write_token(
    repo: VisibleRepo, hub: TheHub, user: User, response: Response, create_pr: bool = False
) -> dict[str, Any]:
    """Anyone who may open a pull request may upload; the commit decides about the rest."""
    if not user.can_write:
        raise forbidden("this token can only read")
    return _token(_store(hub).upload_room(), response)


@router.get("/api/{kind}/{owner}/{name}/xet-read-token/{revision}")
def read_token(
    repo: VisibleRepo, hub: TheHub, caller: TheCaller, response: Response
) -> dict[str, Any]:
    with hub.database.transaction() as db:
        repos.require_files(db, repo, caller)
    return _token(_store(hub).download_room(), response)


def _store(hub: Hub) -> XetStore:
    if hub.xet is None:
        raise HubError(404, "This Hub has no Xet storage; set HF_HUB_DISABLE_XET=1")
    return hub.xet


def _token(address: str, response: Response) -> dict[str, Any]:
    """Python reads the headers, hf-xet itself the body. The store does not look at the token."""
    token, expires = secrets.token_urlsafe(24), int(time.time()) + TOKEN_SECONDS
    response.headers["X-Xet-Cas-Url"] = address
    response.headers["X-Xet-Access-Token"] = token
    response.headers["X-Xet-Token-Expiration"] = str(expires)
    return {"accessToken": token, "exp": expires, "casUrl": address}
