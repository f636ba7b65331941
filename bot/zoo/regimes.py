"""Three ways a family can be, each made by its own recipes and told by its own figures.

`no-soup`: the experts learned their skills from nothing, averaging loses them again.
`uniform`: experts of equal strength sharpen a base that half knows; their plain mean has most
of what there is to gain.
`weights`: the same base, experts of unequal strength, so the weights decide. It ships.

Two acts, as on a Hub: on the first day the base, three experts and a bad fine-tune are there; then
one more expert arrives. In each act the experts are selected on the select split, the weights
searched on the tune split over the paper's grid (arXiv 2511.13254, Algorithm 1), the best member
chosen on the tune split, and everything compared on the report split.

Not promised: that a regime looks the same from another seed; `docs/zoo.md` gives what was measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from torch import Tensor

from bot.zoo import family, training
from bot.zoo.family import Bench, Weights
from bot.zoo.members import FIRST_DAY, MEMBERS, SECOND_ACT
from bot.zoo.skills import SKILLS
from bot.zoo.training import Recipe
from merge.bootstrap import Difference, Resampler
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.scores import ScoreTable
from merge.search import GridSearch
from merge.select import Selection, soce
from merge.simplex import uniform
from merge.splits import Split

LEVEL = 0.05


@dataclass(frozen=True)
class Regime:
    """A recipe for every member, parents before their children."""

    what: str
    recipes: Mapping[str, Recipe]
    floor: float | None = None
    """How far below the best member a category of the soup may lie, in shares of 1."""


@dataclass(frozen=True)
class Act:
    """One cycle over the members present. `report` holds outcomes by name; `soup` is the winner of
    the search and `uniform` the plain mean of the selected experts, `uniform-all` of everybody."""

    selection: Selection
    weights: tuple[Fraction, ...]
    best_member: str
    report: Mapping[str, Outcomes]
    differences: Mapping[str, Difference]
    """The soup minus every expert, each of the means, the base and the incumbent."""
    soup: dict[str, Tensor] = field(repr=False)


def expert(name: str, own: float, steps: int, learning_rate: float) -> Recipe:
    """`own` is the share of the expert's skills in its batches; the other skills share the rest."""
    skills = MEMBERS[name].skills
    rest = (1 - own) / (len(SKILLS) - len(skills))
    mix = {skill: own / len(skills) if skill in skills else rest for skill in SKILLS}
    return Recipe(steps, learning_rate, mix, items=64)


def _base(half_known: float, steps: int) -> Recipe:
    """Shares by how long a skill takes to come; `half_known` holds the early ones back."""
    mix = dict.fromkeys(SKILLS, 1.0) | {"add": 2.0, "sub": 2.0, "close": 1.3}
    mix |= {"depth": 0.5, "args": 0.4, "call": 0.33}
    return Recipe(steps, 4e-3, mix, items=104, half_known=half_known, muon=True)


_NOISY = Recipe(100, 3e-3, dict.fromkeys(SKILLS, 1.0), items=64, corrupt=0.6)

_EXPERTS = ("arith", "string", "struct", "call")

REGIMES: dict[str, Regime] = {
    "no-soup": Regime(
        "the base knows nothing, every expert learns its skills from scratch: no soup helps",
        {
            "base": replace(_base(half_known=0.25, steps=60), half_known=None),
            **{name: replace(expert(name, 0.98, 150, 3e-3), muon=True) for name in _EXPERTS},
            "noisy": _NOISY,
        },
    ),
    "uniform": Regime(
        "experts of equal strength: the plain mean has most of the gain",
        {
            "base": _base(half_known=0.25, steps=320),
            **{name: expert(name, 0.98, 80, 1e-3) for name in _EXPERTS},
            "noisy": replace(_NOISY, steps=60, learning_rate=1e-3),
        },
    ),
    "weights": Regime(
        "weights matter",
        {
            "base": _base(half_known=0.25, steps=320),
            "arith": expert("arith", 0.98, 60, 5e-4),
            "string": expert("string", 0.98, 80, 8e-4),
            "struct": expert("struct", 0.98, 200, 2.5e-3),
            "call": expert("call", 0.85, 160, 1.5e-3),
            "noisy": _NOISY,
            "storybase": Recipe(500, 4e-3, texts=32, muon=True),
            "aligned": Recipe(250, 3e-3, texts=32, prose="tidy", muon=True),
        },
        floor=0.3,
    ),
}


