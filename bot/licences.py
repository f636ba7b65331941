"""What may be done with an average of models under several licences: a table, not legal advice.

Licence identifiers are those of the Hub's card metadata. Everything not listed here is unknown,
and unknown means no permission. The rules, strictest first:

never     no licence, an unknown one, or `other`: all rights are reserved
private   the licence forbids commercial use or the sharing of derivatives, or two licences each
          insist on their own terms (two community licences, two kinds of share-alike)
public    permissive licences, alone or with one licence that insists on its own terms; the result
          carries that one, or else the most demanding permissive one

Not promised: that authors declared their licence truthfully, or that a court agrees.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce


class Use(IntEnum):
    """What is allowed; a larger value is stricter."""

    PUBLIC = 0
    PRIVATE = 1
    NEVER = 2


@dataclass(frozen=True)
class Terms:
    """The conditions on a model or an average. licence: identifier to carry, None if there is no
    single one."""

    use: Use
    licence: str | None


PERMISSIVE = (
    "cc0-1.0", "unlicense", "wtfpl", "pddl",
    "mit", "isc", "zlib", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0",
    "ncsa", "postgresql", "openmdw-1.0", "ecl-2.0", "apache-2.0", "cc-by-3.0", "cc-by-4.0",
)  # fmt: skip
"""May be combined with anything listed; from the least to the most demanding."""

OWN_TERMS = (
    "cc-by-sa-3.0", "cc-by-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0",
    "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "openrail++",
    "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma",
)  # fmt: skip
"""Share-alike and community licences: derivatives keep exactly these terms, naming included."""

NOT_TO_SHARE = (
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0",
    "fair-noncommercial-research-license", "apple-amlr", "intel-research", "h-research",
)  # fmt: skip
"""Non-commercial, no-derivatives and research-only licences."""

KNOWN = frozenset((*PERMISSIVE, *OWN_TERMS, *NOT_TO_SHARE))
PUBLISHABLE = frozenset((*PERMISSIVE, *OWN_TERMS))
_DEMAND = {licence: rank for rank, licence in enumerate(PERMISSIVE)}


def terms(licence: str | None) -> Terms:
    """The conditions of one licence identifier."""
    if licence not in KNOWN:
        return Terms(Use.NEVER, None)
    return Terms(Use.PUBLIC if licence in PUBLISHABLE else Use.PRIVATE, licence)


def combine(licences: Iterable[str | None]) -> Terms:
    """The conditions on something made of parts under `licences`; no parts, no permission.

    Symmetric and associative, and never more permissive than any part.
    """
    parts = [terms(licence) for licence in licences]
    return reduce(_both, parts) if parts else Terms(Use.NEVER, None)


def _both(left: Terms, right: Terms) -> Terms:
    use = max(left.use, right.use)
    if left.licence == right.licence:
        return Terms(use, left.licence)
    if left.licence is None or right.licence is None:
        return Terms(max(use, Use.PRIVATE), None)
    if left.licence in _DEMAND and right.licence in _DEMAND:
        return Terms(use, max(left.licence, right.licence, key=_DEMAND.__getitem__))
    if left.licence in _DEMAND:
        return Terms(use, right.licence)
    if right.licence in _DEMAND:
        return Terms(use, left.licence)
    return Terms(max(use, Use.PRIVATE), None)
