"""The bot's gate: what the soup is compared with, and what happens when items run out."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from bot.cli.app import app
from bot.daemon import register
from bot.gate import detectable_gain
from bot.hashes import sha256_of
from bot.incumbent import incumbent_outcomes, version_before
from bot.judge import judge
from bot.search import search
from bot.select import select
from db import outcomes as o
from db.schema import looks, soups
from merge.outcomes import Outcomes
from merge.search import make_search
from merge.simplex import corner, parse_weights
from merge.splits import Leak, Split
from tests.hub.conftest import safetensors

from .family import ITEMS, SHA, Family

FILES = {"model.safetensors": {"sha256": "0" * 64, "size": 10}}


def judged(town):
    """Choose, search, pretend to build, judge: the verdict as stored, and every outcome."""
    town.run(select)
    selection = town.world.reader.last_selection(1, town.base.benchmark.id)
    planned = [s for s in town.run(search, selection.id) if isinstance(s, o.SoupPlanned)]
    (soup,) = planned
    row = last_soup(town)
    pretend_to_build(town, row)
    town.oven.folders[soup.recipe_digest] = recipe(town, row)
    kept = town.run(judge, row.id)
    return last_soup(town), kept


def pretend_to_build(town, row):
    """A folder that holds what is said to have been built, and no soup."""
    file = town.world.shelf.soup(row.recipe_digest) / "model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(safetensors({"a": (2, 3)}))
    digest = {"sha256": sha256_of(file), "size": file.stat().st_size}
    town.keep(o.SoupBuilt(row.id, {file.name: digest}))


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


def solved(town, weights, split):
    """Per category, which items of the split the mixture solves."""
    right = town.family.solves({name: w for name, w in weights.items() if w})
    splits, suite = town.base.benchmark.splits, town.base.benchmark.suite
    return [
        right[k, splits.positions([i.cluster for i in category.items], split)]
        for k, category in enumerate(suite.categories)
    ]


def truth(town, weights):
    """The mean over categories of the report items that the mixture solves."""
    shares = [right.mean() for right in solved(town, weights, Split.REPORT)]
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
    second, _ = judged(town)
    if second.recipe_digest == soup.recipe_digest:
        assert second.verdict["differences"]["incumbent"]["mean"] == 0
    assert "incumbent" in second.verdict["differences"]
    assert second.verdict["version_before"] == {"version": 1, "soup": soup.id}


def test_a_new_target_has_no_version_before(town):
    soup, _ = judged(town)
    published(town, soup)
    assert version_before(town.world, town.base).soup.id == soup.id
    section = town.section.model_copy(update={"target": "us/elsewhere"})
    town.world.bases["org/base"] = register(town.store, section)
    assert version_before(town.world, town.base) is None


def add_items(folder, n, of):
    """To each category of a suite, n more items that differ from all others."""
    for file in folder.glob("*.jsonl"):
        c = file.stem
        lines = [
            json.dumps(
                {"id": f"{c}-{of}", "cluster": f"{c}-{of}", "prompt": f"{of}", "answer": "x"}
            )
            for of in range(of, of + n)
        ]
        file.write_text(file.read_text() + "\n".join(lines) + "\n")


def look_now(town):
    """What the next look would be, as `bot doctor` says it."""
    return town.world.reader.looks_taken(town.base.id, town.base.benchmark.id) + 1


def test_looks_go_on_where_items_are_added_or_divided_anew(town, tmp_path):
    judged(town)
    assert look_now(town) == 2
    before = town.base.benchmark.splits
    add_items(tmp_path / "suite", 1, ITEMS)
    town.world.bases["org/base"] = register(town.store, town.section)
    after = town.base.benchmark.splits
    assert after.digest != before.digest
    assert after.clusters(Split.REPORT) & before.clusters(Split.REPORT)
    assert look_now(town) == 2, "most of these items were looked at"
    section = town.section.model_copy(update={"seed": 1})
    town.world.bases["org/base"] = register(town.store, section)
    assert look_now(town) == 2


def test_new_items_have_the_full_level(town, tmp_path):
    judged(town)
    for file in (tmp_path / "suite").glob("*.jsonl"):
        file.write_text("")
    add_items(tmp_path / "suite", ITEMS, 1000)
    town.world.bases["org/base"] = register(town.store, town.section)
    assert look_now(town) == 1


def test_used_up_items_are_said_to_be(kitchen, tmp_path):
    few = kitchen(Family(3, items=120), floor=1.0, alpha=1e-9)
    few.score("org/base", *few.family.names)
    _, kept = judged(few)
    noted = [k for k in kept if isinstance(k, o.Noted) and k.kind == "items-used-up"]
    assert len(noted) == 1
    assert "give toy new items" in noted[0].text


# -- few items: two rounds -----------------------------------------------------------------------


@pytest.fixture
def hamlet(kitchen):
    """A town with so few report items that they alone would show gains above 10 points only."""
    made = kitchen(Family(3, items=60), floor=1.0)
    made.score("org/base", *made.family.names)
    return made


def searched_on(town, split):
    """The soup of a search that has seen nothing but the items of one split."""
    n = len(town.family.names)

    def answers(weights):
        named = dict(zip(town.family.names, map(float, weights), strict=True))
        bits = dict(zip(town.base.benchmark.categories, solved(town, named, split), strict=True))
        return Outcomes(Split.TUNE, bits)

    known, told = [answers(corner(n, i)) for i in range(n)], {}
    for strategy in ("surrogate", "greedy"):
        search = make_search(strategy, n, known=known, objective=town.section.aim)
        for weights, part in told.items():
            search.tell(weights, part)
        while (weights := search.ask()) is not None:
            wanted = search.wanted(weights)
            part = answers(weights) if wanted is None else answers(weights).only(wanted)
            search.tell(weights, part)
            told[weights] = told[weights].merged(part) if weights in told else part
    last = make_search("surrogate", n, known=known, objective=town.section.aim)
    for weights, part in told.items():
        last.tell(weights, part)
    return dict(zip(town.family.names, map(float, last.best().weights), strict=True)), known


def test_where_items_are_few_both_rounds_decide(hamlet):
    soup, kept = judged(hamlet)
    second, known = searched_on(hamlet, Split.REPORT)
    weights = map(float, parse_weights(soup.verdict["second_round"]["weights"].split()))
    assert dict(zip(hamlet.family.names, weights, strict=True)) == second
    first = recipe(hamlet, soup)
    members = hamlet.world.reader.candidates(hamlet.world.reader.search(1).members)
    best = hamlet.world.reader.search(1).best["best_member"]
    best = {next(c.repo for c in members if c.id == best): 1.0}
    values = [outcomes.macro() for outcomes in known]
    rival = {hamlet.family.names[values.index(max(values))]: 1.0}
    gains = [
        (a.sum() - b.sum() + c.sum() - d.sum()) / (len(a) + len(c))
        for a, b, c, d in zip(
            solved(hamlet, first, Split.REPORT), solved(hamlet, best, Split.REPORT),
            solved(hamlet, second, Split.TUNE), solved(hamlet, rival, Split.TUNE),
            strict=True,
        )
    ]  # fmt: skip
    difference = soup.verdict["pooled"]["differences"]["best member"]
    assert difference["mean"] == pytest.approx(sum(gains) / len(gains))
    sizes = hamlet.base.benchmark.sizes
    assert difference["n_items"] == sum(sizes(Split.REPORT).values()) + sum(
        sizes(Split.TUNE).values()
    )
    assert set(soup.verdict["pooled"]["differences"]) == {
        *("best member", "uniform", "greedy", "base")
    }
    assert soup.state == "passed"
    assert max(Counter(hamlet.oven.asked).values()) == 1
    (text,) = [k.text for k in kept if isinstance(k, o.Judged)]
    assert "cross-fitted" in text


def test_a_second_round_that_was_killed_ends_as_if_it_had_not_been(hamlet, kitchen):
    expected, kept = judged(hamlet)
    tried = [place for place, outcome in enumerate(kept, 1) if isinstance(outcome, o.Tried)]
    for killed_after in (tried[len(tried) // 2], tried[-1]):
        town = kitchen(hamlet.family, floor=1.0)
        town.score("org/base", *town.family.names)
        town.run(select)
        (planned,) = [s for s in town.run(search, 1) if isinstance(s, o.SoupPlanned)]
        pretend_to_build(town, last_soup(town))
        town.oven.folders[planned.recipe_digest] = recipe(town, last_soup(town))
        town.run(judge, 1, stop_after=killed_after)
        town.run(judge, 1)
        assert last_soup(town).verdict == expected.verdict
        with town.store.engine.connect() as connection:
            assert len(list(connection.execute(looks.select()))) == 1


def test_the_version_before_is_compared_by_its_own_two_rounds(hamlet):
    soup, _ = judged(hamlet)
    published(hamlet, soup)
    hamlet.run(select)
    again = hamlet.world.reader.soup(soup.id)
    before = version_before(hamlet.world, hamlet.base)
    role = incumbent_outcomes(hamlet.world, hamlet.base, before, Split.TUNE)
    second = map(float, parse_weights(again.verdict["second_round"]["weights"].split()))
    named = dict(zip(hamlet.family.names, second, strict=True))
    assert role.scores() == pytest.approx([r.mean() for r in solved(hamlet, named, Split.TUNE)])


def test_every_comparison_is_shown_to_whoever_comes_later(hamlet, tmp_path):
    soup, _ = judged(hamlet)
    config = tmp_path / "bot.toml"
    config.write_text(f'database = "{hamlet.store.engine.url}"\n')
    arguments = ["soups", "--config", str(config)]
    (shown,) = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    found = {(c["against"], c["both_rounds"]): c for c in shown["comparisons"]}
    rivals = ("best member", "uniform", "greedy", "base")
    assert set(found) == {(rival, both) for rival in rivals for both in (False, True)}
    for (rival, both), c in found.items():
        stored = (soup.verdict["pooled"] if both else soup.verdict)["differences"][rival]
        assert [c["gain"], c["low"], c["high"]] == [stored[k] for k in ("mean", "low", "high")]
    assert shown["optimism"] == soup.verdict["optimism"]
    assert shown["grid"] == 37
    text = " ".join(CliRunner().invoke(app, arguments).stdout.split())
    for rival in rivals:
        found = soup.verdict["pooled"]["differences"][rival]
        gain, low = (f"{100 * found[k]:+.2f}" for k in ("mean", "low"))
        assert f"both rounds: {gain} points against {rival} ({low} to" in text


@pytest.mark.parametrize(
    ("cross_fitting", "items", "rounds"), [("auto", 120, 1), ("never", 60, 1), ("always", 120, 2)]
)
def test_two_rounds_are_for_few_items_or_for_whoever_wants_them(
    kitchen, cross_fitting, items, rounds
):
    town = kitchen(
        Family(3, items=items), floor=1.0, cross_fitting=cross_fitting, strategy="greedy"
    )
    town.score("org/base", *town.family.names)
    soup, _ = judged(town)
    assert (soup.verdict["pooled"] is not None) == (rounds == 2)
    alone = kitchen(town.family, cross_fitting="never").base
    assert detectable_gain(town.base, 1) == pytest.approx(
        detectable_gain(alone, 1) / rounds**0.5, rel=0.1
    )


def test_a_soup_that_was_searched_under_other_splits_is_not_judged(town):
    """Other shares make report items of what its search has seen."""
    town.run(select)
    town.run(search, 1)
    pretend_to_build(town, last_soup(town))
    section = town.section.model_copy(update={"shares": (0.2, 0.2, 0.6)})
    town.world.bases["org/base"] = register(town.store, section)
    with pytest.raises(Leak):
        town.run(judge, 1)
    with town.store.engine.connect() as connection:
        assert not list(connection.execute(looks.select())), "no look is spent on it"
