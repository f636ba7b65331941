"""Trees and file contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from bot.localhub import folders, models, repos, versions
from bot.localhub.errors import HubError, entry_not_found
from bot.localhub.folders import Folder
from bot.localhub.hub import Hub
from bot.localhub.repos import Repo
from bot.localhub.versions import Commit, Entry
from bot.localhub.wire.deps import (
    Kind,
    TheCaller,
    TheCommit,
    TheHub,
    VisibleRepo,
    get_repo,
    resolve,
    unquoted,
)
from bot.localhub.wire.pagination import page

router = APIRouter()
PICTURES = {
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webp": "image/webp",
}


@router.get("/api/{kind}/{owner}/{name}/tree/{revision}")
@router.get("/api/{kind}/{owner}/{name}/tree/{revision}/{path:path}")
def tree(
    request: Request,
    response: Response,
    repo: VisibleRepo,
    commit: TheCommit,
    hub: TheHub,
    path: str = "",
    recursive: bool = False,
    expand: bool = False,
) -> Sequence[dict[str, Any]]:
    folder = unquoted(path).strip("/")
    with hub.database.transaction() as db:
        items = folders.inside(versions.tree(db, commit), folder, recursive)
        if folder and not items:
            raise entry_not_found(folder)
        shown = page(items, request, response, hub, 50 if expand else 1000)
        response.headers["X-Repo-Commit"] = commit.sha
        return [_described(hub, repo, item, expand) for item in shown]


@router.post("/api/{kind}/{owner}/{name}/paths-info/{revision}")
async def paths_info(
    request: Request, repo: VisibleRepo, commit: TheCommit, hub: TheHub
) -> list[dict[str, Any]]:
    """Asks with a form body: `paths=a&paths=b&expand=false`."""
    form = parse_qs((await request.body()).decode("ascii", "replace"), keep_blank_values=True)
    expand = form.get("expand", ["false"])[0].lower() == "true"
    return await run_in_threadpool(_some, hub, repo, commit, form.get("paths", []), expand)


def _some(
    hub: Hub, repo: Repo, commit: Commit, paths: Sequence[str], expand: bool
) -> list[dict[str, Any]]:
    with hub.database.transaction() as db:
        items = folders.inside(versions.tree(db, commit), "", recursive=True)
        by_path = {item.path: item for item in items}
        asked = [by_path[path] for path in dict.fromkeys(paths) if path in by_path]
        return [_described(hub, repo, item, expand) for item in asked]


def _described(hub: Hub, repo: Repo, item: Entry | Folder, expand: bool) -> dict[str, Any]:
    if isinstance(item, Folder):
        answer: dict[str, Any] = {
            "type": "directory",
            "oid": item.oid,
            "size": 0,
            "path": item.path,
        }
    else:
        answer = models.tree_entry(item)
    if expand:
        with hub.database.transaction() as db:
            last = versions.resolve(db, repo, item.changed_in)
        answer["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.date}
    return answer


@router.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve_model(
    request: Request,
    owner: str,
    name: str,
    revision: str,
    path: str,
    hub: TheHub,
    caller: TheCaller,
) -> Response:
    return resolve_file(request, Kind.models, owner, name, revision, path, hub, caller)


@router.api_route("/{kind}/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve_file(
    request: Request,
    kind: Kind,
    owner: str,
    name: str,
    revision: str,
    path: str,
    hub: TheHub,
    caller: TheCaller,
) -> Response:
    repo = get_repo(kind, owner, name, hub, caller)
    with hub.database.transaction() as db:
        repos.require_files(db, repo, caller)
    commit = resolve(request, hub, repo, revision)
    try:
        with hub.database.transaction() as db:
            entry = versions.entry(db, commit, unquoted(path))
    except HubError as error:
        error.headers["X-Repo-Commit"] = commit.sha
        raise
    if request.method == "GET":
        hub.count_download(repo, entry.path)
    return _content(request, hub, repo, commit, entry)


def _content(request: Request, hub: Hub, repo: Repo, commit: Commit, entry: Entry) -> Response:
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": commit.sha,
        "Accept-Ranges": "bytes",
        "Content-Type": _media_type(entry),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(entry.path.rsplit('/', 1)[-1])}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if entry.xet_hash and hub.xet:
        token = f"{hub.url}/api/{repo.type}s/{repo.id}/xet-read-token/{commit.sha}"
        headers |= {"X-Xet-Hash": entry.xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    start, stop, status = 0, entry.size, 200
    if asked := _range(request.headers.get("range", ""), entry.size, headers):
        (start, stop), status = asked, 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    body = hub.blobs.read(entry.sha256, start, stop)
    return StreamingResponse(body, status_code=status, headers=headers)


def _media_type(entry: Entry) -> str:
    """Pictures as themselves, so that cards can show them; nothing that a browser would run."""
    picture = PICTURES.get(entry.path.rsplit(".", 1)[-1].lower())
    return picture or ("application/octet-stream" if entry.lfs else "text/plain; charset=utf-8")


def _range(header: str, size: int, headers: dict[str, str]) -> tuple[int, int] | None:
    """[start, stop) of a single-range request, None to send everything; 416 where nothing lies."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match[0] == "bytes=-":
        return None
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= stop:
        error = HubError(416, "Range Not Satisfiable")
        error.headers = {**headers, "Content-Range": f"bytes */{size}"}
        raise error
    return start, stop
