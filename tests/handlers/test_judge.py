"""The bot's gate: what the soup is compared with, and what happens when items run out."""

from __future__ import annotations

from collections import Counter

import pytest

from bot.daemon import register
from bot.judge import judge
from bot.search import search
from bot.select import select
from db import outcomes as o
from db.schema import soups
from merge.simplex import parse_weights
from merge.splits import Split

from .family import SHA, Family

FILES = {"model.safetensors": {"sha256": "0" * 64, "size": 10}}


def judged(town):
    """Choose, search, pretend to build, judge: the verdict as stored, and every outcome."""
    town.run(select)
    selection = town.world.reader.last_selection(1, town.base.benchmark.id)
    planned = [s for s in town.run(search, selection.id) if isinstance(s, o.SoupPlanned)]
    (soup,) = planned
    row = last_soup(town)
    town.keep(o.SoupBuilt(row.id, FILES))
    town.oven.folders[soup.recipe_digest] = recipe(town, row)
    kept = town.run(judge, row.id)
    return last_soup(town), kept


def last_soup(town):
    with town.store.engine.connect() as connection:
        return connection.execute(soups.select().order_by(soups.c.id.desc())).first()


def recipe(town, row):
    members = town.world.reader.soup_members(row.id)
    return {m.candidate.repo: m.numerator / m.denominator for m in members}


def published(town, soup):
    town.keep(o.Drafted(1, "soup", "us/soup", soup.recipe_digest, 1, "/d", FILES, "approved",
                        soup_id=soup.id))  # fmt: skip
    town.keep(o.Moved(1, "committed", commit_sha=SHA, tag="v1"))


@pytest.fixture
def town(kitchen):
    made = kitchen(Family(3), floor=1.0)
    made.score("org/base", *made.family.names)
    return made


def test_every_rival_is_measured_on_the_same_items(town):
    soup, _ = judged(town)
    assert soup.state == "passed"
    differences = soup.verdict["differences"]
    assert set(differences) == {"best member", "uniform", "greedy", "base"}
    best = town.world.reader.search(1).best
    for role in ("uniform", "greedy"):
        weights = parse_weights(best["greedy_weights"].split() if role == "greedy" else ["1/3"] * 3)
        named = dict(zip(town.family.names, map(float, weights), strict=True))
        assert soup.verdict["overall"][role] == pytest.approx(truth(town, named))
    assert soup.verdict["overall"]["soup"] == pytest.approx(truth(town, recipe(town, soup)))
    assert max(Counter(town.oven.asked).values()) == 1


def truth(town, weights):
    """The mean over categories of the report items that the mixture solves."""
    solved = town.family.solves({name: w for name, w in weights.items() if w})
    splits, suite = town.base.benchmark.splits, town.base.benchmark.suite
    shares = [
        solved[k, splits.positions([i.cluster for i in category.items], Split.REPORT)].mean()
        for k, category in enumerate(suite.categories)
    ]
    return sum(shares) / len(shares)


def test_the_verdict_is_about_the_objective_of_the_settings(kitchen):
    town = kitchen(Family(3), floor=1.0, objective="worst")
    town.score("org/base", *town.family.names)
    soup, _ = judged(town)
    lowest = min(score["value"] for score in soup.verdict["scores"]["soup"].values())
    assert soup.verdict["overall"]["soup"] == pytest.approx(lowest)


def test_an_incumbent_of_another_benchmark_is_measured_on_the_new_one(town, tmp_path, kitchen):
    """New items do not make the published soup disappear."""
    soup, _ = judged(town)
    published(town, soup)
    (tmp_path / "suite" / "suite.json").write_text(
        (tmp_path / "suite" / "suite.json").read_text().replace('"version": "1"', '"version": "2"')
    )
    town.world.bases["org/base"] = register(town.store, town.section)
    assert town.base.benchmark.id != soup.benchmark_id
    town.score("org/base", *town.family.names)
    town.world.shelf.soup(soup.recipe_digest).mkdir(parents=True)
    second, _ = judged(town)
    if second.recipe_digest == soup.recipe_digest:
        assert second.verdict["differences"]["incumbent"]["mean"] == 0
    assert "incumbent" in second.verdict["differences"]


def test_used_up_items_are_said_to_be(kitchen, tmp_path):
    few = kitchen(Family(3, items=120), floor=1.0, alpha=1e-9)
    few.score("org/base", *few.family.names)
    _, kept = judged(few)
    noted = [k for k in kept if isinstance(k, o.Noted) and k.kind == "items-used-up"]
    assert len(noted) == 1
    assert "give toy new items" in noted[0].text
