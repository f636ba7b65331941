"""Under which licence a draft may leave us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bot.errors import Rejected
from bot.licences import Terms, Use, combine
from bot.reasons import Reason


def terms_of(
    licences: Sequence[str | None], target: str, *, private: bool, withheld: bool = False
) -> Terms:
    """The terms of something made of parts under `licences`.

    withheld: a part was admitted for private use alone, so all of it is.
    Raises Rejected where it would be public and may not be.
    """
    terms = combine(licences)
    if withheld:
        terms = replace(terms, use=max(terms.use, Use.PRIVATE))
    if not (private or terms.use is Use.PUBLIC):
        found = ", ".join(sorted({licence or "none" for licence in licences}))
        detail = f"made of licences {found}; set private = true to keep it"
        raise Rejected(Reason.LICENCE_CONFLICT, target, detail)
    return terms
