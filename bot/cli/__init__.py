"""The command line, `bot`.

Exit codes, the same for every command:

    0  done
    1  no: something differs, failed or was refused; the output says what
    2  wrong usage or settings; nothing was started
    3  cannot be told: what it takes is gone (`bot verify`), or the Hub does not answer
"""

from __future__ import annotations

import logging
import sys

from bot.cli.app import app, hold_token
from bot.cli.exits import Exit
from bot.errors import Fault, Misconfigured
from bot.secret import conceal_token
from db.engine import Unavailable, Unusable
from db.lease import LeaseLost

__all__ = ["app", "main"]


def main() -> None:
    """Entry of the console script: typed errors become one sentence and an exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.INFO)
    for noisy in ("httpx2", "httpcore2", "apscheduler", "alembic", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    hold_token(conceal_token())
    try:
        app()
    except (Misconfigured, Unusable) as error:
        print(f"bot: {error}", file=sys.stderr)
        sys.exit(Exit.USAGE)
    except (Fault, Unavailable, LeaseLost) as error:
        print(f"bot: {error}", file=sys.stderr)
        sys.exit(Exit.UNKNOWN)
