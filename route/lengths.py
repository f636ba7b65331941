"""How long a block should be, from how often drafts are rejected. Ours.

With rejection rate r per position, m drafts and one forward that settles them give
(1 - (1 - r)^m) / r tokens on average, so a token costs (m + 1) r / (1 - (1 - r)^m) forwards of
either model; the best m is near sqrt(2 / r), its cost near 1 + sqrt(2 r). Standard library only.
"""

from dataclasses import dataclass

LONGEST = 16


@dataclass
class Rate:
    """How often a draft was rejected so far, over all rows; at first as if 1 of 4 had been."""

    rejected: int = 0
    seen: int = 0

    def add(self, rejected: int, seen: int) -> None:
        self.rejected += rejected
        self.seen += seen

    def best(self) -> int:
        return best_block((self.rejected + 1) / (self.seen + 4))


def best_block(rejection: float) -> int:
    """The block length with the fewest forwards per token at this rejection rate per position."""
    return min(range(1, LONGEST + 1), key=lambda m: cost(rejection, m))


def cost(rejection: float, block: int) -> float:
    """Forwards of both models per token: (m + 1) r / (1 - (1 - r)^m)."""
    r = min(max(rejection, 1e-6), 1 - 1e-6)
    return (block + 1) * r / (1 - (1 - r) ** block)
