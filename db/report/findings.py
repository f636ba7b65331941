"""What was measured and made of it: scores, rejections, soups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from db.engine import reading
from db.schema import (
    bases,
    benchmarks,
    candidates,
    looks,
    publications,
    scores,
    searches,
    soup_members,
    soups,
    trials,
)


@dataclass(frozen=True)
class Score:
    """What one model answers of one category: a share of `n` items."""

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
    """A member of a soup, at its pinned sha, with its exact weight, such as 2/5."""

    model: str
    sha: str
    weight: str


@dataclass(frozen=True)
class Comparison:
    """Soup minus another at the gate, as shares of the items."""

    against: str  # best member, incumbent, uniform, greedy or base
    gain: float
    low: float
    high: float
    confidence: float
    items: int
    gained: int
    lost: int
    both_rounds: bool  # with the tune items of a second round, where report items are few


@dataclass(frozen=True)
class Soup:
    base: str
    recipe_digest: str
    state: str
    ingredients: tuple[Ingredient, ...]
    trials: int
    evaluations: float | None  # what the search cost, in complete evaluations of the tune split
    grid: int | None  # complete evaluations that the published method takes
    look: int | None
    comparisons: tuple[Comparison, ...]
    optimism: float | None  # tune score minus report score, a share
    published: str | None  # repo@tag
    reasons: tuple[str, ...]


def category_scores(engine: Engine, base: str | None = None, split: str = "select") -> list[Score]:
    """The category table in long form, by base, model and suite order of categories.

    Under the benchmark that judges each base now; the view `category_table` has all of them.
    """
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
        .where(
            scores.c.split == split,
            bases.c.benchmark_id.is_(None) | (scores.c.benchmark_id == bases.c.benchmark_id),
        )
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
        rows = connection.execute(query.order_by(soups.c.id.desc())).all()
        return [_soup(connection, row) for row in rows]


def _soup(connection: Connection, row: Row[Any]) -> Soup:
    tried = select(func.count()).where(
        trials.c.search_id == row.search_id, trials.c.split == "tune"
    )
    found = select(searches.c.best).where(searches.c.id == row.search_id)
    best = connection.execute(found).scalar() or {}
    look = select(looks.c.k).where(looks.c.soup_id == row.id)
    verdict = row.verdict or {}
    return Soup(
        base=row.base,
        recipe_digest=row.recipe_digest,
        state=row.state,
        ingredients=_ingredients(connection, row.id),
        trials=best.get("trials", connection.execute(tried).scalar_one()),
        evaluations=best["evaluations"] / best["full"] if "full" in best else None,
        grid=best.get("grid"),
        look=connection.execute(look).scalar(),
        comparisons=(
            *_comparisons(verdict, both_rounds=False),
            *_comparisons(verdict.get("pooled") or {}, both_rounds=True),
        ),
        optimism=verdict.get("optimism"),
        published=_published(connection, row.id),
        reasons=tuple(verdict.get("reasons", ())),
    )


def _ingredients(connection: Connection, soup_id: int) -> tuple[Ingredient, ...]:
    members = connection.execute(
        select(candidates, soup_members.c.numerator, soup_members.c.denominator)
        .join(soup_members, soup_members.c.candidate_id == candidates.c.id)
        .where(soup_members.c.soup_id == soup_id)
        .order_by(soup_members.c.position)
    )
    return tuple(Ingredient(m.repo, m.sha, f"{m.numerator}/{m.denominator}") for m in members)


def _published(connection: Connection, soup_id: int) -> str | None:
    shown = select(publications.c.target, publications.c.tag).where(
        publications.c.soup_id == soup_id, publications.c.tag.is_not(None)
    )
    row = connection.execute(shown).first()
    return f"{row.target}@{row.tag}" if row else None


def _comparisons(verdict: Mapping[str, Any], *, both_rounds: bool) -> Iterator[Comparison]:
    for against, d in verdict.get("differences", {}).items():
        yield Comparison(
            against=against,
            gain=d["mean"],
            low=d["low"],
            high=d["high"],
            confidence=1 - d["level"],
            items=d["n_items"],
            gained=d["gained"],
            lost=d["lost"],
            both_rounds=both_rounds,
        )
