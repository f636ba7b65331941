"""What the operator chose and everybody else is measured by: the base, and the donor.

That they cannot be read says nothing about a candidate, and what is found out about a candidate is
final. So the base's own step parks and tells a person; those of candidates wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bot.errors import Gone, Misconfigured, Rejected, Transient
from db.rows import CandidateRow


@contextmanager
def ours(candidate: CandidateRow) -> Iterator[None]:
    """Base or donor are being read in a step of `candidate`.

    Raises:
        Misconfigured: they are refused or gone, and the step is the base's own.
        Transient: they are, and the step is another candidate's.
    """
    try:
        yield
    except (Gone, Rejected) as error:
        if candidate.role == "base":
            raise unusable(candidate, error) from error
        raise Transient(f"{candidate.pin} has to wait for its base: {error}") from error


def unusable(base: CandidateRow, error: Gone | Rejected) -> Misconfigured:
    """Without its base nothing can go on: a person has to see it, no verdict is recorded."""
    return Misconfigured(f"the base {base.pin} cannot be used: {error}")
