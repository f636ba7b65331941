"""The command line, `bot`.

Exit codes, the same for every command:

    0  done
    1  no: something differs, failed or was refused; the output says what
    2  wrong usage or settings; nothing was started
    3  cannot be told: what it takes is gone (`bot verify`), or the Hub does not answer

With `--json` a failure is `{"error": {"code", "message"}}` on standard output.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import NoReturn

from bot.cli import generate, hub, operate, read, science, soup  # noqa: F401 - commands
from bot.cli.app import app, hold
from bot.cli.exits import Exit
from bot.cli.say import errors, print_failure, say, visible
from bot.errors import Fault, Misconfigured
from bot.secret import conceal_tokens
from db.engine import Unavailable, Unusable
from db.lease import LeaseLost

__all__ = ["app", "main"]


def main() -> None:
    """Entry of the console script: typed errors become one sentence and an exit code."""
    log = logging.StreamHandler()
    log.setFormatter(_Visible("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(handlers=[log], level=logging.INFO)
    for noisy in ("httpx2", "httpcore2", "apscheduler", "alembic", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    hold(conceal_tokens())
    try:
        app()
    except (Misconfigured, Unusable) as error:
        _fail(error, Exit.USAGE)
    except (Fault, Unavailable, LeaseLost) as error:
        _fail(error, Exit.UNKNOWN)


class _Visible(logging.Formatter):
    """Tracebacks quote strangers too."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _fail(error: Exception, code: Exit) -> NoReturn:
    """Say what went wrong, as the command was asked to speak."""
    if "--json" in sys.argv[1:]:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
        print_failure(str(getattr(error, "code", name)), str(error), as_json=True)
    else:
        say(f"bot: {error}", errors)
    sys.exit(code)
