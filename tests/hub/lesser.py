"""A Hub that speaks less of the protocol, or with another accent: the local Hub behind a proxy."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ABSENT = ("validate-yaml", "auth-check", "xet-write-token", "expand=")
HOP = {"transfer-encoding", "connection", "content-length", "date", "server"}


@dataclass
class Accent:
    """What is different. `absent`: parts of addresses that are answered with `status`."""

    absent: tuple[str, ...] = ()
    status: int = 404
    code: str | None = None  # X-Error-Code of such an answer
    request: Callable[[str, Any], Any] = lambda path, body: body  # JSON on its way in
    answer: Callable[[str, Any], Any] = lambda path, body: body  # JSON on its way out
    headers: Callable[[dict[str, str]], dict[str, str]] = lambda headers: headers
    seen: list[str] = field(default_factory=list)


@contextmanager
def lesser(upstream: str, accent: Accent) -> Iterator[str]:
    """The address of a proxy in front of `upstream`."""

    class Proxy(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            accent.seen.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if any(part in self.path for part in accent.absent):
                code = {"X-Error-Code": accent.code} if accent.code else {}
                self._say(accent.status, code, b'{"error": "no such thing"}')
                return
            if body and "json" in self.headers.get("Content-Type", "") and body[:1] == b"{":
                lines = [accent.request(self.path, json.loads(x)) for x in body.splitlines()]
                body = "\n".join(map(json.dumps, lines)).encode()
            self._say(*forward(upstream + self.path, self.command, dict(self.headers), body))

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if headers.get("content-type", "").startswith("application/json") and status < 300:
                body = json.dumps(accent.answer(self.path, json.loads(body))).encode()
            length = headers.pop("content-length", str(len(body)))
            self.send_response(status)
            for name, value in accent.headers(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_Stay)


def forward(
    url: str, method: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    kept = {k: v for k, v in headers.items() if k.lower() not in HOP | {"host"}}
    asked = urllib.request.Request(url, data=body or None, headers=kept, method=method)
    try:
        with OPENER.open(asked) as answer:
            told = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            told = error.code, error.headers, error.read()
    status, heads, content = told
    plain = {k.lower(): v for k, v in heads.items() if k.lower() not in HOP - {"content-length"}}
    return status, plain, content
