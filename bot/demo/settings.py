"""The demo's bot.toml: an ordinary settings file with short waits."""

from __future__ import annotations

import json
from pathlib import Path

from bot.localhub import LocalHub
from bot.zoo.members import PROMPTS

PROMPT_COUNTS = {"calibrate": 24, "held-out": 16}

TEMPLATE = """\
endpoint = "{url}"
token_file = "token"
data = "data"
database = "sqlite:///stockpot.db"
poll_seconds = 2
settle_seconds = 1
warm_children = true
compute_slots = 2

[[bases]]
repo = "{base}"
sha = "{sha}"
target = "stockpot/tiny-soup"
benchmark = "tiny_skills"
floor = 0.3  # an expert's own category may fall by so much where the whole gains

[bases.router]
base = "{story}"
aligned = "{aligned}"
target = "stockpot/tiny-router"
prompts = "prompts.jsonl"
quality = "bot.zoo.quality:scores"
max_new_tokens = 32
shares = [0.05, 0.1, 0.2]
prompt_formats = ["plain"]
temperatures = [1.0, 1.3]
min_p_temperatures = [2.0]
"""


def write_settings(
    folder: Path, hub: LocalHub, base: str, sha: str, story: str, aligned: str
) -> Path:
    """Write bot.toml, its prompts and the token file; the path of the first."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(hub.token("stockpot"))
    config = folder / "bot.toml"
    _write_prompts(folder / "prompts.jsonl")
    names = {"url": hub.url, "base": base, "sha": sha, "story": story, "aligned": aligned}
    config.write_text(TEMPLATE.format(**names))
    return config


def _write_prompts(file: Path) -> None:
    """As many of the family's prompts as the demo has time for."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = [
        line
        for split, count in PROMPT_COUNTS.items()
        for line in [one for one in lines if json.loads(one)["split"] == split][:count]
    ]
    file.write_text("".join(chosen), encoding="utf-8")
