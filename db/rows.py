"""Rows as frozen values: what `db.reader` answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Row

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class FileRow:
    path: str
    size: int
    sha256: str | None  # None for a small file kept in git
    blob: str  # git blob id


@dataclass(frozen=True)
class Watermarks:
    """How far the listings of a base have been read."""

    newest_created_at: datetime | None
    watched_at: datetime | None
    swept_at: datetime | None


@dataclass(frozen=True)
class CandidateRow:
    id: int
    base_id: int
    repo: str
    sha: str
    role: str
    author: str
    licence: str | None
    state: str
    reason: str | None
    detail: str | None
    files: tuple[FileRow, ...]
    weights_digest: str | None
    fingerprint: str | None
    publishable: bool | None
    languages: tuple[str, ...]  # that its card states
    not_for_all_audiences: bool

    @property
    def pin(self) -> str:
        return f"{self.repo}@{self.sha}"


@dataclass(frozen=True)
class ScoreRow:
    """One category of one subject on one split; `outcomes` holds one character an item."""

    candidate_id: int | None
    soup_id: int | None
    split: str
    category: str
    value: float
    n: int
    stderr: float
    outcomes: str


@dataclass(frozen=True)
class SelectionRow:
    id: int
    base_id: int
    method: str
    inputs: tuple[int, ...]
    experts: Mapping[str, int]
    members: tuple[int, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class SearchRow:
    id: int
    base_id: int
    selection_id: int
    benchmark_id: int
    strategy: str
    members: tuple[int, ...]
    state: str
    best: Mapping[str, Any] | None


@dataclass(frozen=True)
class TrialRow:
    weights: str
    outcomes: Mapping[str, str]


@dataclass(frozen=True)
class EarlierTrial(TrialRow):
    members: tuple[int, ...]  # of its search, in the order of the weights


@dataclass(frozen=True)
class SketchRow:
    """Where a candidate lies, seen from the base: a unit vector, and a share of the base's norm."""

    sketch: tuple[float, ...]
    delta_norm: float


@dataclass(frozen=True)
class SoupRow:
    id: int
    base_id: int
    search_id: int
    benchmark_id: int
    recipe_digest: str
    recipe: str
    state: str
    files: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None


@dataclass(frozen=True)
class MemberRow:
    candidate: CandidateRow
    numerator: int
    denominator: int


@dataclass(frozen=True)
class LookRow:
    k: int
    level: float


@dataclass(frozen=True)
class RouterRow:
    id: int
    base_id: int
    pair_digest: str
    base: str
    aligned: str
    config_digest: str
    config: str


@dataclass(frozen=True)
class PublicationRow:
    id: int
    base_id: int
    kind: str
    target: str
    digest: str
    version: int
    soup_id: int | None
    router_id: int | None
    state: str
    folder: str
    files: Mapping[str, Any]
    parent: str | None
    commit_sha: str | None
    tag: str | None
    error: str | None
    public: bool | None


def to_values(kind: type[T], row: Row[Any]) -> T:
    """A row as a dataclass with the same names; columns that it does not have are left out."""
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind)})


def to_candidate(row: Row[Any]) -> CandidateRow:
    made = {"files", "languages", "not_for_all_audiences"}
    plain = {n: getattr(row, n) for n in CandidateRow.__dataclass_fields__ if n not in made}
    return CandidateRow(
        files=tuple(FileRow(*file) for file in row.files or ()),
        languages=tuple(row.languages or ()),
        not_for_all_audiences=bool(row.not_for_all_audiences),
        **plain,
    )


def to_selection(row: Row[Any]) -> SelectionRow:
    return SelectionRow(
        id=row.id,
        base_id=row.base_id,
        method=row.method,
        inputs=tuple(row.inputs),
        experts=row.experts,
        members=tuple(row.members),
        figures=row.figures,
    )


def to_search(row: Row[Any]) -> SearchRow:
    values = {n: getattr(row, n) for n in SearchRow.__dataclass_fields__ if n != "members"}
    return SearchRow(members=tuple(row.members), **values)
