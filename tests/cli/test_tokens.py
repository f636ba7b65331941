"""Which token a command uses, and that none stays where a child could read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = """
import json
from pathlib import Path
from bot.cli.app import hold, hub_without_settings, settings
from bot.secret import conceal_tokens

hold(conceal_tokens())
environ = Path("/proc/self/environ").read_bytes().decode()
print(json.dumps({
    "settings": settings(Path("bot.toml")).read_token(),
    "none": hub_without_settings(Path("cache")).token,
    "left": [name for name in ("BOT_TOKEN=", "HF_TOKEN=", "hf_") if name in environ],
}))
"""


def used(folder: Path, **variables: str) -> dict[str, str | None]:
    kept = {name: value for name, value in os.environ.items() if "TOKEN" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SAY], cwd=folder, env=kept | variables, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    found: dict[str, str | None] = json.loads(done.stdout)
    assert found.pop("left") == []
    return found


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_persons_token_reads_but_never_stands_in_for_the_bots(tmp_path: Path, name: str) -> None:
    (tmp_path / "bot.toml").write_text("")
    assert used(tmp_path, **{name: "hf_person"}) == {"settings": None, "none": "hf_person"}
    (tmp_path / "bot.toml").write_text('token_file = "token"')
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("hf_file")
    found = used(tmp_path, **{name: "hf_person"})
    assert found == {"settings": "hf_file", "none": "hf_person"}


def test_the_bots_token_comes_first(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text('token_file = "token"')
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("hf_file")
    found = used(tmp_path, BOT_TOKEN="hf_bot", HF_TOKEN="hf_person")
    assert found == {"settings": "hf_bot", "none": "hf_bot"}
    assert used(tmp_path) == {"settings": "hf_file", "none": None}
