"""What handlers hand back: one frozen value for each fact worth keeping.

A handler yields an outcome as soon as it has one; the loop commits it in a transaction of its own
(`db.record`). Outcomes carry plain values and row ids, never rows or connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Files = Mapping[str, Mapping[str, Any]]  # {path: {"sha256": ..., "size": ...}}


@dataclass(frozen=True)
class Sighted:
    """A repository that calls itself a fine-tune of the base, at the sha it has now."""

    base_id: int
    repo: str
    sha: str
    author: str
    created_at: datetime | None
    modified_at: datetime | None
    likes: int = 0
    downloads: int = 0
    again: bool = False  # a person asked for another look at a rejected one


@dataclass(frozen=True)
class Watched:
    """A listing was read to its end."""

    base_id: int
    head: str | None
    newest_created_at: datetime | None
    swept: bool


@dataclass(frozen=True)
class Admitted:
    candidate_id: int
    licence: str
    bytes: int
    weights_digest: str
    publishable: bool  # whether a public soup may hold it
    files: tuple[tuple[str, int, str | None, str], ...]  # path, size, sha256, blob id
    languages: tuple[str, ...] = ()
    not_for_all_audiences: bool = False


@dataclass(frozen=True)
class Rejected:
    candidate_id: int
    code: str
    detail: str


@dataclass(frozen=True)
class Withdrawn:
    """The repository or this sha of it is gone, private or disabled."""

    candidate_id: int
    detail: str


@dataclass(frozen=True)
class Examined:
    """The downloaded tensors were read through once: finite, sane norms, this content."""

    candidate_id: int
    fingerprint: str
    sketch: tuple[float, ...]  # its direction from the base, to find near copies
    health: Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """One category of one split, item by item. Exactly one of the two ids is given."""

    benchmark_id: int
    split: str
    category: str
    value: float
    n: int
    stderr: float
    outcomes: str
    candidate_id: int | None = None
    soup_id: int | None = None


@dataclass(frozen=True)
class Spent:
    base_id: int
    verb: str
    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class Selected:
    base_id: int
    benchmark_id: int
    method: str
    inputs: tuple[int, ...]
    experts: Mapping[str, int]
    members: tuple[int, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class SearchOpened:
    base_id: int
    selection_id: int
    benchmark_id: int
    strategy: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Tried:
    """Answers for one weight vector, "-" for items not asked; they add to those already kept."""

    search_id: int
    weights: str
    outcomes: Mapping[str, str]
    split: str = "tune"


@dataclass(frozen=True)
class Searched:
    """The search is over; `best` holds weights, value and how many soups were tried."""

    search_id: int
    best: Mapping[str, Any]


@dataclass(frozen=True)
class SoupPlanned:
    base_id: int
    search_id: int
    benchmark_id: int
    recipe_digest: str
    recipe: str
    members: tuple[tuple[int, int, int], ...]  # candidate id, numerator, denominator


@dataclass(frozen=True)
class SoupBuilt:
    soup_id: int
    files: Files


@dataclass(frozen=True)
class LookTaken:
    """Recorded before the report split is evaluated, so that a kill in between does not make the
    look free.
    """

    base_id: int
    soup_id: int
    splits_digest: str
    k: int
    level: float


@dataclass(frozen=True)
class Judged:
    soup_id: int
    passed: bool
    verdict: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class Reopened:
    """The verdict is about another version before than there is now: to be judged again, in the
    same look."""

    soup_id: int
    why: str


@dataclass(frozen=True)
class Calibrated:
    base_id: int
    pair_digest: str
    base: str
    aligned: str
    config_digest: str
    config: str


@dataclass(frozen=True)
class Drafted:
    """A publication rendered and stored; it is sent exactly as stored.

    public: whether the licences of its parts allow that; the settings may change before it is sent.
    """

    base_id: int
    kind: str
    target: str
    digest: str
    version: int
    folder: str
    files: Files
    state: str
    soup_id: int | None = None
    router_id: int | None = None
    public: bool = True


@dataclass(frozen=True)
class Moved:
    """A publication changed state; None leaves a field as it is."""

    publication_id: int
    state: str
    parent: str | None = None
    commit_sha: str | None = None
    tag: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Noted:
    """Something a reader of `bot explain` should know and no other outcome says."""

    base_id: int | None
    subject: str
    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Paused:
    name: str
    why: str


Outcome = (
    Sighted
    | Watched
    | Admitted
    | Rejected
    | Withdrawn
    | Examined
    | Scored
    | Spent
    | Selected
    | SearchOpened
    | Tried
    | Searched
    | SoupPlanned
    | SoupBuilt
    | LookTaken
    | Judged
    | Reopened
    | Calibrated
    | Drafted
    | Moved
    | Noted
    | Paused
)
