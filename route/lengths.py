"""How long a block should be, from how often drafts are rejected and guesses right. Ours.

With rejection rate r per position (s = 1 - r), m drafts and one forward that settles them give
E_m = (1 - s^m) / r tokens on average for m + 1 forwards. Behind a block that was kept whole the
aligned model guesses one token more. A guess that is right (share a) costs the base no forward of
its own; a wrong one takes the place of one draft. With g the share of blocks that begin with one,

    g   = (1 - g) s^m + g (a s^m + (1 - a) s^(m-1))
    T   = E_m + g (1 - (1 - a) s^(m-1))              tokens per block
    cost = (m + 1) / T                               forwards of either model per token

Without guesses (g = 0) the best m is near sqrt(2 / r) and its cost near 1 + sqrt(2 r); with them
blocks are shorter and cost about half as much above 1. Standard library only.
"""

from dataclasses import dataclass

LONGEST = 16


@dataclass
class Rates:
    """What became of drafts and guesses so far, over all rows; at first as if 1 of 4 drafts had
    been rejected and 3 of 4 guesses been right."""

    seen: int = 0
    rejected: int = 0
    guessed: int = 0
    right: int = 0

    def add(self, seen: int = 0, rejected: int = 0, guessed: int = 0, right: int = 0) -> None:
        self.seen += seen
        self.rejected += rejected
        self.guessed += guessed
        self.right += right

    def best(self) -> int:
        rejection = (self.rejected + 1) / (self.seen + 4)
        return best_block(rejection, (self.right + 3) / (self.guessed + 4))


def best_block(rejection: float, right: float | None = None) -> int:
    """The block length with the fewest forwards per token at these rates; see `cost`."""
    return min(range(1, LONGEST + 1), key=lambda m: cost(rejection, m, right))


def cost(rejection: float, block: int, right: float | None = None) -> float:
    """Forwards of both models per token, at a rejection rate per position and a share of guesses
    that are right; None: without guesses."""
    r = min(max(rejection, 1e-6), 1 - 1e-6)
    whole, before = (1 - r) ** block, (1 - r) ** (block - 1)
    tokens = (1 - whole) / r
    if right is not None:
        guesses = whole / (1 + whole - right * whole - (1 - right) * before)
        tokens += guesses * (1 - (1 - right) * before)
    return (block + 1) / tokens
