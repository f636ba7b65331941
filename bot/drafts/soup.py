"""A soup's repository: weights, config and tokenizer, card, picture, provenance.

Here stored rows become the values that `bot.cards` and `bot.provenance` print; nothing is computed
that the gate has not computed before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot import cards
from bot.children import child
from bot.drafts.software import software
from bot.drafts.soup_card import PICTURE, score_of, soup_card
from bot.drafts.story import Story, read_story
from bot.errors import Broken
from bot.hashes import sha256_of
from bot.licences import Terms
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
from bot.shelf import TEXTS, donor_of, is_weights, link_all
from bot.worker.jobs import Picture
from bot.world import Base, World
from db.rows import SoupRow
from merge.mergekit import to_mergekit_yaml
from merge.outcomes import Outcomes
from merge.splits import Split


def soup_draft(world: World, base: Base, soup_id: int, version: int, folder: Path) -> Terms:
    """Fill `folder` with everything that version `version` of the target will hold; its terms. The
    soup has been written (`bot.build.written`).

    Raises Broken unless the weights are those that were built and judged.
    """
    story = read_story(world, base, soup_id)
    weights = world.shelf.soup(story.soup.recipe_digest)
    link_all([weights / name for name in sorted(story.soup.files or {})], folder)
    link_all(sorted(world.shelf.trusted(base.section).iterdir()), folder)
    origin = world.shelf.texts(story.reference.repo, story.reference.sha)
    link_all([file for file in origin.iterdir() if file.name in TEXTS], folder)
    _draw(world, story, folder / PICTURE)
    (folder / "mergekit.yaml").write_text(to_mergekit_yaml(story.recipe))
    (folder / "recipe.json").write_text(story.recipe.to_json())
    card, terms = soup_card(world, story, version)
    (folder / "README.md").write_text(cards.render_soup(card), encoding="utf-8")
    files = file_digests(folder)
    _require_what_was_judged(story.soup, files)
    (folder / FILE_NAME).write_text(_provenance(story, version, files).to_json())
    return terms


def _require_what_was_judged(soup: SoupRow, files: Mapping[str, FileDigest]) -> None:
    """What is sent is what was measured, by the digests that the publication will state."""
    built = {name: digest["sha256"] for name, digest in (soup.files or {}).items()}
    drafted = {path: digest.sha256 for path, digest in files.items() if is_weights(path)}
    if not built or drafted != built:
        raise Broken(f"the draft of soup {soup.recipe_digest[:12]} has not the weights judged")


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


def _provenance(story: Story, version: int, files: dict[str, FileDigest]) -> Provenance:
    repo, sha = donor_of(story.base.section)
    suite = story.base.benchmark.suite
    return Provenance(
        kind=Kind.SOUP,
        repo=story.base.section.target,
        version=f"v{version}",
        digest=story.soup.recipe_digest,
        recipe=json.loads(story.recipe.to_json()),
        files=files,
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
        if (score := score_of(outcomes, category))
    ]


def _gate_record(story: Story) -> GateRecord:
    best = story.search.best or {}
    differences: dict[str, Mapping[str, Any]] = dict(story.verdict["differences"])
    if story.verdict.get("pooled"):
        both = story.verdict["pooled"]["differences"]
        differences |= {f"{name}, both rounds": d for name, d in both.items()}
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
