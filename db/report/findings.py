"""What was measured and made of it: scores, rejections, soups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select

from db.engine import reading
from db.schema import (
    bases,
    benchmarks,
    candidates,
    looks,
    publications,
    scores,
    soup_members,
    soups,
    trials,
)


@dataclass(frozen=True)
class Score:
    base: str
    model: str
    sha: str
    role: str
    category: str
    value: float
    n: int
    stderr: float


@dataclass(frozen=True)
class Ingredient:
    model: str
    sha: str
    weight: str


@dataclass(frozen=True)
class Soup:
    base: str
    recipe_digest: str
    state: str
    ingredients: tuple[Ingredient, ...]
    trials: int
    look: int | None
    gain: float | None  # soup minus best member on the report split, a share
    low: float | None
    high: float | None
    published: str | None  # repo@tag
    reasons: tuple[str, ...]


def category_scores(engine: Engine, base: str | None = None, split: str = "select") -> list[Score]:
    """The category table in long form, by base, model and suite order of categories."""
    query = (
        select(
            bases.c.repo.label("base"),
            candidates.c.repo.label("model"),
            candidates.c.sha,
            candidates.c.role,
            scores.c.category,
            scores.c.value,
            scores.c.n,
            scores.c.stderr,
            benchmarks.c.categories,
        )
        .join(candidates, candidates.c.id == scores.c.candidate_id)
        .join(bases, bases.c.id == candidates.c.base_id)
        .join(benchmarks, benchmarks.c.id == scores.c.benchmark_id)
        .where(scores.c.split == split)
    )
    if base is not None:
        query = query.where(bases.c.repo == base)
    with reading(engine) as connection:
        rows = list(connection.execute(query))
    rows.sort(key=lambda r: (r.base, r.role, r.model, r.sha, r.categories.index(r.category)))
    return [Score(r.base, r.model, r.sha, r.role, r.category, r.value, r.n, r.stderr) for r in rows]


def rejections(engine: Engine) -> dict[str, str]:
    """Rejected repo -> reason code."""
    query = select(candidates.c.repo, candidates.c.reason).where(candidates.c.state == "rejected")
    with reading(engine) as connection:
        return {row.repo: row.reason for row in connection.execute(query.order_by("repo"))}


def soup_list(engine: Engine, base: str | None = None) -> list[Soup]:
    """Every soup that was planned, newest first."""
    query = select(soups, bases.c.repo.label("base")).join(bases, bases.c.id == soups.c.base_id)
    if base is not None:
        query = query.where(bases.c.repo == base)
    with reading(engine) as connection:
        rows = list(connection.execute(query.order_by(soups.c.id.desc())))
    return [_soup(engine, row) for row in rows]


def _soup(engine: Engine, row: Any) -> Soup:
    with reading(engine) as connection:
        members = connection.execute(
            select(candidates, soup_members.c.numerator, soup_members.c.denominator)
            .join(soup_members, soup_members.c.candidate_id == candidates.c.id)
            .where(soup_members.c.soup_id == row.id)
            .order_by(soup_members.c.position)
        )
        ingredients = tuple(
            Ingredient(m.repo, m.sha, f"{m.numerator}/{m.denominator}") for m in members
        )
        tried = select(func.count()).where(trials.c.search_id == row.search_id)
        look = select(looks.c.k).where(looks.c.soup_id == row.id)
        shown = select(publications.c.target, publications.c.tag).where(
            publications.c.soup_id == row.id, publications.c.tag.is_not(None)
        )
        published = connection.execute(shown).first()
        best = (row.verdict or {}).get("differences", {}).get("best member", {})
        return Soup(
            base=row.base,
            recipe_digest=row.recipe_digest,
            state=row.state,
            ingredients=ingredients,
            trials=connection.execute(tried).scalar_one(),
            look=connection.execute(look).scalar(),
            gain=best.get("mean"),
            low=best.get("low"),
            high=best.get("high"),
            published=f"{published.target}@{published.tag}" if published else None,
            reasons=tuple((row.verdict or {}).get("reasons", ())),
        )
