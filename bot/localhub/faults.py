"""Faults as data, and the log of requests: what tests of a client need from a server.

A fault matches `METHOD /path?query` by regular expression and fires a set number of times:

    status    answer `status` with `headers`, without doing anything
    hang      never answer
    cut       drop the connection, without doing anything
    lose      do it, then drop the connection without a byte of answer
    truncate  announce the whole body, send half, drop the connection
    corrupt   flip one bit of the body
    slow      wait `seconds` before answering
    stale     branches and tags show the version before their newest
    reorder   reverse a JSON list
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

Kind = Literal["status", "hang", "cut", "lose", "truncate", "corrupt", "slow", "stale", "reorder"]


@dataclass(frozen=True)
class Fault:
    match: str
    kind: Kind
    times: int = 1
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.5


@dataclass(frozen=True)
class Request:
    """One line of the log. `status` is None where no answer was sent."""

    method: str
    path: str
    status: int | None
    had_token: bool
    query: str = ""


class FaultyTransport(H11Protocol):
    """uvicorn's protocol, showing requests the transport so that a fault can drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Faults:
    """The armed faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[tuple[Fault, int]] = []
        self._ending = threading.Event()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._armed += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._armed = []

    def release(self) -> None:
        """Lets hanging requests go, so that the server can stop."""
        self._ending.set()

    def take(self, line: str) -> Fault | None:
        """The first armed fault that matches, which is used up by one."""
        with self._lock:
            for index, (fault, left) in enumerate(self._armed):
                if re.search(fault.match, line):
                    self._armed[index] = (fault, left - 1)
                    self._armed = [item for item in self._armed if item[1] > 0]
                    return fault
        return None

    def around(self, app: ASGIApp) -> ASGIApp:
        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.take(_line(scope)) if scope["type"] == "http" else None
            if fault is None:
                await app(scope, receive, send)
            else:
                await self._strike(fault, app, scope, receive, send)

        return faulty

    async def _strike(
        self, fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        transport = scope["state"]["transport"]
        if fault.kind == "status":
            await _drain(receive)
            await send(_start(fault.status, fault.headers))
            await send({"type": "http.response.body", "body": b'{"error": "injected fault"}'})
        elif fault.kind == "hang":
            while not self._ending.is_set() and not transport.is_closing():
                await asyncio.sleep(0.02)
            transport.abort()
        elif fault.kind == "cut":
            await _hang_up(transport)
        elif fault.kind in ("slow", "stale"):
            await asyncio.sleep(fault.seconds if fault.kind == "slow" else 0)
            scope["state"]["stale"] = fault.kind == "stale"
            await app(scope, receive, send)
        else:
            await _rewrite(fault, app, scope, receive, send)


async def _rewrite(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Lets the application answer into memory, then spoils that answer."""
    start: Message = {}
    body = bytearray()

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, collect)
    transport = scope["state"]["transport"]
    if fault.kind == "lose":
        await _hang_up(transport)
        return
    if fault.kind == "corrupt" and body:
        body[len(body) // 2] ^= 1
    if fault.kind == "reorder":
        body = bytearray(_reversed(bytes(body)))
    headers = [item for item in start["headers"] if item[0].lower() != b"content-length"]
    if scope["method"] == "HEAD":
        headers = start["headers"]
    else:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    if fault.kind == "truncate":
        half = bytes(body[: len(body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport.close()
        await asyncio.sleep(0)
        return
    await send({"type": "http.response.body", "body": bytes(body)})


async def _hang_up(transport: asyncio.Transport) -> None:
    transport.abort()
    await asyncio.sleep(0)  # the protocol hears of it before uvicorn looks for an answer


def _reversed(body: bytes) -> bytes:
    items = json.loads(body)
    return json.dumps(items[::-1] if isinstance(items, list) else items).encode()


async def _drain(receive: Receive) -> None:
    """Takes in the request's body, so that the client gets to reading the answer."""
    while (await receive()).get("more_body"):
        pass


def _start(status: int, headers: Mapping[str, str]) -> Message:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", b"application/json"), *pairs],
    }


def _line(scope: Scope) -> str:
    query = scope["query_string"].decode("ascii")
    path = scope["raw_path"].decode("ascii")
    return f"{scope['method']} {path}{'?' + query if query else ''}"


class RequestLog:
    """What was asked, in the order of the answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._requests)

    def clear(self) -> None:
        with self._lock:
            self._requests = []

    def around(self, app: ASGIApp) -> ASGIApp:
        async def logged(scope: Scope, receive: Receive, send: Send) -> None:
            status: int | None = None

            async def watch(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    self._note(scope, status)
                await send(message)

            await app(scope, receive, watch)
            if status is None:
                self._note(scope, None)

        return logged

    def _note(self, scope: Scope, status: int | None) -> None:
        had_token = any(name == b"authorization" for name, _ in scope["headers"])
        path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("ascii")
        with self._lock:
            self._requests.append(Request(scope["method"], path, status, had_token, query))