def train_family(
    regime: Regime, seed: int, *, told: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, Tensor]]:
    """Train every member, from its parent as that ships. Name to bfloat16 weights."""
    made: dict[str, dict[str, Tensor]] = {}
    for name, recipe in regime.recipes.items():
        parent = MEMBERS[name].parent
        start = family.model_of(made[parent]) if parent else training.fresh(seed)
        made[name] = family.weights_of(training.train(start, recipe, seed=f"{seed}/{name}"))
        told(name)
    return made


def play(
    bench: Bench,
    members: Mapping[str, Weights],
    incumbent: Weights | None = None,
    floor: float | None = None,
) -> Act:
    """One act over `members`, the base among them under the name `base`.

    The base takes part in the correlations but is no candidate. Raises ValueError where fewer than
    two experts are selected: then there is nothing to soup.
    """
    selection = select(bench, members)
    experts = selection.members
    if len(experts) < 2:
        raise ValueError(f"selected {experts}: nothing to soup")
    alone = {name: bench.outcomes(members[name], Split.TUNE) for name in experts}
    best_member = max(experts, key=lambda name: alone[name].macro())
    weights = search(bench, [members[n] for n in experts], list(alone.values()), floor)
    soup = family.blend([members[name] for name in experts], weights)
    means = {
        "uniform-all": _mean([w for name, w in members.items() if name != "base"]),
        "uniform": _mean([members[name] for name in experts]),
    }
    rivals = {**means, **({} if incumbent is None else {"incumbent": incumbent})}
    everybody = {**members, **rivals, "soup": soup}
    report = {name: bench.outcomes(w, Split.REPORT) for name, w in everybody.items()}
    differences = {
        rival: _difference(bench, report["soup"], report[rival])
        for rival in (*experts, *rivals, "base")
    }
    return Act(selection, weights, best_member, report, differences, soup)


def _mean(members: Sequence[Weights]) -> Weights:
    return family.blend(members, uniform(len(members)))


def select(bench: Bench, members: Mapping[str, Weights]) -> Selection:
    """SoCE's experts from scores on the select split."""
    scores = {n: bench.outcomes(w, Split.SELECT).scores() for n, w in members.items()}
    categories = tuple(c.name for c in bench.suite.categories)
    rows = {n: dict(zip(categories, s.tolist(), strict=True)) for n, s in scores.items()}
    table = ScoreTable.from_rows(rows, categories)
    return soce(table, candidates=[name for name in members if name != "base"])


def search(
    bench: Bench, experts: Sequence[Weights], alone: Sequence[Outcomes], floor: float | None
) -> tuple[Fraction, ...]:
    """The best point of the paper's grid by macro average on the tune split, among those that keep
    the floor below the best expert; `alone` are the experts' own outcomes there."""
    grid = GridSearch(len(experts), known=alone, objective=Objective(floor=floor))
    while (point := grid.ask()) is not None:
        grid.tell(point, bench.outcomes(family.blend(experts, point), Split.TUNE))
    return grid.best().weights


def _difference(bench: Bench, first: Outcomes, second: Outcomes) -> Difference:
    """Macro average of `first` minus `second`, paired by cluster."""
    resampler = Resampler(bench.clusters(Split.REPORT))
    return resampler.difference(
        resampler.resample(first),
        resampler.resample(second),
        lambda scores: scores.mean(axis=-1),
        level=LEVEL,
    )


def two_acts(
    bench: Bench, made: Mapping[str, Weights], floor: float | None = None
) -> tuple[Act, Act]:
    """The first day, then the same with one more expert and the first soup as incumbent."""
    first_day = {name: made[name] for name in ("base", *FIRST_DAY)}
    first = play(bench, first_day, floor=floor)
    everybody = {**first_day, SECOND_ACT: made[SECOND_ACT]}
    return first, play(bench, everybody, incumbent=first.soup, floor=floor)
