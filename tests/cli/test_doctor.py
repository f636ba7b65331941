"""`bot doctor` against a Hub that is there, and one that is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.cli.app import app
from bot.config import load_settings
from bot.doctor import examine
from bot.localhub import LocalHub

SETTINGS = """\
endpoint = "{url}"
token_file = "token"
allow_root = true

[[bases]]
repo = "tiny/base"
sha = "{sha}"
target = "stockpot/soup"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").touch(mode=0o600)
    return tmp_path


def checks(folder: Path, url: str, sha: str = "0" * 40) -> dict[str, bool]:
    config = folder / "bot.toml"
    config.write_text(SETTINGS.format(url=url, sha=sha))
    return {check.what: check.ok for check in examine(load_settings(config))}


def test_a_sound_installation(folder: Path) -> None:
    with LocalHub(folder / "hub", users={"someone": ("tiny",), "stockpot": ()}) as hub:
        (folder / "token").write_text(hub.token("stockpot"))
        found = checks(folder, hub.url)
    assert found["database"]
    assert found["token"]
    assert found["child processes"]
    assert found["target stockpot/soup"]
    assert found["report split of tiny/base"]
    assert not found["base tiny/base"]  # nobody has pushed it


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: there is nothing to allow")
def test_root_is_allowed_by_the_option_as_elsewhere(folder: Path) -> None:
    (folder / "bot.toml").write_text("")

    def user(*options: str) -> bool:
        command = ["doctor", "--json", "--config", str(folder / "bot.toml"), *options]
        found = json.loads(CliRunner().invoke(app, command).stdout)
        return next(check["ok"] for check in found if check["what"] == "user")

    assert (user(), user("--allow-root")) == (False, True)


def test_a_hub_that_does_not_answer_is_one_finding(folder: Path) -> None:
    (folder / "token").write_text("a-token")
    found = checks(folder, "http://127.0.0.1:9")
    assert not found["Hub"]
    assert found["database"]
