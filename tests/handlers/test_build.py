"""A soup's folder in real children: written, and made again by whoever needs it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.admit import admit
from bot.build import build, holds, written
from bot.errors import Gone
from bot.steps import Step
from db import outcomes as o
from db.rows import SoupRow
from merge.recipe import Member, Recipe

from .street import Street

TARGET = "stockpot/soup"
NAMES = ("arith", "string")


@dataclass
class Pot:
    """One soup of two members, planned by hand and not built yet."""

    street: Street

    @property
    def soup(self) -> SoupRow:
        return self.street.loop.world.reader.soup(1)

    @property
    def folder(self) -> Path:
        return self.street.loop.world.shelf.soup(self.soup.recipe_digest)

    def steps(self):
        world = self.street.loop.world
        return build(Step("build", "build:1", "tiny/base", 1, 1, "compute", world.now()), world)

    def build(self) -> None:
        for outcome in self.steps():
            self.street.keep(outcome)

    def written(self) -> Path:
        """The folder, when all that was yielded on the way is kept."""
        asked = written(self.street.loop.world, self.soup)
        while True:
            try:
                self.street.keep(next(asked))
            except StopIteration as end:
                return Path(end.value)

    def publish(self) -> None:
        """The weights alone, as one commit of ours."""
        api = HfApi(endpoint=self.street.hub.url, token=self.street.hub.token("stockpot"))
        api.create_repo(TARGET)
        sha = str(api.upload_folder(repo_id=TARGET, folder_path=self.folder).oid)
        digest, files = self.soup.recipe_digest, self.soup.files
        self.street.keep(
            o.Drafted(1, "soup", TARGET, digest, 1, "/d", files, "approved", soup_id=1)
        )
        self.street.keep(o.Moved(1, "committed", commit_sha=sha, tag="v1"))

    def lose_members(self) -> None:
        for name in NAMES:
            self.street.strangers.api.delete_repo(f"tiny/{name}")
        shutil.rmtree(self.street.loop.world.shelf.data / "models")


@pytest.fixture
def pot(street: Street) -> Pot:
    members = [street.push(name) for name in NAMES]
    for row in (street.base, *members):
        street.run(admit, row)
        street.keep(o.Examined(row.id, f"{row.id:064x}", (1.0,) * 128, {"delta_norm": 0.1}))
    base = street.loop.world.bases["tiny/base"]
    ids = tuple(row.id for row in members)
    recipe = Recipe(
        base_repo=street.base.repo,
        base_sha=street.base.sha,
        base_digest=str(street.base.fingerprint),
        members=tuple(
            Member(c.repo, c.sha, str(c.fingerprint), Fraction(1, 2))
            for c in map(street.candidate, NAMES)
        ),
    )
    shares = tuple((i, 1, 2) for i in ids)
    for outcome in (
        o.Selected(base.id, base.benchmark.id, "soce", ids, {}, ids, {}),
        o.SearchOpened(base.id, 1, base.benchmark.id, "grid", ids),
        o.SoupPlanned(base.id, 1, base.benchmark.id, recipe.digest, recipe.to_json(), shares),
    ):
        street.keep(outcome)
    return Pot(street)


def test_a_kill_between_the_folder_and_the_word_of_it_costs_one_build(pot):
    steps = pot.steps()
    assert isinstance(next(steps), o.SoupBuilt)
    steps.close()
    assert pot.folder.is_dir()
    pot.build()
    assert pot.soup.state == "built"
    assert holds(pot.folder, pot.soup.files)


def test_a_soup_that_is_gone_or_changed_is_made_again(pot):
    pot.build()
    assert pot.written() == pot.folder
    shutil.rmtree(pot.folder)
    assert pot.written() == pot.folder
    assert holds(pot.folder, pot.soup.files)
    weights = pot.folder / "model.safetensors"
    raw = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    (pot.folder / "model-00009-of-00009.safetensors").write_bytes(b"")
    assert pot.written() == pot.folder
    assert holds(pot.folder, pot.soup.files)
    assert weights.read_bytes() == raw


def test_a_published_soup_is_fetched_and_needs_no_members(pot):
    pot.build()
    pot.publish()
    shutil.rmtree(pot.folder)
    pot.lose_members()
    assert pot.written() == pot.folder
    assert holds(pot.folder, pot.soup.files)


def test_a_soup_whose_member_is_gone_cannot_be_made_again(pot):
    pot.build()
    shutil.rmtree(pot.folder)
    pot.lose_members()
    with pytest.raises(Gone, match="cannot be made again"):
        pot.written()
    assert pot.street.candidate("arith").state == "withdrawn"
    assert not pot.folder.exists()


def test_no_files_are_never_all_files(tmp_path):
    assert not holds(tmp_path / "none", {})
    assert not holds(tmp_path, {})
