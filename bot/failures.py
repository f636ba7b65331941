"""What happens to a step that failed, by the class of its error (`bot/errors.py`).

What only the outside world can heal is tried for ever, ever more slowly: a Hub that is away for a
week must not leave every candidate parked. What fails for a reason of its own is parked.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from datetime import timedelta

from bot import errors
from bot.executors import ChildError
from bot.steps import SEND, Step
from db.engine import Unavailable

MAX_FAILURES = 8  # then a step is parked until `bot retry`, unless time alone may heal it
BACKOFF = timedelta(seconds=15)  # doubles with every failure
BACKOFF_CAP = timedelta(hours=6)
SHORTAGES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
MAX_INTERRUPTIONS = 10  # a step that ends its process so often, without getting further, is parked


class Idle(errors.Fault):
    """`step` came to its end, and what made it due is as it was: it would run for ever."""

    def __init__(self, step: str) -> None:
        super().__init__(f"{step} ended without changing what made it due")


@dataclass(frozen=True)
class Verdict:
    """When the step may run again, and how loudly a person is told."""

    wait: timedelta
    parked: bool
    level: int
    bug: bool = False


def sort(error: BaseException, step: Step, failures: int) -> Verdict:
    """failures: how often the step failed before this."""
    wait = min(BACKOFF * 2 ** min(failures, 20), BACKOFF_CAP)
    if isinstance(error, errors.Rejected | errors.Misconfigured):  # the same input fails again
        return Verdict(wait, parked=True, level=logging.ERROR)
    if pauses_publishing(error, step):
        return Verdict(BACKOFF_CAP, parked=False, level=logging.ERROR)
    # Short of disk, memory or files, the machine is for every step, not this one alone.
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return Verdict(wait, parked=False, level=logging.WARNING)
    if isinstance(error, errors.Broken) or not isinstance(error, errors.Fault | Unavailable):
        return Verdict(wait, parked=True, level=logging.ERROR, bug=True)
    if isinstance(error, errors.Transient) and error.retry_after is not None:
        wait = max(wait, timedelta(seconds=min(error.retry_after, BACKOFF_CAP.total_seconds())))
    spent = failures + 1 >= MAX_FAILURES and not _heals(error, step)
    return Verdict(wait, parked=spent, level=logging.WARNING)


def pause_after(interruptions: int) -> timedelta:
    """How long a step waits that was running whenever the process ended: not at all at first, for
    machines are switched off, then ever longer, for it may be what takes the process down."""
    return BACKOFF * 2 ** (interruptions - 3) if interruptions >= 3 else timedelta(0)


def pauses_publishing(error: BaseException, step: Step) -> bool:
    """Our credentials do not allow a write; a stranger's gate is only that stranger's."""
    return isinstance(error, errors.Forbidden) and step.slot == SEND


def _heals(error: BaseException, step: Step) -> bool:
    """Time may do it: the fault lies outside, and not in a child of ours that died."""
    if isinstance(error.__cause__, ChildError):
        return False
    passing = errors.Transient | errors.Unknown | errors.Moved | errors.Busy | Unavailable
    return step.verb == "watch" or isinstance(error, passing)
