"""Search over repositories: the query behind `GET /api/models`.

Pages are offsets into a sorted list, as on the real Hub: an item edited between two pages shows
twice or is skipped. Whoever reads must be ready for that.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from bot.localhub import repos
from bot.localhub.accounts import Caller
from bot.localhub.errors import bad_request
from bot.localhub.repos import Repo

SORTS = {
    "createdAt": "created_at",
    "lastModified": "modified_at",
    "downloads": "downloads",
    "likes": "(SELECT count(*) FROM likes WHERE likes.repo = repos.id)",
    "trendingScore": "created_at",  # nothing trends on a machine of one's own
}
SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Query:
    """All conditions must hold; `filter` is a list of tags."""

    type: str
    filter: Sequence[str] = ()
    author: str | None = None
    search: str | None = None
    pipeline: str | None = None
    gated: bool | None = None
    num_parameters: str | None = None
    sort: str | None = None


def find(db: sqlite3.Connection, query: Query, caller: Caller) -> list[Repo]:
    """Everything that matches and that `caller` may see, best first."""
    conditions, values = ["type = ?", "disabled = 0"], [query.type]
    for tag in query.filter:
        conditions.append("EXISTS (SELECT 1 FROM tags WHERE tags.repo = repos.id AND tag = ?)")
        values.append(tag)
    if query.author is not None:
        conditions.append("owner = ?")
        values.append(query.author)
    for word in (query.search or "").split():
        conditions.append("instr(lower(owner || '/' || name), lower(?))")
        values.append(word)
    if query.pipeline is not None:
        conditions.append(f"{_fact('pipeline')} = ?")
        values.append(query.pipeline)
    if query.gated is not None:
        conditions.append(f"gated IS {'NOT' if query.gated else ''} NULL")
    rows = db.execute(
        f"SELECT * FROM repos WHERE {' AND '.join(conditions)} "
        f"ORDER BY {_order(query.sort)} DESC, created_at DESC, id DESC",
        values,
    )
    found = [repos.from_row(row) for row in rows]
    found = [repo for repo in found if repos.may_see(db, repo, caller)]
    return _of_size(db, found, query.num_parameters) if query.num_parameters else found


def _order(sort: str | None) -> str:
    if sort is None:
        return SORTS["trendingScore"]
    if sort not in SORTS:
        raise bad_request(f"Invalid sort parameter: {sort}")
    return SORTS[sort]


def _fact(key: str) -> str:
    return f"(SELECT facts ->> '$.{key}' FROM summaries WHERE summaries.repo = repos.id)"


def _of_size(db: sqlite3.Connection, found: Sequence[Repo], bounds: str) -> list[Repo]:
    """`min:6B,max:9B`: by the parameters that the safetensors headers add up to."""
    least, most = 0.0, float("inf")
    for part in bounds.split(","):
        match = re.fullmatch(r"(min|max):(\d+(?:\.\d+)?)([KMBT]?)", part.strip())
        if match is None:
            raise bad_request(f"Invalid num_parameters: {bounds}")
        number = float(match[2]) * SUFFIXES.get(match[3], 1)
        least, most = (number, most) if match[1] == "min" else (least, number)
    sizes = {
        row["repo"]: json.loads(row["facts"])["safetensors"]
        for row in db.execute("SELECT repo, facts FROM summaries")
    }
    return [repo for repo in found if (size := sizes[repo.key]) and least <= size["total"] <= most]
