"""The commented `bot.toml` that `bot init` writes: made from the settings' own docstrings."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bot.config import Settings
from bot.sections import BaseSection, RouterSettings

HEAD = """\
# Settings of Stockpot. Every line that is commented out shows the default, or an example where the
# default is nothing. Any field can be given as an environment variable: BOT_POLL_SECONDS=60.
# The Hub token never stands here: set BOT_TOKEN, or name a file in token_file.
"""
SHA = "0" * 40
EXAMPLES: Mapping[str, Any] = {
    "repo": "ORG/BASE",
    "sha": SHA,
    "target": "ORG/SOUP",
    "donor": f"ORG/DONOR@{SHA}",
    "base": f"ORG/BASE@{SHA}",
    "aligned": f"ORG/ALIGNED@{SHA}",
    "prompts": "prompts.jsonl",
    "quality": "package.module:function",
    "encoder": "package.module:function",
    "token_file": "token",
    "contact": "you@example.org",
    "health_port": 8080,
    "publish": "ask",
}
ROUTER_EXAMPLES = {**EXAMPLES, "target": "ORG/ROUTER"}


def settings_template() -> str:
    """The file's text: top-level fields, one example base, one example router."""
    lines = [HEAD, *_fields(Settings, {"bases", "token"}, EXAMPLES), ""]
    lines += ["# One section for each base model.", "# [[bases]]"]
    lines += [*_fields(BaseSection, {"router"}, EXAMPLES), ""]
    lines += ["# A router for a pair of models, published beside the soup.", "# [bases.router]"]
    lines += _fields(RouterSettings, set(), ROUTER_EXAMPLES)
    return "\n".join(lines) + "\n"


def _fields(
    model: type[BaseModel], skip: Collection[str], examples: Mapping[str, Any]
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        yield ""
        yield from (f"# {line}" for line in (field.description or "").split("\n"))
        shown = examples[name] if field.default in (None, PydanticUndefined) else field.default
        yield f"# {name} = {_toml(shown)}"


def _toml(value: Any) -> str:
    """Scalars and flat lists, which TOML writes as JSON does."""
    if isinstance(value, Enum | Path):
        return json.dumps(str(value))
    return json.dumps(list(value) if isinstance(value, tuple) else value)
