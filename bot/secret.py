"""Where tokens lie, and how they get out of the environment, which a child could read in /proc.

Removing a variable from `os.environ` leaves it in the memory that the kernel shows as
`/proc/PID/environ`. So the process is replaced by itself without the variable, and what it held is
handed over in an anonymous file in memory that no child inherits.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

OWN = "BOT_TOKEN"
CLIENT = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HANDED_OVER = "BOT_TOKEN_FD"


@dataclass(frozen=True)
class Tokens:
    """What the environment gave.

    own: BOT_TOKEN, of the account that publishes. client: HF_TOKEN, which is exported on many
    machines and is a person's: enough to read with, never to publish by.
    """

    own: str | None = None
    client: str | None = None


def conceal_tokens() -> Tokens:
    """The tokens that the environment gave; this process's environment holds none afterwards.

    Does not return the first time when there is one: the process starts again without it.
    """
    if (number := os.environ.pop(HANDED_OVER, None)) is not None:
        with os.fdopen(int(number), "rb") as file:
            return Tokens(**json.load(file))
    found = [os.environ.get(name) or None for name in (OWN, *CLIENT)]
    tokens = Tokens(found[0], next(filter(None, found[1:]), None))
    if tokens == Tokens() or not hasattr(os, "memfd_create"):
        return tokens
    return _start_again_with(tokens)


def token_files(own: Path | None) -> tuple[Path, ...]:
    """Files that hold tokens: the bot's `own`, and where huggingface_hub keeps a person's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    stored = Path(os.environ.get("HF_STORED_TOKENS_PATH") or home / "stored_tokens")
    return tuple(f.absolute() for f in (own, token, stored) if f is not None and f.exists())


def _start_again_with(tokens: Tokens) -> NoReturn:
    handed = os.memfd_create("tokens", 0)  # 0: survives the exec below, and only that
    os.write(handed, json.dumps(asdict(tokens)).encode())
    os.lseek(handed, 0, os.SEEK_SET)
    clean = {name: value for name, value in os.environ.items() if name not in (OWN, *CLIENT)}
    clean[HANDED_OVER] = str(handed)
    os.execve(sys.executable, [*sys.orig_argv], clean)
