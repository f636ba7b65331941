"""Running the Hub: in this process for tests and the demo, or blocking for `bot hub serve`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import uvicorn

from bot.localhub import accounts, repos
from bot.localhub.faults import Fault, Faults, FaultyTransport, Request, RequestLog
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo
from bot.localhub.wire import app

OWNER = "owner"


class LocalHub:
    """A Hub on 127.0.0.1 for as long as the `with` block lasts.

    `users` maps each user to the organisations (namespaces) that the user may write in, besides
    the one of the user's own name. Starting again on the same `directory` finds everything there,
    also after a kill; only with `durable` also after a power cut.
    """

    def __init__(
        self,
        directory: Path | str,
        port: int = 0,
        users: Mapping[str, tuple[str, ...] | list[str]] | None = None,
        *,
        page_size: int = 1000,
        xet: bool = True,
        durable: bool = False,
    ) -> None:
        self._socket = _listen("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._hub = Hub(Path(directory), self.url, page_size=page_size, xet=xet, durable=durable)
        self._faults = Faults()
        self._log = RequestLog()
        self._tokens: dict[tuple[str, str], str] = {}
        for user, orgs in (users or {}).items():
            self.add_user(user, *orgs)

    def __enter__(self) -> LocalHub:
        self._server = _server(self._hub, self._faults, self._log)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="localhub", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._faults.release()
        self._thread.join()
        self._socket.close()
        self._hub.close()

    def add_user(self, name: str, *orgs: str) -> None:
        """A user who may write in `orgs`; accounts that are missing are made."""
        with self._hub.database.transaction() as db:
            accounts.add_user(db, name)
            for org in orgs:
                accounts.add_org(db, org, {name: "write"})

    def token(self, user: str, role: str = "write") -> str:
        """A token of `user`, the same one on every call; `role` is write or read."""
        if (user, role) not in self._tokens:
            with self._hub.database.transaction() as db:
                self._tokens[user, role] = accounts.new_token(db, user, role)
        return self._tokens[user, role]

    def revoke(self, user: str) -> None:
        """Takes all tokens of `user` away; `token` makes a fresh one."""
        with self._hub.database.transaction() as db:
            accounts.revoke_tokens(db, user)
        self._tokens = {key: token for key, token in self._tokens.items() if key[0] != user}

    def set_gated(self, repo_id: str, mode: str | None = "auto", type: str = "model") -> None:
        """`mode` is "auto", "manual" or None (open)."""
        with self._hub.database.transaction() as db:
            repos.set_gated(db, self._find(repo_id, type), mode)

    def grant(self, repo_id: str, user: str, type: str = "model") -> None:
        """Lets `user` read the files of a gated repository."""
        with self._hub.database.transaction() as db:
            key = self._find(repo_id, type).key
            db.execute("INSERT OR IGNORE INTO grants VALUES (?, ?)", (key, user))

    def set_disabled(self, repo_id: str, disabled: bool = True, type: str = "model") -> None:
        """Takes a repository down, as the Hub's moderators do."""
        with self._hub.database.transaction() as db:
            key = self._find(repo_id, type).key
            db.execute("UPDATE repos SET disabled = ? WHERE id = ?", (disabled, key))

    def set_downloads(self, repo_id: str, count: int, type: str = "model") -> None:
        with self._hub.database.transaction() as db:
            key = self._find(repo_id, type).key
            db.execute("UPDATE repos SET downloads = ? WHERE id = ?", (count, key))

    def set_times(
        self, repo_id: str, *, created: str | None = None, modified: str | None = None
    ) -> None:
        """Overwrites a model's dates (ISO 8601, `Z`), for what depends on age."""
        with self._hub.database.transaction() as db:
            db.execute(
                "UPDATE repos SET created_at = coalesce(?, created_at), "
                "modified_at = coalesce(?, modified_at) WHERE id = ?",
                (created, modified, self._find(repo_id, "model").key),
            )

    def downloads(self, repo_id: str, type: str = "model") -> int:
        return self._find(repo_id, type).downloads

    def _find(self, repo_id: str, type_: str) -> Repo:
        owner, name = repo_id.split("/")
        with self._hub.database.transaction() as db:
            repo = repos.find(db, type_, owner, name)
        if repo is None:
            raise KeyError(repo_id)
        return repo

    @property
    def page_size(self) -> int:
        """The most items on one page of any list."""
        return self._hub.page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._hub.page_size = size

    @property
    def part_size(self) -> int:
        """Bytes per part of a multipart LFS upload."""
        return self._hub.transfers.part_size

    @part_size.setter
    def part_size(self, size: int) -> None:
        self._hub.transfers.part_size = size

    def inject(self, *faults: Fault) -> None:
        """Arms faults; each fires on the first `times` requests that it matches."""
        self._faults.add(*faults)

    def clear_faults(self) -> None:
        self._faults.clear()

    @property
    def requests(self) -> tuple[Request, ...]:
        """Everything asked so far, oldest first."""
        return self._log.requests

    def forget_requests(self) -> None:
        self._log.clear()


def serve(
    directory: Path | str,
    host: str = "127.0.0.1",
    port: int = 7860,
    users: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM.

    `users` maps each user to organisations to write in; the user "owner" is always there. Each has
    a token in `directory`/NAME.token (mode 0600), made on the first start; where they lie is said.
    """
    directory = Path(directory)
    listening = _listen(host, port)
    hub = Hub(directory, f"http://{host}:{listening.getsockname()[1]}")
    try:
        everybody = {OWNER: (), **(users or {})}
        files = {user: _token_file(hub, directory, user, o) for user, o in everybody.items()}
        lines = [f"The token of {user} is in {file}" for user, file in files.items()]
        print(f"Serving {directory} at {hub.url}", *lines, sep="\n", flush=True)
        with _quiet_end():
            _server(hub, Faults(), None).run([listening])
    finally:
        listening.close()
        hub.close()


@contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn stops at a signal and then raises it again; here that second time means nothing."""
    before = {each: signal.signal(each, _ignore) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing (SIG_IGN would be inherited by children)."""


def _token_file(hub: Hub, directory: Path, user: str, orgs: Sequence[str]) -> Path:
    file = directory / f"{user}.token"
    with hub.database.transaction() as db:
        accounts.add_user(db, user)
        for org in orgs:
            accounts.add_org(db, org, {user: "write"})
        if not file.exists():
            token = accounts.new_token(db, user, label="made on first start")
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(token)
    return file


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.create_server((host, port), backlog=128)
    # asyncio does so itself only for sockets whose protocol number is set; accepted ones inherit
    # it. Without, every answer waits 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _server(hub: Hub, faults: Faults, log: RequestLog | None) -> uvicorn.Server:
    wrapped = faults.around(app.build(hub))
    config = uvicorn.Config(
        log.around(wrapped) if log is not None else wrapped,
        http=FaultyTransport,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
