"""Git LFS uploads: the batch call, the transfers it hands out, and their verification.

Upload addresses carry a random ticket instead of a token, like the signed addresses of real
storage; tickets live as long as the process.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from bot.localhub import repos, versions
from bot.localhub.blobs import Incoming
from bot.localhub.errors import HubError, bad_request
from bot.localhub.hub import Hub
from bot.localhub.transfers import Transfer
from bot.localhub.wire.deps import Kind, TheCaller, TheHub, User, VisibleRepo, get_repo

router = APIRouter()
LFS_JSON = "application/vnd.git-lfs+json"


class Pointer(BaseModel):
    oid: str
    size: int


class Batch(BaseModel):
    operation: str
    transfers: list[str] = ["basic"]
    objects: list[Pointer]


class Part(BaseModel):
    partNumber: int
    etag: str


class Completion(BaseModel):
    oid: str
    parts: list[Part]


@router.post("/{owner}/{name}.git/info/lfs/objects/batch")
def batch_model(owner: str, name: str, asked: Batch, hub: TheHub, user: User) -> Response:
    return batch(Kind.models, owner, name, asked, hub, user)


@router.post("/{kind}/{owner}/{name}.git/info/lfs/objects/batch")
def batch(kind: Kind, owner: str, name: str, asked: Batch, hub: TheHub, user: User) -> Response:
    get_repo(kind, owner, name, hub, user)
    if asked.operation != "upload":
        raise bad_request("Downloads go by resolve")
    if not user.can_write:
        raise HubError(403, "Forbidden: this token can only read")
    multipart = "multipart" in asked.transfers
    objects = [_object(hub, item, multipart) for item in asked.objects]
    transfer = "multipart" if any(item.pop("multipart", False) for item in objects) else "basic"
    return JSONResponse({"transfer": transfer, "objects": objects}, media_type=LFS_JSON)


def _object(hub: Hub, item: Pointer, multipart: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": item.oid, "size": item.size, "authenticated": True}
    with hub.database.transaction() as db:
        if hub.known(db, item.oid, item.size):
            return answer
    transfer = hub.transfers.open(item.oid, item.size, multipart)
    href = f"{hub.url}/_lfs/{transfer.ticket}"
    upload: dict[str, Any] = {"href": href}
    if transfer.parts > 1:
        numbers = range(1, transfer.parts + 1)
        addresses = {f"{number:05d}": f"{href}/{number}" for number in numbers}
        upload["header"] = {"chunk_size": str(transfer.part_size), **addresses}
        answer["multipart"] = True
    answer["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/_lfs-verify"}}
    return answer


class Wanted(BaseModel):
    """A large file of one repository that another repository shall have too."""

    sha256: str
    filename: str


class Duplication(BaseModel):
    target: dict[str, str]
    files: list[Wanted]


@router.post("/api/{kind}/{owner}/{name}/lfs-files/duplicate")
def duplicate(asked: Duplication, repo: VisibleRepo, hub: TheHub, user: User) -> dict[str, Any]:
    """Contents are shared by all repositories, so this only checks that the source has them."""
    with hub.database.transaction() as db:
        repos.require_files(db, repo, user)
        failed = [
            {"sha256": file.sha256, "error": "not in this repository"}
            for file in asked.files
            if not versions.ever_had(db, repo, file.sha256)
        ]
    return {"success": not failed, "failed": failed}


@router.put("/_lfs/{ticket}")
async def put_whole(ticket: str, request: Request, hub: TheHub) -> Response:
    transfer = hub.transfers.get(ticket)
    with hub.blobs.receive() as incoming:
        await _receive(request, incoming)
        await run_in_threadpool(_keep, hub, incoming, transfer)
    hub.transfers.close(transfer)
    return Response(status_code=200)


@router.put("/_lfs/{ticket}/{number}")
async def put_part(ticket: str, number: int, request: Request, hub: TheHub) -> Response:
    transfer = hub.transfers.get(ticket)
    with transfer.receive(number) as part:
        async for piece in request.stream():
            part.write(piece)
    return Response(status_code=200, headers={"ETag": f'"{transfer.etag(number)}"'})


@router.post("/_lfs/{ticket}")
def complete(ticket: str, done: Completion, hub: TheHub) -> dict[str, bool]:
    transfer = hub.transfers.get(ticket)
    told = {part.partNumber: part.etag.strip('"') for part in done.parts}
    if told != {number: transfer.etag(number) for number in range(1, transfer.parts + 1)}:
        raise bad_request("The list of parts does not match what arrived")
    with hub.blobs.receive() as incoming:
        transfer.assemble(incoming)
        _keep(hub, incoming, transfer)
    hub.transfers.close(transfer)
    return {"success": True}


@router.post("/_lfs-verify")
def verify(item: Pointer, hub: TheHub, caller: TheCaller) -> dict[str, bool]:
    with hub.database.transaction() as db:
        if not hub.known(db, item.oid, item.size):
            raise HubError(404, f"Object not found: {item.oid}")
    return {"success": True}


async def _receive(request: Request, incoming: Incoming) -> None:
    async for piece in request.stream():
        incoming.write(piece)


def _keep(hub: Hub, incoming: Incoming, transfer: Transfer) -> None:
    try:
        blob = incoming.keep(transfer.sha256)
    except ValueError as error:
        raise bad_request(f"Upload of {transfer.sha256} failed: {error}") from error
    with hub.database.transaction() as db:
        hub.know(db, blob)
