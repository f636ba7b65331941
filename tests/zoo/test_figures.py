from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from bot.demo.settings import TEMPLATE
from bot.suites import load_suite
from bot.zoo import figures, report, tables
from bot.zoo.family import Bench
from bot.zoo.figures import FOLDER, read
from bot.zoo.members import FIRST_DAY, SECOND_ACT
from bot.zoo.regimes import REGIMES, play
from merge.splits import Split

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


@pytest.fixture(scope="module")
def bench():
    """Six items a category and split."""
    torch.set_num_threads(1)
    suite = load_suite("tiny_skills")
    splits = suite.splits(0)
    kept = {
        category.name: [
            item
            for split in Split
            for item in [i for i in category.items if splits.assignment[i.cluster] is split][:6]
        ]
        for category in suite.categories
    }
    few = tuple(replace(c, items=tuple(kept[c.name])) for c in suite.categories)
    return Bench(replace(suite, categories=few))


@pytest.fixture(scope="module")
def members():
    return {name: report.read_shipped(name) for name in ("base", *FIRST_DAY)}


@pytest.fixture(scope="module")
def act(bench, members):
    return play(bench, members, floor=0.0)


def test_the_page_shows_the_recorded_figures():
    page = PAGE.read_text()
    for table in tables.all_tables([read(name) for name in REGIMES]):
        assert table in page


@pytest.mark.parametrize("name", REGIMES)
def test_every_regime_is_recorded_on_the_shipped_items(name):
    found = read(name)
    suite = load_suite("tiny_skills")
    assert (found.regime, found.suite, found.digest) == (name, suite.version, suite.digest)
    assert set(found.items) == {category.name for category in suite.categories}
    assert len(found.acts) == 2
    assert SECOND_ACT in found.acts[1].scores
    for act in found.acts:
        assert sum(map(Fraction, act.weights.values())) == 1
        assert act.best_member in act.weights
        assert {*act.weights, "uniform", "uniform-all", "base"} <= act.margins.keys()


def test_the_demo_keeps_the_floor_that_the_family_was_played_with():
    assert f"floor = {REGIMES['weights'].floor}" in TEMPLATE


def test_an_act_is_recorded_as_it_was_played(act, bench, tmp_path):
    found = figures.figures("weights", 0, 0.0, bench, (act,), {})
    (told,) = found.acts
    for name, outcomes in act.report.items():
        assert told.scores[name]["add"] == outcomes.score("add").value
    assert told.margins["base"].mean == pytest.approx(
        act.report["soup"].macro() - act.report["base"].macro()
    )
    figures.write(found, tmp_path / "weights.json")
    assert '"regime": "weights"' in (tmp_path / "weights.json").read_text()


def test_what_is_written_is_what_is_read(tmp_path):
    for name in REGIMES:
        figures.write(read(name), tmp_path / f"{name}.json")
        assert (tmp_path / f"{name}.json").read_bytes() == (FOLDER / f"{name}.json").read_bytes()
        assert asdict(read(name))["acts"]


def test_the_soup_keeps_the_floor_where_a_point_of_the_grid_does(bench, members, act):
    free = play(bench, members, floor=None)
    soups = [bench.outcomes(one.soup, Split.TUNE) for one in (free, act)]
    best = bench.outcomes(members[free.best_member], Split.TUNE)
    falls = [float((best.scores() - soup.scores()).max()) for soup in soups]
    assert soups[0].macro() >= soups[1].macro()
    assert falls[1] <= falls[0]


def test_the_regimes_are_what_they_are_called():
    """Whoever records other figures has to find other words, here and on the page."""
    acts = {name: read(name).acts for name in REGIMES}
    for act in acts["no-soup"]:
        assert all(act.margins[expert].high < 0 for expert in act.weights)
    for act in acts["uniform"]:
        assert plain_share(act) > 0.75
    for act in acts["weights"]:
        assert plain_share(act) < 0.25
        assert act.margins["uniform"].low > 0


def plain_share(act):
    """Of the soup's gain over the best member, how much the plain mean of the experts has too."""
    best = act.margins[act.best_member]
    assert best.low > 0
    return 1 - act.margins["uniform"].mean / best.mean
