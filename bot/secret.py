"""Take the token out of the environment, where a child could read it through /proc.

Removing a variable from `os.environ` leaves it in the memory that the kernel shows as
`/proc/PID/environ`. So the process is replaced by itself without the variable, and the token is
handed over in an anonymous file in memory that no child inherits.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

NAMES = ("BOT_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HANDED_OVER = "BOT_TOKEN_FD"


def conceal_token() -> str | None:
    """The token, if the environment gave one; this process's environment holds none afterwards.

    Does not return the first time when there is one: the process starts again without it.
    """
    if (number := os.environ.pop(HANDED_OVER, None)) is not None:
        with os.fdopen(int(number), "rb") as file:
            return file.read().decode()
    token = next((os.environ[name] for name in NAMES if os.environ.get(name)), None)
    if token is None or not hasattr(os, "memfd_create"):
        return token
    return _start_again_with(token)


def _start_again_with(token: str) -> NoReturn:
    handed = os.memfd_create("token", 0)  # 0: survives the exec below, and only that
    os.write(handed, token.encode())
    os.lseek(handed, 0, os.SEEK_SET)
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    clean[HANDED_OVER] = str(handed)
    os.execve(sys.executable, [*sys.orig_argv], clean)
