"""Lists and single infos of repositories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from bot.localhub import listing, models
from bot.localhub.errors import bad_request
from bot.localhub.wire.deps import Kind, TheCaller, TheCommit, TheHub, VisibleRepo
from bot.localhub.wire.pagination import page

router = APIRouter()
UNSUPPORTED = ("apps", "emissions_thresholds", "inference", "inference_provider")


@router.get("/api/{kind}")
def search(
    kind: Kind,
    request: Request,
    response: Response,
    hub: TheHub,
    caller: TheCaller,
    filter: Annotated[list[str], Query()] = [],  # noqa: B006
    author: str | None = None,
    search: str | None = None,
    pipeline_tag: str | None = None,
    gated: bool | None = None,
    num_parameters: str | None = None,
    sort: str | None = None,
    limit: int = 1000,
    full: bool = False,
    cardData: bool = False,
    config: bool = False,
) -> Sequence[dict[str, Any]]:
    for name in UNSUPPORTED:
        if name in request.query_params:  # better than a list that only looks filtered
            raise bad_request(f"This Hub cannot filter by {name}")
    tags = [tag for item in filter for tag in item.split(",") if tag]
    query = listing.Query(
        kind.type, tags, author, search, pipeline_tag, gated, num_parameters, sort
    )
    wanted = _expand(request)
    if refused := [name for name in wanted if name in models.INFO_ONLY]:
        raise bad_request(f"Invalid value for expand in a list: {', '.join(refused)}")
    if not wanted:
        wanted = list(models.IN_FULL_LISTS if full else models.IN_LISTS)
        wanted += ["cardData"] * cardData + ["config"] * config
    with hub.database.transaction() as db:
        found = page(listing.find(db, query, caller), request, response, hub, limit)
        return [models.model(hub, db, repo, wanted) for repo in found]


@router.get("/api/{kind}/{owner}/{name}")
@router.get("/api/{kind}/{owner}/{name}/revision/{revision}")
def info(
    request: Request, repo: VisibleRepo, commit: TheCommit, hub: TheHub, blobs: bool = False
) -> dict[str, Any]:
    wanted = _expand(request) or models.IN_INFO
    with hub.database.transaction() as db:
        return models.model(hub, db, repo, wanted, commit=commit, blobs=blobs)


def _expand(request: Request) -> list[str]:
    """`expand=a&expand=b` from the Python client, `expand[]=a` from others."""
    query = request.query_params
    return [*query.getlist("expand"), *query.getlist("expand[]")]
