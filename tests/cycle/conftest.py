"""A whole small world: a Hub with the tiny family, a benchmark of few items, a bot that obeys.

The benchmark is cut to `ITEMS` items a category so that a cycle takes seconds; with so few nothing
could pass an honest gate, so the margin is lowered until everything does. What the gate decides is
tested elsewhere; here it is what happens around it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.config import Settings, load_settings
from bot.daemon import coordinator, run_once
from bot.demo.strangers import BASE, ORG, Strangers
from bot.localhub import LocalHub
from bot.loop import Loop
from bot.suites import BUILTIN

SOUP = "stockpot/tiny-soup"
CATEGORIES = ("add", "rev", "close", "args")
ITEMS = 60

SETTINGS = """\
endpoint = "{url}"
token_file = "token"
data = "data"
database = "sqlite:///stockpot.db"
poll_seconds = 60
settle_seconds = 0
warm_children = true
allow_root = true
{extra}

[[bases]]
repo = "{base}"
sha = "{sha}"
target = "{soup}"
benchmark = "./suite"
margin = -1.0
floor = 1.0
method = "soce"
tau = 1.0
"""


@dataclass
class Town:
    """The Hub, its strangers, and one bot's folder."""

    hub: LocalHub
    strangers: Strangers
    folder: Path
    base_sha: str

    @property
    def config(self) -> Path:
        return self.folder / "bot.toml"

    def settings(self) -> Settings:
        return load_settings(self.config)

    @contextmanager
    def bot(self) -> Iterator[Loop]:
        with coordinator(self.settings(), wait=True) as loop:
            yield loop

    def run_once(self) -> None:
        with self.bot() as loop:
            run_once(loop)

    def configure(self, extra: str = "") -> None:
        text = SETTINGS.format(
            url=self.hub.url, base=BASE, sha=self.base_sha, soup=SOUP, extra=extra
        )
        self.config.write_text(text)


@pytest.fixture(scope="session")
def small_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first items of some categories of the built-in suite."""
    source, folder = BUILTIN / "tiny_skills", tmp_path_factory.mktemp("suite")
    suite = json.loads((source / "suite.json").read_text())
    suite["categories"] = [c for c in suite["categories"] if c["name"] in CATEGORIES]
    (folder / "suite.json").write_text(json.dumps(suite))
    for category in suite["categories"]:
        lines = (source / category["items"]).read_text().splitlines(keepends=True)[:ITEMS]
        (folder / category["items"]).write_text("".join(lines))
    return folder


@contextmanager
def open_town(folder: Path, suite: Path, *members: str, extra: str = "") -> Iterator[Town]:
    shutil.copytree(suite, folder / "suite")
    users = {"someone": (ORG,), "stockpot": ()}
    with LocalHub(folder / "hub", users=users) as hub:
        strangers = Strangers.on(hub)
        town = Town(hub, strangers, folder, strangers.push("base"))
        for member in members:
            strangers.push(member)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(hub.token("stockpot"))
        town.configure(extra)
        yield town
