"""Addresses for browsers."""

from __future__ import annotations

from functools import cache, partial
from importlib import resources
from typing import Annotated
from urllib.parse import quote

import jinja2
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bot.localhub import discussions, folders, repos, versions
from bot.localhub.errors import HubError, entry_not_found
from bot.localhub.hub import Hub
from bot.localhub.pages import views
from bot.localhub.versions import Entry
from bot.localhub.wire.deps import Kind, TheCaller, TheHub, get_repo, resolve, unquoted

router = APIRouter()
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MAX_SHOWN = 500_000  # bytes of a text file on its page


@router.get("/")
def front(
    hub: TheHub,
    caller: TheCaller,
    q: str | None = None,
    tag: Annotated[list[str], Query()] = [],  # noqa: B006
) -> Response:
    cards = views.front_page(hub, caller, search=q, tags=tag)
    return _page("list.html.jinja", cards=cards, q=q or "", tags=tag, title="Models")


@router.get("/_style.css")
def style() -> Response:
    text = resources.files(__package__).joinpath("style.css").read_text("utf-8")
    return Response(text, media_type="text/css")


@router.get("/{owner}")
def namespace(owner: str, hub: TheHub, caller: TheCaller) -> Response:
    cards = views.front_page(hub, caller, search=None, tags=[], author=owner)
    if not cards:
        raise HubError(404, f"Nothing to see of {owner}")
    return _page("list.html.jinja", cards=cards, q="", tags=[], title=owner)


@router.get("/{owner}/{name}")
@router.get("/{owner}/{name}/tree/{revision}")
@router.get("/{owner}/{name}/tree/{revision}/{path:path}")
def model(
    request: Request,
    owner: str,
    name: str,
    hub: TheHub,
    caller: TheCaller,
    revision: str = "main",
    path: str = "",
) -> Response:
    """The model page; with a folder's path only the files in it."""
    repo = get_repo(Kind.models, owner, name, hub, caller)
    commit = resolve(request, hub, repo, revision)
    page = views.model_page(hub, repo, commit, caller)
    folder = unquoted(path).strip("/")
    items = folders.inside(page.files, folder, recursive=False)
    if folder and not items:
        raise entry_not_found(folder)
    known = {"page": page, "repo": repo, "commit": commit, "items": items, "folder": folder}
    return _page("folder.html.jinja" if folder else "model.html.jinja", hub=hub, **known)


@router.get("/{owner}/{name}/blob/{revision}/{path:path}")
def blob(
    request: Request,
    owner: str,
    name: str,
    revision: str,
    path: str,
    hub: TheHub,
    caller: TheCaller,
) -> Response:
    repo = get_repo(Kind.models, owner, name, hub, caller)
    commit = resolve(request, hub, repo, revision)
    with hub.database.transaction() as db:
        repos.require_files(db, repo, caller)
        entry = versions.entry(db, commit, unquoted(path))
    text = _shown(hub, entry)
    return _page("blob.html.jinja", repo=repo, commit=commit, entry=entry, text=text)


def _shown(hub: Hub, entry: Entry) -> str | None:
    """The text of a small text file, else None."""
    if entry.lfs or entry.size > MAX_SHOWN:
        return None
    text = views.text_of(hub, entry)
    return None if "\0" in text else text


@router.get("/{owner}/{name}/commits/{revision}")
def commits(
    request: Request, owner: str, name: str, revision: str, hub: TheHub, caller: TheCaller
) -> Response:
    repo = get_repo(Kind.models, owner, name, hub, caller)
    commit = resolve(request, hub, repo, revision)
    with hub.database.transaction() as db:
        line = versions.history(db, repo, commit)
    return _page("commits.html.jinja", repo=repo, commit=commit, commits=line)


@router.get("/{owner}/{name}/commit/{sha}")
def one_commit(owner: str, name: str, sha: str) -> Response:
    return RedirectResponse(f"/{owner}/{name}/tree/{sha}", 302)


@router.get("/{owner}/{name}/discussions")
def all_discussions(owner: str, name: str, hub: TheHub, caller: TheCaller) -> Response:
    repo = get_repo(Kind.models, owner, name, hub, caller)
    with hub.database.transaction() as db:
        found = discussions.all_of(db, repo)
    return _page("discussions.html.jinja", repo=repo, discussions=found)


@router.get("/{owner}/{name}/discussions/{num}")
def one_discussion(owner: str, name: str, num: int, hub: TheHub, caller: TheCaller) -> Response:
    repo = get_repo(Kind.models, owner, name, hub, caller)
    with hub.database.transaction() as db:
        found = discussions.get(db, repo, num)
        events = discussions.events(db, repo, num)
    return _page("discussion.html.jinja", repo=repo, discussion=found, events=events)


def error_page(status: int, message: str) -> Response:
    return _page("error.html.jinja", status, code=status, message=message)


def _page(template: str, status: int = 200, /, **values: object) -> Response:
    html = _templates().get_template(template).render(**values)
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(html, status, headers | {"Referrer-Policy": "no-referrer"})


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot.localhub.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = _size
    environment.filters["count"] = _count
    environment.filters["segment"] = partial(quote, safe="")
    environment.tests["folder"] = lambda item: isinstance(item, folders.Folder)
    return environment


def _size(number: float) -> str:
    """Bytes in decimal units, as the Hub shows them."""
    for unit in ("Bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "Bytes" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _count(number: float) -> str:
    for unit in ("", "K", "M", "B"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"
