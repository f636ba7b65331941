"""Run one job in a child and translate its end into what the caller does next.

A child that names a reason from the closed list is a verdict about what it was given; one that
names a setting leaves it to the operator; one that names another is our own fault; one that died,
hung or grew is tried again until it is parked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from bot.errors import Broken, Misconfigured, Rejected, Transient
from bot.executors import Child, ChildError, ChildFailed, Executor
from bot.reasons import Reason
from bot.steps import Step
from bot.worker.jobs import Job
from bot.worker.protocol import SETTING
from bot.world import Base
from db.outcomes import Spent


@contextmanager
def child(executor: Executor, job: Job) -> Iterator[Child]:
    """A child at work on `job`.

    Raises:
        Rejected: the child refused its input, with the reason code.
        Misconfigured: a setting that the job was made from cannot be used.
        Broken: the child failed in a way that is not its input's fault.
        Transient: it died, hung or grew too big.
    """
    try:
        with executor.start(job) as running:
            yield running
    except ChildFailed as error:
        if error.code in list(Reason):
            raise Rejected(Reason(error.code), error.subject, error.detail) from error
        if error.code == SETTING:
            raise Misconfigured(f"`{error.subject}`: {error.message}") from error
        raise Broken(f"{job.task} in a child: {error}") from error
    except ChildError as error:
        raise Transient(f"{job.task} in a child: {error}") from error


class Meter:
    """Seconds since it was made, downloads included, as an outcome of one base.

    For a step that comes to its end; what one that fails has cost is kept by the loop.
    """

    def __init__(self, base: Base, step: Step) -> None:
        self.base, self.step = base, step
        self.started = monotonic()

    def spent(self) -> Spent:
        return Spent(self.base.id, self.step.verb, seconds=monotonic() - self.started)
