"""Who am I, and is this card acceptable."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body, Response

from bot.localhub import accounts, facts, validation
from bot.localhub.errors import HubError
from bot.localhub.wire.deps import TheHub, User

router = APIRouter()


@router.get("/api/whoami-v2")
def whoami(hub: TheHub, user: User) -> dict[str, Any]:
    assert user.name is not None
    with hub.database.transaction() as db:
        organisations = accounts.organisations(db, user.name)
    role = "write" if user.can_write else "read"
    return {
        "type": "user",
        "id": user.name,
        "name": user.name,
        "fullname": user.name,
        "isPro": False,
        "orgs": [{"type": "org", "name": org, "roleInOrg": role} for org, role in organisations],
        "auth": {
            "type": "access_token",
            "accessToken": {"displayName": user.token_label, "role": role},
        },
    }


@router.post("/api/validate-yaml")
def validate_yaml(
    response: Response, content: str = Body(), repoType: str = Body(default="model")
) -> dict[str, Any]:
    """Checks a card's front matter; the client refuses to send one with errors."""
    try:
        card, _ = facts.parse_card(content)
        found = validation.complaints(card) if repoType == "model" else []
    except ValueError as error:
        card, found = {}, [str(error)]
    if found:
        response.status_code = 400
        errors = [{"message": message} for message in found]
        return {"errors": errors, "warnings": [], "error": "; ".join(found)}
    warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return {"errors": [], "warnings": warnings}


@router.get("/api/agent-harnesses")
def agent_harnesses() -> list[str]:
    raise HubError(404, "Not found")
