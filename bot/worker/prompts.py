"""The operator's file of prompts, read in one way by the child that measures with them and by the
page that shows one of them.

Standard library only: the daemon reads it, too.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class Unusable(ValueError):
    """`setting` of `[bases.router]` cannot be used."""

    def __init__(self, setting: str, why: str) -> None:
        self.setting = setting
        super().__init__(why)


def read_prompts(file: Path) -> Mapping[str, list[str]]:
    """Prompts by split. Raises Unusable, naming the line or what is missing."""
    found: dict[str, list[str]] = {"calibrate": [], "held-out": []}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        prompt, split = _prompt(line)
        if not prompt.strip() or split not in found:
            wanted = "a JSON object with a 'prompt' and a 'split' that is calibrate or held-out"
            raise Unusable("prompts", f"{file.name}, line {number}: needs {wanted}")
        found[split].append(prompt)
    if not all(found.values()):
        raise Unusable("prompts", f"{file.name}: needs prompts of both splits")
    if both := set(found["calibrate"]) & set(found["held-out"]):
        raise Unusable("prompts", f"{file.name}: {min(both)!r:.80} is in both splits")
    return found


def _prompt(line: str) -> tuple[str, str]:
    """Prompt and split; empty where the line does not say."""
    with suppress(ValueError, TypeError, KeyError):
        raw = json.loads(line)
        if isinstance(raw["prompt"], str) and isinstance(raw["split"], str):
            return raw["prompt"], raw["split"]
    return "", ""
