"""Read one job, do it, tell how it went; called by ``__main__`` once the process is locked up.

Every failure leaves as one ``{"error": {"code", "message"}}`` line: a refusal by its own code, and
a fault in the work as ``broken`` with the trace on standard error.
"""

import errno
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType

from bot.suites import SuiteError
from bot.worker.jobs import Job, read_job, read_limits
from bot.worker.protocol import Channel, ProtocolError
from bot.worker.sandbox import limit
from merge.errors import Refused

Task = Callable[[Job, Channel], None]


def serve(channel: Channel) -> None:
    """One job from the channel; none when the other end closes it first."""
    sys.excepthook = _reporting(channel)
    order = channel.receive()
    if order is None:
        return
    limit(read_limits(order.get("limits")))
    job = read_job(order.get("job"))
    task: Task = importlib.import_module(f"bot.worker.{job.task}").run
    task(job, channel)
    channel.send({"done": True})


def error_message(error: BaseException) -> Mapping[str, str]:
    """Code and sentence of a failure; `subject` and `detail` where the engine refused."""
    if isinstance(error, Refused):
        facts = {"subject": error.subject, "detail": error.detail}
        message = str(error).removeprefix(f"{error.code}: ")
        return {"code": str(error.code), "message": message, **facts}
    code = "broken"
    if isinstance(error, MemoryError):
        code = "out-of-memory"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "disk-full"
    elif isinstance(error, SuiteError):
        code = "suite"
    elif isinstance(error, ProtocolError):
        code = "protocol"
    return {"code": code, "message": f"{type(error).__name__}: {error}"[:4000]}


def _reporting(
    channel: Channel,
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """An excepthook, so that a failure is told whatever it is and Python still ends with 1."""

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        traceback.print_exception(kind, error, trace)
        channel.send({"error": error_message(error)})

    return report
