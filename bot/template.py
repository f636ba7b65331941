"""The commented `bot.toml` that `bot init` writes: made from the settings' own docstrings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bot.config import BaseSection, RouterSettings, Settings

HEAD = """\
# Settings of Stockpot. Every line that is commented out shows the default.
# Any field can be given as an environment variable instead: BOT_POLL_SECONDS=60.
# The Hub token never stands here: set BOT_TOKEN, or name a file in token_file.
"""
EXAMPLES = {
    "repo": "ORG/BASE",
    "sha": "0" * 40,
    "target": "ORG/SOUP",
    "aligned": "ORG/ALIGNED@" + "0" * 40,
    "prompts": "prompts.jsonl",
}


def settings_template() -> str:
    """The file's text: top-level fields, one example base, one example router."""
    lines = [HEAD, *_fields(Settings, skip={"bases", "token"}), ""]
    lines += ["# One section for each base model.", "# [[bases]]"]
    lines += [*_fields(BaseSection, skip={"router"}, example=True), ""]
    lines += ["# A router for a pair of models, published beside the soup.", "# [bases.router]"]
    lines += _fields(RouterSettings, skip=set(), example=True)
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], skip: set[str], example: bool = False) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        yield f"\n# {field.description}"
        value = _default(name, field, example)
        yield f"# {name} = {value}" if value is not None else f"# {name} ="


def _default(name: str, field: FieldInfo, example: bool) -> str | None:
    value = field.default
    if value is PydanticUndefined or (example and name in EXAMPLES):
        value = EXAMPLES.get(name, "")
    return None if value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, Enum | Path):
        return json.dumps(str(value))
    return json.dumps(list(value) if isinstance(value, tuple) else value)
