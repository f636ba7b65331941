"""What the card says of those that a soup is made of: terms, languages, audience, donor."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.drafts.soup_card import soup_card
from bot.drafts.story import Story, read_story
from bot.errors import Rejected
from bot.localhub import LocalHub
from db.rows import MemberRow
from tests.hub.conftest import door, push

from .family import Family, Kitchen
from .test_judge import judged

DONOR = "tiny/donor"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub(tmp_path / "server", users={"alice": ["tiny"], "bot": []}) as running:
        yield running


@pytest.fixture
def town(kitchen, server: LocalHub, tmp_path: Path) -> Kitchen:
    """A soup of three has passed its gate; its tokenizer is that of a donor on a real Hub."""
    sha = push(server, DONOR, {"config.json": "{}"})
    made = kitchen(Family(3), floor=1.0, donor=f"{DONOR}@{sha}")
    trusted = made.world.shelf.data / "trusted" / f"tiny--donor@{sha}"
    trusted.mkdir(parents=True)
    (trusted / "config.json").write_text("{}")
    made.score("org/base", *made.family.names)
    judged(made)
    made.world = replace(made.world, hub=door(server, tmp_path))
    return made


@pytest.fixture
def story(town: Kitchen) -> Story:
    return read_story(town.world, town.base, 1)


def with_members(story: Story, *weights: int, **first: Any) -> Story:
    """The story with these tenths, and the first member's row changed."""
    parts = list(zip(story.members, weights, strict=True))
    members = [MemberRow(member.candidate, w, 10) for member, w in parts]
    members[0] = replace(members[0], candidate=replace(members[0].candidate, **first))
    return replace(story, members=tuple(members))


def card_of(town, story):
    card, _ = soup_card(town.world, story, 1)
    return card


STRICT = {"licence": "cc-by-nc-4.0", "publishable": False}


def test_only_what_is_in_the_soup_lends_it_a_licence(town, story):
    with pytest.raises(Rejected, match=r"made of licences apache-2.0, cc-by-nc-4.0, mit; set priv"):
        card_of(town, with_members(story, 1, 4, 5, **STRICT))
    card = card_of(town, with_members(story, 0, 5, 5, **STRICT))
    assert card.licence.id == "apache-2.0"
    assert card.ingredients[0].model.licence == "cc-by-nc-4.0", "it is shown all the same"


def test_the_donor_is_named_with_its_own_licence(town, story):
    card = card_of(town, story)
    assert (card.donor.repo, card.donor.licence, card.donor.author) == (DONOR, "apache-2.0", "tiny")
    assert (card.base.licence, card.licence.id) == ("mit", "apache-2.0")


def test_the_dtypes_are_those_of_the_written_files(town, story):
    """The donor's configuration says something else."""
    (trusted,) = (town.world.shelf.data / "trusted").glob("tiny--donor@*")
    (trusted / "config.json").write_text('{"torch_dtype": "float16"}')
    assert card_of(town, story).dtypes == ("float32",)
    tensors = {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "BF16", "shape": [1], "data_offsets": [4, 6]},
        "c": {"dtype": "I64", "shape": [1], "data_offsets": [6, 14]},
    }
    header = json.dumps(tensors).encode()
    file = town.world.shelf.soup(story.soup.recipe_digest) / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(14))
    assert card_of(town, story).dtypes == ("bfloat16", "float32")


def test_languages_and_audience_are_those_of_what_is_in_it(town, story):
    stated = {"languages": ("de", "en"), "not_for_all_audiences": True}
    second = story.members[1]
    story = replace(
        story,
        members=(
            story.members[0],
            replace(second, candidate=replace(second.candidate, languages=("en", "fr"))),
            story.members[2],
        ),
    )
    card = card_of(town, with_members(story, 1, 4, 5, **stated))
    assert (card.languages, card.not_for_all_audiences) == (("de", "en", "fr"), True)
    without = card_of(town, with_members(story, 0, 5, 5, **stated))
    assert (without.languages, without.not_for_all_audiences) == (("en", "fr"), False)
