"""The typer application, its shared options, and where its commands find settings and tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bot.config import DEFAULT_FILE, Settings, load_settings
from bot.hub import Hub
from bot.secret import Tokens

ORDER = (
    *("init", "doctor", "run", "trigger", "status", "scores", "soups", "explain", "drafts"),
    *("approve", "pause", "resume", "retry", "verify", "select", "soup", "generate", "hub", "demo"),
)
"""Of the commands in `bot --help`: as an operator meets them, then those that need no settings."""


class InOrder(TyperGroup):
    """Commands as in `ORDER`, whichever module defines them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watch a Hub for fine-tunes, score them, publish better soups and routers.",
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
BaseOption = Annotated[str | None, typer.Option("--base", help="Only this base, ORG/NAME.")]
RootOption = Annotated[bool, typer.Option("--allow-root", help="Run as root all the same.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="That compute; one per core.")
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="For what is on the Hub; ~/.cache/stockpot.")
]
DEFAULT = DEFAULT_FILE
FOREVER = 30 * 86_400.0  # seconds; work by hand takes as long as it needs


_held = [Tokens()]


def hold(tokens: Tokens) -> None:
    """Keep what came through the environment for the commands of this process."""
    _held[0] = tokens


def settings(config: Path, *, allow_root: bool = False, **given: Any) -> Settings:
    """The settings of one command; what it was `given` wins over the file."""
    overrides = {"allow_root": True, **given} if allow_root else given
    return load_settings(config, **_token(_held[0].own), **overrides)


def without_file(**given: Any) -> Settings:
    """Settings from the environment and what is `given`, for a command that needs no file."""
    return load_settings(None, **_token(_readers_token()), **given)


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"token": token}


def _readers_token() -> str | None:
    """For commands that need no settings: they only read, so any token will do."""
    return _held[0].own or _held[0].client


def cache_folder(given: Path | None) -> Path:
    """Where commands that need no settings keep what they fetch."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stockpot"
    return (given or default).absolute()


def hub_without_settings(cache: Path) -> Hub:
    """The Hub as the client of huggingface_hub finds it: by HF_ENDPOINT, or the public one."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return Hub(endpoint, _readers_token(), cache / "downloads")
