"""Uploads of large files that are under way: tickets, and the parts that arrived so far."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bot.localhub.blobs import CHUNK, Incoming, identify
from bot.localhub.errors import HubError, bad_request

PART_SIZE = 16 << 20  # bytes; real storage has the same order of magnitude


@dataclass(frozen=True)
class Transfer:
    """One announced object; `parts` is 1 for a plain PUT."""

    ticket: str
    sha256: str
    size: int
    parts: int
    part_size: int
    folder: Path

    def receive(self, number: int) -> BinaryIO:
        if not 1 <= number <= self.parts:
            raise bad_request(f"There is no part {number}")
        self.folder.mkdir(exist_ok=True)
        return (self.folder / str(number)).open("wb")

    def etag(self, number: int) -> str:
        """Of a part that arrived; empty otherwise."""
        part = self.folder / str(number)
        return identify(part).git_oid if part.exists() else ""

    def assemble(self, into: Incoming) -> None:
        for number in range(1, self.parts + 1):
            with (self.folder / str(number)).open("rb") as part:
                while piece := part.read(CHUNK):
                    into.write(piece)


class Transfers:
    """Open transfers by ticket. `folder` is emptied on start: tickets do not survive one."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._open: dict[str, Transfer] = {}
        self.part_size = PART_SIZE

    def open(self, sha256: str, size: int, multipart: bool) -> Transfer:
        """A new ticket; more than one part only if the client can do `multipart`."""
        if len(sha256) != hashlib.sha256().digest_size * 2 or size < 0:
            raise bad_request(f"Not an object: {sha256}")
        parts = -(-size // self.part_size) if multipart else 1
        ticket = secrets.token_hex(16)
        transfer = Transfer(
            ticket, sha256, size, max(1, parts), self.part_size, self._folder / ticket
        )
        self._open[ticket] = transfer
        return transfer

    def get(self, ticket: str) -> Transfer:
        if ticket not in self._open:
            raise HubError(404, "This upload address is not valid (any more)")
        return self._open[ticket]

    def close(self, transfer: Transfer) -> None:
        self._open.pop(transfer.ticket, None)
        shutil.rmtree(transfer.folder, ignore_errors=True)
