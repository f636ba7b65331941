"""The value that every selection method returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Selection:
    """What a selection method chose, and why.

    correlations: category -> category -> r, None where undefined; symmetric.
    weak_pairs: (category, category, r), each pair once, in column order.
    experts: category -> model. members: the distinct experts, in table order.
    notes: one sentence per degenerate case met; empty where there was none.
    """

    method: str
    correlations: Mapping[str, Mapping[str, float | None]]
    weak_pairs: tuple[tuple[str, str, float], ...]
    experts: Mapping[str, str]
    members: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def limited(self, most: int) -> Selection:
        """At most so many members: those that lead most categories, the first of equals. A category
        whose expert goes has none, and a note says so."""
        if len(self.members) <= most:
            return self
        leads = Counter(self.experts.values())
        kept = sorted(self.members, key=lambda m: (-leads[m], self.members.index(m)))[:most]
        return replace(
            self,
            experts={c: m for c, m in self.experts.items() if m in kept},
            members=tuple(m for m in self.members if m in kept),
            notes=(
                *self.notes,
                f"{len(self.members)} experts: {most} that lead most are taken",
            ),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "correlations": {a: dict(row) for a, row in self.correlations.items()},
            "weak_pairs": [list(pair) for pair in self.weak_pairs],
            "experts": dict(self.experts),
            "members": list(self.members),
            "notes": list(self.notes),
        }
