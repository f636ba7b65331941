"""The page of a published soup.

A reader asks three things: what is in it, is it really better, how do I use or redo it. The page
answers in that order, with every figure from the report split, and says what is worse as plainly
as what is better. Values come in, text goes out: no network, no files, no clock, so that the same
card can be rendered again byte for byte.

Not promised here: that the figures are true. The gate computes them; `bot verify` compares files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from bot.cards import metadata
from bot.cards.escape import DIGEST, Markdown, listing, show_label, show_token
from bot.cards.figures import Difference, Score, show_points
from bot.cards.models import Ingredient, Licence, Source
from bot.cards.render import render

TAGS = ("merge", "model-soup", "stockpot")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class CategoryRow:
    """One category on the report split; `ingredients` in the order of the card's ingredients.

    A cell is None where nothing was measured. `versus_best` is the paired difference to the best
    ingredient; `corrected` says whether it survives the correction over categories.
    """

    category: str
    soup: Score
    ingredients: tuple[Score | None, ...]
    base: Score | None
    versus_best: Difference | None = None
    corrected: bool | None = None


@dataclass(frozen=True)
class Benchmark:
    """What was measured, and how its items are divided (numbers of items per split)."""

    name: str
    version: str
    digest: str
    splits_digest: str
    seed: int
    select: int
    tune: int
    report: int


@dataclass(frozen=True)
class SelectionFigures:
    """How the ingredients were chosen. `settings` are printed as they are named: tau, 0.1.

    `rival` is the other method, which the settings did not take: it would have added the
    repositories `rival_adds` and left out `rival_omits`.
    """

    method: str
    settings: tuple[tuple[str, str], ...]
    considered: int
    rival: str
    rival_adds: tuple[str, ...] = ()
    rival_omits: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchFigures:
    """How the weights were chosen; `tune` is the winner's score on the split that chose it.

    `evaluations` counts items answered by soups that were tried, `full` the items of one complete
    evaluation, `grid` the soups of the published method's grid (0 where it has none).
    """

    strategy: str
    soups_tried: int
    tune: Score
    evaluations: int
    full: int
    grid: int

    @property
    def complete(self) -> float:
        """What was spent, in complete evaluations."""
        return self.evaluations / self.full


@dataclass(frozen=True)
class Rivals:
    """What a soup is compared with on `items` items, as differences of the objective."""

    items: int
    versus_best: Difference
    versus_uniform: Difference | None
    versus_greedy: Difference | None
    versus_incumbent: Difference | None


@dataclass(frozen=True)
class GateFigures:
    """The decision to publish. `best` is the place of the best ingredient, chosen without report.

    `look` counts decisions on any of these report items; `level` is what this one may spend of
    `alpha`. `gained` and `lost` are items against the best ingredient; `margin` is the gain asked
    for and `floor` the largest fall of a category that was allowed, both as shares. `rivals` are
    measured on report items; where these are few, `both_rounds` decided, with the tune items of a
    second search.
    """

    best: int
    look: int
    level: float
    alpha: float
    rivals: Rivals
    incumbent: str | None
    gained: int
    lost: int
    margin: float = 0.0
    floor: float | None = None
    both_rounds: Rivals | None = None

    @property
    def versus_best(self) -> Difference:
        return self.rivals.versus_best

    @property
    def deciding(self) -> Rivals:
        return self.both_rounds or self.rivals

    @property
    def passed(self) -> bool:
        """Whether every interval that the decision rests on lies above the margin."""
        found = (self.deciding.versus_best, self.deciding.versus_incumbent)
        return all(rival is None or rival.low > self.margin for rival in found)


@dataclass(frozen=True)
class Usage:
    """The prompt of the printed snippet; `chat` sends it through the tokenizer's chat template."""

    prompt: str
    max_new_tokens: int
    chat: bool = False


