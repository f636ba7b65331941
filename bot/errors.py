"""What can go wrong, sorted by what the caller does next.

Fault
├── Transient    back off and run the same step again (after `retry_after` seconds, if known)
├── Unknown      an effect may have happened: look at the outside, then decide
├── Moved        412: the branch is no longer where we read it; read the head again
├── Busy         409: somebody holds the lock; wait, then send the same
├── Gone         the repository, revision or file is no longer there; withdraw the candidate
├── Forbidden    401 or 403: pause writing and tell a person
├── Rejected     a verdict about one sha, with its reason code; final for that sha
├── LeaseLost    another coordinator took over; drop the work
└── Broken       our own invariant failed; park the step, keep the daemon, raise an alarm

Misconfigured    the operator's settings or arguments cannot be used; what to change is said

Each class takes facts and writes its own sentence. A `Fault` is the only exception that a handler
is expected to let through; anything else is a bug and is treated as `Broken` by the loop.
"""

from bot.reasons import Reason, explain
from merge.errors import LONGEST_SUBJECT, printable


class Fault(Exception):
    """Root of the tree above; never raised itself."""


class Transient(Fault):
    """`what` failed in a way that time may heal.

    retry_after: seconds that the other side asked us to wait, or None when it said nothing.
    """

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        self.what = what
        self.retry_after = retry_after
        wait = "" if retry_after is None else f"; asked to wait {retry_after:.0f} s"
        super().__init__(f"{what}{wait}")


class Unknown(Fault):
    """`effect` was sent and no clear answer came back: it may or may not have happened."""

    def __init__(self, effect: str, why: str) -> None:
        self.effect = effect
        self.why = why
        super().__init__(f"{effect}: {why}; it may have happened all the same")


class Moved(Fault):
    """`repo` is no longer at `parent`, the commit that our write was based on."""

    def __init__(self, repo: str, parent: str | None = None) -> None:
        self.repo = repo
        self.parent = parent
        since = f" since {parent[:12]}" if parent else ""
        super().__init__(f"{repo} has a new commit{since}")


class Busy(Fault):
    """`repo` is locked by another operation; its head has not moved."""

    def __init__(self, repo: str, why: str = "another operation is in progress") -> None:
        self.repo = repo
        self.why = why
        super().__init__(f"{repo} is busy: {why}")


class Gone(Fault):
    """`subject` (a repository, revision or file) does not exist, or not for us."""

    def __init__(self, subject: str, why: str = "not found") -> None:
        self.subject = subject
        self.why = why
        super().__init__(f"{subject} is gone: {why}")


class Forbidden(Fault):
    """The credentials do not allow `action`."""

    def __init__(self, action: str, why: str = "") -> None:
        self.action = action
        self.why = why
        super().__init__(f"not allowed: {action}" + (f" ({why})" if why else ""))


class Rejected(Fault):
    """A verdict with its reason code. Raised by services, and returned as a value by `admission`.

    code: the first reason that applies (`bot.reasons`).
    subject: what it is about: a file, tensor, configuration key, author or repository.
    detail: the figures or names behind the verdict.

    Both may quote strangers: control characters are escaped and long texts are cut, so that they
    are safe to store and to print.
    """

    def __init__(self, code: Reason, subject: str = "", detail: str = "") -> None:
        self.code = code
        self.subject = printable(subject)
        self.detail = printable(detail, longest=4 * LONGEST_SUBJECT)
        told = f" ({self.told})" if self.told else ""
        super().__init__(f"{code}: {explain(code).meaning}{told}")

    @property
    def told(self) -> str:
        """Subject and detail in one line, beside the code."""
        return ": ".join(part for part in (self.subject, self.detail) if part)

    @property
    def facts(self) -> dict[str, str]:
        """Subject and detail as a mapping, for the database and for `--json`."""
        return {"subject": self.subject, "detail": self.detail}


class LeaseLost(Fault):
    """This process holds fencing token `held`, and a newer one exists."""

    def __init__(self, held: int | None = None, current: int | None = None) -> None:
        self.held = held
        self.current = current
        tokens = "" if held is None else f" (ours {held}, current {current})"
        super().__init__(f"another coordinator holds the lease{tokens}")


class Broken(Fault):
    """Something that we promise ourselves does not hold. Never the outside world's fault."""

    def __init__(self, invariant: str) -> None:
        self.invariant = invariant
        super().__init__(f"broken invariant: {invariant}")


class Misconfigured(Exception):
    """The settings or arguments cannot be used; the message names the field and what to do."""
