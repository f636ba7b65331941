"""Lists in pages, chained by the `Link` header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fastapi import Request, Response

from bot.localhub.errors import bad_request
from bot.localhub.hub import Hub

T = TypeVar("T")


def page(
    items: Sequence[T], request: Request, response: Response, hub: Hub, size: int
) -> Sequence[T]:
    """The page that `cursor` asks for, at most `size` long; sets `Link` if more follow."""
    cursor = request.query_params.get("cursor", "0")
    if not cursor.isdecimal():
        raise bad_request(f"Invalid cursor: {cursor}")
    start = int(cursor)
    stop = start + max(1, min(size, hub.page_size))
    if stop < len(items):
        url = request.url.include_query_params(cursor=stop)
        raw_path = request.scope["raw_path"].decode("ascii")
        response.headers["Link"] = f'<{hub.url}{raw_path}?{url.query}>; rel="next"'
    return items[start:stop]
