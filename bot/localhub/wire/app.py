"""The web application: all routes, and how refusals look on the wire."""

from __future__ import annotations

import secrets

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.localhub.errors import HubError, RepoMoved, repo_not_found
from bot.localhub.hub import Hub
from bot.localhub.pages import routes
from bot.localhub.wire import (
    account,
    commits,
    discussions,
    files,
    info,
    lfs,
    refs,
    repositories,
    webhooks,
    xet,
)
from bot.localhub.wire.deps import QuotedSlashes

ROUTERS = (  # first match wins
    account,
    webhooks,
    repositories,
    commits,
    refs,
    discussions,
    files,
    lfs,
    xet,
    info,
)


def build(hub: Hub) -> ASGIApp:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.hub = hub
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(routes.router)  # last: its addresses match almost anything
    app.add_exception_handler(HubError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ClientDisconnect, _gone)
    return RequestIds(QuotedSlashes(app))


class RequestIds:
    """ASGI wrapper: every answer carries X-Request-Id, the caller's own where it sent one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        mark = headers.get(b"x-amzn-trace-id") or secrets.token_hex(8).encode()

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", mark)]
            await send(message)

        await self._app(scope, receive, marked)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    headers = dict(error.headers)
    if isinstance(error, RepoMoved):
        path = request.scope["raw_path"].decode("ascii").replace(error.old, error.new, 1)
        query = request.url.query
        headers["Location"] = f"{path}?{query}" if query else path
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    headers["X-Error-Message"] = error.message.encode("ascii", "replace").decode()
    headers = {name: value.replace("\r", " ").replace("\n", " ") for name, value in headers.items()}
    for name in ("Content-Length", "Content-Type"):
        headers.pop(name, None)
    if "text/html" in request.headers.get("accept", "") and error.status != 307:
        page = routes.error_page(error.status, error.message)
        page.headers.update(headers)
        return page
    return JSONResponse({"error": error.message, **error.extra}, error.status, headers)


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["loc"][0] == "path":
        return _refused(request, repo_not_found())
    return _refused(request, HubError(400, f"Invalid request: {place}: {first['msg']}"))


def _gone(request: Request, error: Exception) -> Response:
    """For a client that left in the middle of its request: nobody reads this."""
    return Response(status_code=400)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _refused(request, repo_not_found())
    return _refused(request, HubError(error.status_code, str(error.detail)))
