"""The models a card speaks of."""

from dataclasses import dataclass
from fractions import Fraction

from bot.cards.escape import COMMIT


@dataclass(frozen=True)
class Source:
    """A model at a pinned commit. `author` defaults to the namespace of the repository."""

    repo: str
    sha: str
    licence: str
    author: str = ""

    def __post_init__(self) -> None:
        if not COMMIT.fullmatch(self.sha):
            raise ValueError(f"{self.repo!r} is not pinned: {self.sha!r} is no 40-hex commit")
        if not self.author:
            object.__setattr__(self, "author", self.repo.partition("/")[0])


@dataclass(frozen=True)
class Ingredient:
    """A member of a soup; weight 0 is a selected member that the search left out.

    `categories` are those for which selection called it the expert.
    """

    model: Source
    weight: Fraction
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Licence:
    """The licence computed for what we publish: a Hub licence id, and for `other` name and link."""

    id: str
    name: str | None = None
    link: str | None = None
