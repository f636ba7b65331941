"""A soup's repository: weights, config and tokenizer, card, picture, provenance.

Here stored rows become the values that `bot.cards` and `bot.provenance` print; nothing is computed
that the gate has not computed before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from bot import cards
from bot.children import child
from bot.drafts.software import software
from bot.errors import Rejected
from bot.licences import Terms, Use, combine
from bot.provenance import (
    FILE_NAME,
    ComparisonRecord,
    Donor,
    FileDigest,
    GateRecord,
    Kind,
    Measured,
    Provenance,
    ScoreRecord,
)
from bot.publish import sha256_of
from bot.reasons import Reason
from bot.shelf import TEXTS, donor_of, link_all
from bot.table import outcomes_of, outcomes_of_soup
from bot.worker.jobs import Picture
from bot.world import Base, World
from db.reader import CandidateRow, MemberRow, SearchRow, SelectionRow, SoupRow
from merge.outcomes import Outcomes
from merge.recipe import Recipe
from merge.splits import Split

PICTURE = "categories.png"


@dataclass(frozen=True)
class Story:
    """Everything that is known about one soup that passed its gate."""

    base: Base
    soup: SoupRow
    recipe: Recipe
    members: tuple[MemberRow, ...]  # of the search, in its order; weight 0 where it left one out
    reference: CandidateRow
    search: SearchRow
    selection: SelectionRow
    look: int
    level: float
    verdict: Mapping[str, Any]
    report: Mapping[str, Outcomes]  # "soup", "base" and each member's pin
    incumbent: str | None  # tag of the version before this one


def soup_draft(world: World, base: Base, soup_id: int, version: int, folder: Path) -> None:
    """Fill `folder` with everything that version `version` of the target will hold."""
    story = _story(world, base, soup_id)
    link_all(sorted(world.shelf.soup(story.soup.recipe_digest).glob("model*")), folder)
    link_all(sorted(world.shelf.trusted(base.section).iterdir()), folder)
    origin = world.shelf.texts(story.reference.repo, story.reference.sha)
    link_all([file for file in origin.iterdir() if file.name in TEXTS], folder)
    _draw(world, story, folder / PICTURE)
    (folder / "mergekit.yaml").write_text(story.recipe.to_mergekit_yaml())
    (folder / "recipe.json").write_text(story.recipe.to_json())
    card = _card(world, story, version)
    (folder / "README.md").write_text(cards.render_soup(card), encoding="utf-8")
    (folder / FILE_NAME).write_text(_provenance(story, version, folder).to_json())


def _story(world: World, base: Base, soup_id: int) -> Story:
    read = world.reader
    soup = read.soup(soup_id)
    search = read.search(soup.search_id)
    used = {m.candidate.id: m for m in read.soup_members(soup_id)}
    everyone = read.candidates(search.members)
    members = tuple(used.get(c.id, MemberRow(c, 0, 1)) for c in everyone)
    reference = read.base_candidate(base.id)
    look = read.look_of(soup_id, base.benchmark.splits.digest)
    assert soup.verdict is not None and search.best is not None and look is not None
    ids = [m.candidate.id for m in members]
    rows = outcomes_of(world, base, Split.REPORT, [*ids, reference.id])
    report = {m.candidate.pin: rows[m.candidate.id] for m in members}
    report["base"] = rows[reference.id]
    report["soup"] = outcomes_of_soup(world, base, Split.REPORT, soup_id)
    published = [p for p in read.publications(base.section.target) if p.tag]
    return Story(
        base=base,
        soup=soup,
        recipe=Recipe.from_json(soup.recipe),
        members=members,
        reference=reference,
        search=search,
        selection=read.selection(search.selection_id),
        look=look.k,
        level=look.level,
        verdict=soup.verdict,
        report=report,
        incumbent=published[-1].tag if published else None,
    )


# -- the card ------------------------------------------------------------------------------------


def _card(world: World, story: Story, version: int) -> cards.SoupCard:
    base = story.base
    donor_repo, donor_sha = donor_of(base.section)
    licence = _terms(story)
    return cards.SoupCard(
        repo=base.section.target,
        version=f"v{version}",
        base=_source(story.reference),
        donor=cards.Source(donor_repo, donor_sha, story.reference.licence or "unknown"),
        ingredients=tuple(_ingredient(story, member) for member in story.members),
        licence=cards.Licence(licence.licence or "other"),
        dtype=_dtype(world, story),
        recipe_digest=story.soup.recipe_digest,
        mergekit_yaml=story.recipe.to_mergekit_yaml(),
        benchmark=_benchmark(base),
        rows=tuple(_row(story, category) for category in base.benchmark.categories),
        mean=_mean(story),
        selection=_selection(story),
        search=_search(story),
        gate=_gate(story),
        usage=_usage(base),
        contact=world.settings.contact or f"a discussion at {base.section.target}",
        picture=PICTURE,
    )


def _terms(story: Story) -> Terms:
    """Raises Rejected where the licences do not allow a public soup and it would be one."""
    section = story.base.section
    terms = combine([story.reference.licence, *(m.candidate.licence for m in story.members)])
    withheld = any(member.candidate.publishable is False for member in story.members)
    if (withheld or terms.use is not Use.PUBLIC) and not section.private:
        raise Rejected(Reason.LICENCE_CONFLICT, section.target, "set private = true to keep it")
    return terms


def _source(candidate: CandidateRow) -> cards.Source:
    return cards.Source(
        candidate.repo, candidate.sha, candidate.licence or "unknown", candidate.author
    )


def _ingredient(story: Story, member: MemberRow) -> cards.Ingredient:
    chosen = [c for c, i in story.selection.experts.items() if i == member.candidate.id]
    weight = Fraction(member.numerator, member.denominator)
    return cards.Ingredient(_source(member.candidate), weight, tuple(chosen))


def _benchmark(base: Base) -> cards.Benchmark:
    suite, benchmark = base.benchmark.suite, base.benchmark
    counts = {split: sum(benchmark.sizes(split).values()) for split in Split}
    return cards.Benchmark(
        name=suite.name,
        version=suite.version,
        digest=suite.digest,
        splits_digest=benchmark.splits.digest,
        seed=base.section.seed,
        select=counts[Split.SELECT],
        tune=counts[Split.TUNE],
        report=counts[Split.REPORT],
    )


def _score(outcomes: Outcomes, category: str) -> cards.Score:
    score = outcomes.score(category)
    return cards.Score(score.value, score.stderr if score.n > 1 else 0.0, score.n)


def _row(story: Story, category: str) -> cards.CategoryRow:
    difference = story.verdict["categories"][category]
    return cards.CategoryRow(
        category=category,
        soup=_score(story.report["soup"], category),
        ingredients=tuple(_score(story.report[m.candidate.pin], category) for m in story.members),
        base=_score(story.report["base"], category),
        versus_best=_difference(difference),
        corrected=difference["holm"] is not None and difference["holm"] < story.level,
    )


def _mean(story: Story) -> cards.CategoryRow:
    def mean(outcomes: Outcomes) -> cards.Score:
        return cards.mean_score([_score(outcomes, c) for c in outcomes.categories])

    return cards.CategoryRow(
        category="mean",
        soup=mean(story.report["soup"]),
        ingredients=tuple(mean(story.report[m.candidate.pin]) for m in story.members),
        base=mean(story.report["base"]),
        versus_best=_difference(story.verdict["differences"]["best member"]),
    )


def _difference(raw: Mapping[str, Any]) -> cards.Difference:
    return cards.Difference(raw["mean"], raw["low"], raw["high"], 1 - raw["level"])


def _selection(story: Story) -> cards.SelectionFigures:
    section = story.base.section
    return cards.SelectionFigures(
        method=story.selection.method,
        settings=(("tau", str(section.tau)), ("correlation", "signed, over all scored models")),
        considered=len(story.selection.inputs),
    )


def _search(story: Story) -> cards.SearchFigures:
    best = story.search.best or {}
    items = sum(story.base.benchmark.sizes(Split.TUNE).values())
    tune = cards.Score(best["value"], best["stderr"], items)
    return cards.SearchFigures(story.search.strategy, best["trials"], tune)


def _gate(story: Story) -> cards.GateFigures:
    differences = story.verdict["differences"]
    pins = [member.candidate.pin for member in story.members]
    against = {name: _difference(raw) for name, raw in differences.items()}
    return cards.GateFigures(
        best=pins.index(story.verdict["best_member"]),
        look=story.look,
        level=story.level,
        alpha=story.base.section.alpha,
        versus_best=against["best member"],
        versus_uniform=against.get("uniform"),
        versus_incumbent=against.get("incumbent"),
        incumbent=story.incumbent if "incumbent" in against else None,
        floor=story.base.section.floor,
        gained=differences["best member"]["gained"],
        lost=differences["best member"]["lost"],
        margin=story.base.section.margin,
    )


def _usage(base: Base) -> cards.Usage:
    """The snippet asks the first item of the select split: a prompt that the model knows."""
    category = base.benchmark.suite.categories[0]
    return cards.Usage(prompt=category.items[0].prompt, max_new_tokens=32)


def _dtype(world: World, story: Story) -> str:
    config = json.loads((world.shelf.trusted(story.base.section) / "config.json").read_text())
    return story.recipe.dtype or config.get("dtype") or config.get("torch_dtype") or "float32"


# -- picture and provenance ----------------------------------------------------------------------


def _draw(world: World, story: Story, out: Path) -> None:
    names = {"soup": "soup", **{m.candidate.pin: m.candidate.repo for m in story.members}}
    names["base"] = story.reference.repo
    data = {
        "categories": list(story.base.benchmark.categories),
        "split": str(Split.REPORT),
        "models": [_bars(name, key, story.report[key]) for key, name in names.items()],
    }
    with child(world.executor, Picture("categories", data, out)) as running:
        for _ in running.lines():
            pass


def _bars(name: str, key: str, outcomes: Outcomes) -> dict[str, Any]:
    scores = [outcomes.score(category) for category in outcomes.categories]
    role = key if key in ("soup", "base") else "member"
    return {
        "name": name,
        "role": role,
        "values": [score.value for score in scores],
        "stderr": [score.stderr for score in scores],
    }


def _provenance(story: Story, version: int, folder: Path) -> Provenance:
    repo, sha = donor_of(story.base.section)
    suite = story.base.benchmark.suite
    return Provenance(
        kind=Kind.SOUP,
        repo=story.base.section.target,
        version=f"v{version}",
        digest=story.soup.recipe_digest,
        recipe=json.loads(story.recipe.to_json()),
        files=file_digests(folder),
        software=software(),
        donor=Donor(repo, sha),
        measured=Measured(
            suite=suite.name,
            version=suite.version,
            digest=suite.digest,
            splits_digest=story.base.benchmark.splits.digest,
            seed=story.base.section.seed,
        ),
        scores=tuple(_records(story)),
        gate=_gate_record(story),
    )


def file_digests(folder: Path) -> dict[str, FileDigest]:
    """Every file of a draft but the provenance itself."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != FILE_NAME)
    return {
        f.relative_to(folder).as_posix(): FileDigest(sha256_of(f), f.stat().st_size) for f in files
    }


def _records(story: Story) -> list[ScoreRecord]:
    return [
        ScoreRecord(model, category, score.value, score.stderr, score.n)
        for model, outcomes in story.report.items()
        for category in outcomes.categories
        if (score := _score(outcomes, category))
    ]


def _gate_record(story: Story) -> GateRecord:
    best = story.search.best or {}
    differences: Mapping[str, Mapping[str, Any]] = story.verdict["differences"]
    return GateRecord(
        look=story.look,
        level=story.level,
        alpha=story.base.section.alpha,
        margin=story.base.section.margin,
        best_member=story.verdict["best_member"],
        soups_tried=best["trials"],
        tune=best["value"],
        report=story.verdict["overall"]["soup"],
        comparisons=tuple(
            ComparisonRecord(name, d["mean"], d["low"], d["high"], 1 - d["level"])
            for name, d in differences.items()
        ),
    )
