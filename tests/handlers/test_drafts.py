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
from bot.errors import Broken, Fault
from bot.executors import LocalExecutor
from bot.localhub import LocalHub
from bot.steps import Step
from tests.db.story import NOW
from tests.hub.conftest import door, push

from .family import SHA, Family, Kitchen
from .test_judge import judged

DONOR = "tiny/donor"


@pytest.fixture
def town(kitchen, tmp_path: Path) -> Iterator[Kitchen]:
    """A soup of three has passed its gate; donor, target and pictures are real."""
    with (
        LocalHub(tmp_path / "server", users={"alice": ["tiny"], "bot": ["us"]}) as server,
        LocalExecutor(tmp_path / "data") as executor,
    ):
        sha = push(server, DONOR, {"config.json": "{}", "tokenizer.json": "{}"})
        made = kitchen(Family(3), floor=1.0, donor=f"{DONOR}@{sha}")
        made.score("org/base", *made.family.names)
        texts = made.world.shelf.data / "trusted" / f"org--base@{SHA}"
        texts.mkdir(parents=True)
        (texts / "LICENSE").write_text("as you like")
        judged(made)
        made.world = replace(made.world, hub=door(server, tmp_path), executor=executor)
        yield made


def drafted(town: Kitchen) -> Path:
    for outcome in draft(
        Step("draft", "draft:soup:1", "org/base", 1, 1, "compute", NOW), town.world
    ):
        town.keep(outcome)
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
