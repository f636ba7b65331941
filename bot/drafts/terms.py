"""Under which licence a draft may leave us."""

from __future__ import annotations

from collections.abc import Sequence

from bot.errors import Rejected
from bot.licences import Terms, Use, combine
from bot.reasons import Reason


def terms_of(
    licences: Sequence[str | None], target: str, *, private: bool, withheld: bool = False
) -> Terms:
    """The terms of something made of parts under `licences`.

    withheld: a part was admitted for private use alone.
    Raises Rejected where it would be public and may not be.
    """
    terms = combine(licences)
    if (withheld or terms.use is not Use.PUBLIC) and not private:
        found = ", ".join(sorted({licence or "none" for licence in licences}))
        detail = f"made of licences {found}; set private = true to keep it"
        raise Rejected(Reason.LICENCE_CONFLICT, target, detail)
    return terms
