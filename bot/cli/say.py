"""What commands print: for eyes as it stands, whoever wrote the words; for programs as JSON.

Names, reasons and generated texts are strangers' or an operator's. Nothing in them is markup, and
none of their control characters reaches the terminal.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say(text: str, to: Console = console, style: str | None = None) -> None:
    """Print `text` and end the line; long lines are left to the terminal to wrap."""
    to.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)


def visible(text: str) -> str:
    """`text` with control characters written out, but for ends of lines and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses as objects, times in ISO 8601."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False, default=str))


def print_failure(code: str, message: str, *, as_json: bool) -> None:
    """Why a command ends: one object, or one line on standard error."""
    if as_json:
        print_json({"error": {"code": code, "message": message}})
    else:
        say(f"{code}: {message}", errors)


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value


def points(share: float | None) -> str:
    """A signed difference in percent points."""
    return "" if share is None else f"{100 * share:+.2f}"
