"""What the planner sees of one base, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Candidate:
    id: int
    repo: str
    sha: str
    role: str
    state: str
    author: str
    created_at: datetime | None
    likes: int
    downloads: int
    seen_at: datetime


@dataclass(frozen=True)
class Selection:
    id: int
    inputs: tuple[int, ...]
    members: tuple[int, ...]
    created_at: datetime
    whole: bool = True  # every member is still admitted


@dataclass(frozen=True)
class Search:
    id: int
    selection_id: int
    state: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Soup:
    id: int
    search_id: int
    state: str
    recipe_digest: str


@dataclass(frozen=True)
class Publication:
    id: int
    kind: str
    target: str
    version: int
    state: str


@dataclass(frozen=True)
class Router:
    id: int
    pair_digest: str
    config_digest: str


@dataclass(frozen=True)
class Attempt:
    state: str
    failures: int
    not_before: datetime | None


@dataclass(frozen=True)
class Request:
    id: int
    verb: str
    base: str | None
    model: str | None
    force: bool
    created_at: datetime


@dataclass(frozen=True)
class BaseFacts:
    """Everything that `plan` may look at, for one base."""

    id: int
    repo: str
    sha: str
    watched_at: datetime | None
    open: tuple[Candidate, ...]  # sighted, or admitted without a full row of scores
    scored: tuple[int, ...]  # ids with a full row on the select split, newest sha of each repo
    base_scored: bool  # the base is among them
    first_unselected_at: datetime | None  # when the first score that no selection saw was finished
    last_scored_at: datetime | None
    selection: Selection | None
    search: Search | None  # the latest search
    soup: Soup | None  # the latest soup of that search
    passed: Soup | None  # the soup that passed its gate last, of whichever search
    soup_drafted: bool  # that one has a publication, in whatever state
    router: Router | None
    router_drafted: bool
    publications: tuple[Publication, ...]  # not verified or dropped
    published_today: int
    spent_seconds: float  # in the last 24 hours
    spent_bytes: int
    attempts: Mapping[str, Attempt]
