"""Commands as a person meets them: where nothing is there yet, and where something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli.exits import Exit

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
    ],
    ids=["no settings", "no folder", "no Hub", "no address", "no verb"],
)
def test_what_is_wrong_is_one_sentence_and_a_code(
    tmp_path: Path, command: list[str], code: Exit, said: str
) -> None:
    found, text = bot(tmp_path, *command)
    assert found == code
    assert any(part in text for part in said.split("|")), text
