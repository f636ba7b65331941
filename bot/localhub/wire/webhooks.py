"""The caller's own webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from bot.localhub import webhooks
from bot.localhub.errors import bad_request
from bot.localhub.webhooks import Webhook
from bot.localhub.wire.deps import TheHub, User

router = APIRouter()
_BASE = "/api/settings/webhooks"


class Wish(BaseModel):
    """What a client sends to create or change one; what is empty stays as it is."""

    url: str | None = None
    watched: list[dict[str, str]] | None = None
    domains: list[str] | None = None
    secret: str | None = None


@router.get(_BASE)
def all_(hub: TheHub, user: User) -> list[dict[str, Any]]:
    with hub.database.transaction() as db:
        return [hook.shown() for hook in webhooks.all_of(db, user.name or "")]


@router.post(_BASE)
def create(wish: Wish, hub: TheHub, user: User) -> dict[str, Any]:
    if wish.url is None:
        raise bad_request("This Hub runs no jobs; a webhook needs a url")
    watched, domains = wish.watched or [], wish.domains or list(webhooks.DOMAINS)
    key, account = webhooks.new_id(), user.name or ""
    hook = Webhook(key, account, wish.url, watched, domains, wish.secret, disabled=False)
    with hub.database.transaction() as db:
        webhooks.save(db, hook)
    return {"webhook": hook.shown()}


@router.get(_BASE + "/{key}")
def one(key: str, hub: TheHub, user: User) -> dict[str, Any]:
    with hub.database.transaction() as db:
        return {"webhook": webhooks.get(db, user.name or "", key).shown()}


@router.post(_BASE + "/{key}")
def update(key: str, wish: Wish, hub: TheHub, user: User) -> dict[str, Any]:
    given = {name: value for name, value in wish if value}
    return _change(key, hub, user, given)


@router.post(_BASE + "/{key}/enable")
def enable(key: str, hub: TheHub, user: User) -> dict[str, Any]:
    return _change(key, hub, user, {"disabled": False})


@router.post(_BASE + "/{key}/disable")
def disable(key: str, hub: TheHub, user: User) -> dict[str, Any]:
    return _change(key, hub, user, {"disabled": True})


def _change(key: str, hub: TheHub, user: User, values: dict[str, Any]) -> dict[str, Any]:
    with hub.database.transaction() as db:
        hook = replace(webhooks.get(db, user.name or "", key), **values)
        webhooks.save(db, hook)
    return {"webhook": hook.shown()}


@router.delete(_BASE + "/{key}")
def delete(key: str, hub: TheHub, user: User) -> dict[str, bool]:
    with hub.database.transaction() as db:
        webhooks.delete(db, webhooks.get(db, user.name or "", key))
    return {"success": True}
