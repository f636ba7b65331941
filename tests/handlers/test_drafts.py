"""A draft of a soup holds what was built and judged, or there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.drafts import draft
from bot.drafts.soup import soup_draft
from bot.drafts.story import read_story
from bot.errors import Broken, Fault
from bot.executors import LocalExecutor
from bot.judge import judge
from bot.localhub import LocalHub
from bot.steps import Step
from db import outcomes as o
from db.schema import candidates, looks
from tests.db.story import NOW
from tests.hub.conftest import door, push

from .family import SHA, Family, Kitchen
from .test_judge import FILES, judged, pretend_to_build

DONOR = "tiny/donor"


@pytest.fixture
def town(kitchen, tmp_path: Path) -> Iterator[Kitchen]:
    """A soup of three has passed its gate; donor, target and pictures are real."""
    with (
        LocalHub(tmp_path / "server", users={"alice": ["tiny"], "bot": ["us"]}) as server,
        LocalExecutor(tmp_path / "data") as executor,
    ):
        sha = push(server, DONOR, {"config.json": "{}", "tokenizer.json": "{}"})
        made = kitchen(Family(3), floor=1.0, margin=-1.0, donor=f"{DONOR}@{sha}")
        made.score("org/base", *made.family.names)
        texts = made.world.shelf.data / "trusted" / f"org--base@{SHA}"
        texts.mkdir(parents=True)
        (texts / "LICENSE").write_text("as you like")
        judged(made)
        made.indoors = made.world
        made.world = replace(made.world, hub=door(server, tmp_path), executor=executor)
        yield made


def steps(town: Kitchen) -> list[o.Outcome]:
    kept = []
    step = Step("draft", "draft:soup:1", "org/base", 1, 1, "compute", NOW)
    for outcome in draft(step, town.world):
        town.keep(outcome)
        kept.append(outcome)
    return kept


def drafted(town: Kitchen) -> Path:
    steps(town)
    (row,) = town.world.reader.publications("us/soup")
    return Path(row.folder)


def test_it_holds_the_weights_that_were_judged_and_the_donors_texts(town):
    folder = drafted(town)
    provenance = json.loads((folder / "provenance.json").read_text())
    soup = town.world.reader.soup(1)
    assert {n: d for n, d in provenance["files"].items() if n.startswith("model")} == soup.files
    assert {"config.json", "tokenizer.json", "LICENSE"} <= provenance["files"].keys()
    (row,) = town.world.reader.publications("us/soup")
    assert row.files.keys() == provenance["files"].keys() | {"provenance.json"}


@pytest.mark.parametrize("withheld", [False, True])
def test_it_notes_whether_it_may_be_public(town, withheld):
    base = town.world.bases["org/base"]
    section = base.section.model_copy(update={"private": True})
    town.world = replace(town.world, bases={"org/base": replace(base, section=section)})
    if withheld:
        with town.store.engine.begin() as connection:
            connection.execute(
                candidates.update().where(candidates.c.id == 2), {"publishable": False}
            )
    drafted(town)
    (row,) = town.world.reader.publications("us/soup")
    assert row.public is not withheld


def weights(town: Kitchen) -> Path:
    return town.world.shelf.soup(town.world.reader.soup(1).recipe_digest) / "model.safetensors"


@pytest.mark.parametrize("harm", ["folder gone", "folder empty", "other weights", "one more file"])
def test_there_is_none_of_anything_else(town, harm):
    """And this soup cannot be made again: its members have no files."""
    file = weights(town)
    match harm:
        case "folder gone":
            shutil.rmtree(file.parent)
        case "folder empty":
            file.unlink()
        case "other weights":
            file.write_bytes(file.read_bytes()[:-1] + b"\1")
        case "one more file":
            (file.parent / "model-2.safetensors").write_bytes(b"")
    with pytest.raises(Fault):
        drafted(town)
    assert town.world.reader.publications("us/soup") == []
    assert not list((town.world.shelf.data / "drafts").glob("[!.]*"))


def test_what_changes_while_it_is_drafted_is_found(town, tmp_path):
    file = weights(town)
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    (tmp_path / "draft").mkdir()
    with pytest.raises(Broken, match="has not the weights judged"):
        soup_draft(town.world, town.base, 1, 1, tmp_path / "draft")


# -- the version before ----------------------------------------------------------------------------


def judge_indoors(town: Kitchen, soup_id: int) -> None:
    world, town.world = town.world, town.indoors
    town.run(judge, soup_id)
    town.world = world


@pytest.fixture
def other(town: Kitchen):
    """Another soup of the same members, judged too."""
    members = town.world.reader.soup_members(1)
    shares = tuple((m.candidate.id, 1, len(members)) for m in members)
    first = town.world.reader.soup(1)
    ids = (1, first.search_id, first.benchmark_id)
    town.keep(o.SoupPlanned(*ids, "f" * 64, first.recipe, shares))
    pretend_to_build(town, town.world.reader.soup(2))
    names = [m.candidate.repo for m in members]
    town.oven.folders["f" * 64] = dict.fromkeys(names, 1 / len(names))
    judge_indoors(town, 2)
    return town.world.reader.soup(2)


def waits(town: Kitchen, other, state: str = "approved") -> None:
    told = (1, "soup", "us/soup", other.recipe_digest, 7, "/d", FILES, state)
    town.keep(o.Drafted(*told, soup_id=other.id))


def test_a_version_that_came_between_is_compared_with_in_the_same_look(town, other):
    waits(town, other)
    town.keep(o.Moved(1, "committed", commit_sha=SHA, tag="v7"))
    assert [type(outcome) for outcome in steps(town)] == [o.Reopened]
    assert town.world.reader.soup(1).state == "built"
    judge_indoors(town, 1)
    steps(town)
    with town.store.engine.connect() as connection:
        assert [row.k for row in connection.execute(looks.select())] == [1, 2]
    (_, row) = town.world.reader.publications("us/soup")
    assert (row.soup_id, row.version) == (1, 8)
    card = (Path(row.folder) / "README.md").read_text()
    assert "the version before this one, `v7`" in card


def test_the_card_names_the_version_that_was_measured_whatever_comes_later(town, other):
    waits(town, other)
    town.keep(o.Moved(1, "committed", commit_sha=SHA, tag="v7"))
    steps(town)
    judge_indoors(town, 1)
    told = (1, "router", "us/soup", "config", 9, "/d", FILES, "approved")
    town.keep(o.Calibrated(1, "pair", "b", "a", "config", "{}"))
    town.keep(o.Drafted(*told, router_id=1))
    town.keep(o.Moved(2, "verified", commit_sha=SHA, tag="v9"))
    assert read_story(town.world, town.base, 1).incumbent == "v7"


def test_one_that_is_let_go_while_it_is_drafted_is_waited_for(town, other):
    waits(town, other, "draft")
    step = Step("draft", "draft:soup:1", "org/base", 1, 1, "compute", NOW)
    outcomes = draft(step, town.world)
    dropped = next(outcomes)
    assert dropped == o.Moved(1, "dropped", error="a newer draft took its place")
    assert town.store.approve(1, True, NOW)
    assert isinstance(next(outcomes), o.Reopened)
    assert list(outcomes) == []


def test_what_was_blocked_before_it_left_us_does_not_come_back(town, other):
    waits(town, other)
    town.keep(o.Moved(1, "blocked", error="somebody else's files"))
    steps(town)
    first, second = town.world.reader.publications("us/soup")
    assert (first.state, second.soup_id) == ("dropped", 1)