@dataclass(frozen=True)
class SoupCard:
    """Everything a soup's page says. `version` is the tag.

    `dtypes` are those of the stored tensors. `mean` is the row over all categories, combined as
    `objective` says.

    Raises ValueError when the values contradict each other: a card is not the place to find out.
    """

    repo: str
    version: str
    base: Source
    donor: Source
    ingredients: tuple[Ingredient, ...]
    licence: Licence
    dtypes: tuple[str, ...]
    recipe_digest: str
    mergekit_yaml: str
    benchmark: Benchmark
    rows: tuple[CategoryRow, ...]
    mean: CategoryRow
    selection: SelectionFigures
    search: SearchFigures
    gate: GateFigures
    usage: Usage
    contact: str
    objective: str = "mean over the categories"
    picture: str | None = "categories.png"
    languages: tuple[str, ...] = ()
    not_for_all_audiences: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.ingredients) <= len(_LETTERS):
            raise ValueError(f"{len(self.ingredients)} ingredients on one card")
        if any(member.weight < 0 for member in self.ingredients):
            raise ValueError("a weight is negative")
        if (total := sum((m.weight for m in self.ingredients), Fraction(0))) != 1:
            raise ValueError(f"the weights sum to {total}, not to 1")
        if not self.dtypes:
            raise ValueError("a soup without a dtype")
        if not self.rows:
            raise ValueError("a card without categories")
        for row in (*self.rows, self.mean):
            if len(row.ingredients) != len(self.ingredients):
                raise ValueError(f"row {row.category!r} does not have one cell per ingredient")
        if not 0 <= self.gate.best < len(self.ingredients):
            raise ValueError(f"no ingredient has place {self.gate.best}")
        if (self.gate.incumbent is None) != (self.gate.deciding.versus_incumbent is None):
            raise ValueError("an incumbent needs both its version and its difference")
        if not self.gate.passed:
            raise ValueError("a soup that its gate did not pass gets no card")
        if not DIGEST.fullmatch(self.recipe_digest):
            raise ValueError(f"not a recipe digest: {self.recipe_digest!r}")

    @property
    def optimism(self) -> float:
        """Tune score minus report score: what choosing the best of many makes look better."""
        return self.search.tune.value - self.mean.soup.value


def render_soup(card: SoupCard) -> str:
    """The whole README.md of a soup."""
    letters = [Markdown(letter) for letter in _LETTERS[: len(card.ingredients)]]
    best = letters[card.gate.best]
    changes = [row.versus_best for row in card.rows]
    body = render(
        "soup.md.jinja",
        card=card,
        gate=card.gate,
        letters=letters,
        best=best,
        rivals=_rivals(card.gate, f"{best}, the best ingredient", card.gate.rivals),
        both_rivals=_rivals(card.gate, "the best ingredient, chosen anew", card.gate.both_rounds),
        better=_changes(card, sign=1),
        worse=_changes(card, sign=-1),
        behind=_behind(card, letters),
        row_confidence=next((d.confidence for d in changes if d is not None), None),
        corrected=any(row.corrected is not None for row in card.rows),
        name=show_label(card.repo.rpartition("/")[2]),
    )
    return metadata.front_matter(soup_metadata(card)) + "\n" + body


def soup_metadata(card: SoupCard) -> dict[str, object]:
    """The front matter as a mapping; `base_model` lists the base first, then every ingredient."""
    used = [member.model.repo for member in card.ingredients if member.weight]
    fields = metadata.common(
        licence=card.licence,
        base_models=[card.base.repo, *used],
        relation="merge",
        tags=TAGS,
        languages=card.languages,
        not_for_all_audiences=card.not_for_all_audiences,
    )
    scores = [(row.category, row.soup) for row in card.rows]
    fields["model-index"] = metadata.model_index(
        card.repo, card.benchmark.name, card.benchmark.digest, scores
    )
    return fields


def _rivals(
    gate: GateFigures, best: str, found: Rivals | None
) -> list[tuple[Markdown, Difference]]:
    """The rows of a table of comparisons."""
    if found is None:
        return []
    before = "" if gate.incumbent is None else show_token(gate.incumbent)
    rows = [
        (best, found.versus_best),
        ("the plain average of the same ingredients", found.versus_uniform),
        ("the greedy soup of the same ingredients", found.versus_greedy),
        (f"the version before this one, {before}", found.versus_incumbent),
    ]
    return [(Markdown(name), change) for name, change in rows if change is not None]


def _changes(card: SoupCard, *, sign: int) -> list[Markdown]:
    """Categories where the soup is above (sign 1) or below (-1) the best ingredient."""
    found = []
    for row in card.rows:
        best = row.ingredients[card.gate.best]
        if best is not None and (row.soup.value - best.value) * sign > 0:
            change = show_points(row.soup.value - best.value)
            found.append(Markdown(f"{show_label(row.category)} {change}"))
    return found


def _behind(card: SoupCard, letters: list[Markdown]) -> Markdown:
    """Categories where some ingredient, the specialist, is above the soup, with the distance."""
    return listing(
        Markdown(f"{show_label(row.category)} {show_points(-distance)} ({letters[place]})")
        for row, distance, place in _specialists(card)
        if distance > 0
    )


def _specialists(card: SoupCard) -> Iterator[tuple[CategoryRow, float, int]]:
    """Per category: its row, how far its best ingredient is above the soup, and which one."""
    for row in card.rows:
        cells = [(cell.value, -i) for i, cell in enumerate(row.ingredients) if cell is not None]
        if cells:
            value, place = max(cells)
            yield row, value - row.soup.value, -place
