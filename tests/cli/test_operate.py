"""Commands as a person meets them: where nothing is there yet, and where something is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from bot.cli.app import ORDER
from bot.cli.exits import Exit
from bot.config import load_settings
from bot.daemon import open_store
from bot.rounds import keep_progress
from bot.world import utc_now

BOT = [sys.executable, "-c", "from bot.cli import main; main()"]


def bot(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([*BOT, *arguments], cwd=folder, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["status"], "none is running"),
        (["scores"], "no scores yet"),
        (["soups"], "no soup yet"),
        (["drafts"], "no draft waits"),
        (["retry"], "0 steps"),
        (["resume"], "was not paused"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_installation_with_nothing_in_it(tmp_path: Path, command: list[str], said: str) -> None:
    (tmp_path / "bot.toml").write_text("")
    code, text = bot(tmp_path, *command)
    assert (code, said in text) == (Exit.OK, True), text


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["status"], Exit.USAGE, "`bot init` writes one"),
        (["init", "-c", "no/such/bot.toml"], Exit.USAGE, "cannot be written"),
        (["verify", "x/y", "--endpoint", "http://127.0.0.1:9"], Exit.UNKNOWN, "127.0.0.1|refused"),
        (["verify", "x/y", "--endpoint", "ftp://x"], Exit.USAGE, "endpoint"),
        (["trigger", "dance"], Exit.USAGE, "dance"),
        (["hub", "serve", "--dir", "hub", "--port", "70000"], Exit.USAGE, "65535"),
    ],
    ids=["no settings", "no folder", "no Hub", "no address", "no verb", "no port"],
)
def test_what_is_wrong_is_one_sentence_and_a_code(
    tmp_path: Path, command: list[str], code: Exit, said: str
) -> None:
    found, text = bot(tmp_path, *command)
    assert found == code
    assert any(part in text for part in said.split("|")), text


def test_a_running_calibration_shows_how_far_it_is(tmp_path: Path) -> None:
    config, pair = tmp_path / "bot.toml", "a" * 64
    config.write_text("")
    chosen, now = load_settings(config), utc_now()
    store = open_store(chosen)
    lease = store.take_lease("here", now, timedelta(seconds=60))
    store.begin_attempt(lease, f"calibrate:{pair}", None, now)
    store.begin_attempt(lease, "calibrate:" + "b" * 64, None, now)  # before its first round
    line = {"progress": 3, "total": 14, "what": "p at share 0.2"}
    keep_progress(chosen.data / "rounds", pair, line)
    _, text = bot(tmp_path, "status")
    assert f"running: calibrate:{pair}, 3 of 14 rounds (p at share 0.2)\n" in text
    assert f"running: calibrate:{'b' * 64}\n" in text
    _, told = bot(tmp_path, "status", "--json")
    assert json.loads(told)["progress"] == {
        f"calibrate:{pair}": {"done": 3, "total": 14, "what": "p at share 0.2"}
    }


def test_an_operators_words_are_no_markup_and_steer_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text("")
    why = "[red]no[/] \x1b]0;title\x07 [/]" + " long" * 40
    assert bot(tmp_path, "pause", "--why", why) == (Exit.OK, "paused: all\n")
    code, text = bot(tmp_path, "status")
    assert code == Exit.OK
    assert rf"paused: all ([red]no[/] \x1b]0;title\x07 [/]{' long' * 40})" in text.splitlines()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["scores", "--base", "us/other"], Exit.USAGE, "not a configured base"),
        (["soups", "--base", "us/other"], Exit.USAGE, "not a configured base"),
        (["retry", "evaluate"], Exit.NO, "no failed or parked step has evaluate in its key"),
        (["trigger", "watch", "--model", "x y"], Exit.USAGE, "not the name of a repository"),
    ],
    ids=["scores", "soups", "retry", "trigger"],
)
def test_what_nobody_knows_is_no_empty_answer(
    tmp_path: Path, command: list[str], code: Exit, said: str
) -> None:
    (tmp_path / "bot.toml").write_text("")
    found, text = bot(tmp_path, *command)
    assert (found, said in text) == (code, True), text


def test_commands_stand_in_the_order_of_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.split("## Commands", 1)[1].split("Reading commands", 1)[0]
    named = re.findall(r"`bot (\w+)", table.replace("`bot pause publish`", ""))
    assert list(dict.fromkeys(named)) == list(ORDER)
