"""The recorded figures of a regime: one JSON file each, written by `python -m bot.zoo --record`.

Everything is in shares of 1; the tables of `bot.zoo.tables` show per cent and points.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.zoo.family import Bench
from bot.zoo.pair import Prose
from bot.zoo.regimes import Act
from merge.bootstrap import Difference
from merge.splits import Split

FOLDER = Path(__file__).parent / "recorded"

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Margin:
    """The soup minus a rival, macro average over the report split; `level` is the interval's."""

    mean: float
    low: float
    high: float
    stderr: float
    level: float
    items: int
    clusters: int


@dataclass(frozen=True)
class ActFigures:
    """`experts`: category to the expert selected for it. `scores`: name to category to share."""

    experts: Mapping[str, str]
    weights: Mapping[str, str]
    best_member: str
    scores: Mapping[str, Scores]
    margins: Mapping[str, Margin]


@dataclass(frozen=True)
class Figures:
    """What one family showed on the report split of one edition of the suite."""

    regime: str
    seed: int
    suite: str
    digest: str
    floor: float | None
    items: Mapping[str, int]
    acts: tuple[ActFigures, ...]
    pair: Mapping[str, Prose]


def figures(
    regime: str,
    seed: int,
    floor: float | None,
    bench: Bench,
    acts: tuple[Act, ...],
    pair: Mapping[str, Prose],
) -> Figures:
    return Figures(
        regime=regime,
        seed=seed,
        suite=bench.suite.version,
        digest=bench.suite.digest,
        floor=floor,
        items={c: len(items) for c, items in bench.items[Split.REPORT].items()},
        acts=tuple(map(_act, acts)),
        pair=pair,
    )


def _act(act: Act) -> ActFigures:
    members = zip(act.selection.members, act.weights, strict=True)
    return ActFigures(
        experts=dict(act.selection.experts),
        weights={name: str(weight) for name, weight in members},
        best_member=act.best_member,
        scores={
            name: dict(zip(o.categories, o.scores().tolist(), strict=True))
            for name, o in act.report.items()
        },
        margins={rival: _margin(d) for rival, d in act.differences.items()},
    )


def _margin(d: Difference) -> Margin:
    return Margin(d.mean, d.low, d.high, d.stderr, d.level, d.n_items, d.n_clusters)


def write(found: Figures, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def read(regime: str) -> Figures:
    """The committed figures of a regime. Raises FileNotFoundError where none are."""
    raw = json.loads((FOLDER / f"{regime}.json").read_text())
    acts = tuple(_read_act(act) for act in raw.pop("acts"))
    pair = {name: Prose(**prose) for name, prose in raw.pop("pair").items()}
    return Figures(acts=acts, pair=pair, **raw)


def _read_act(raw: dict[str, Mapping[str, Mapping[str, float]]]) -> ActFigures:
    margins = {
        rival: Margin(**margin)  # type: ignore[arg-type]
        for rival, margin in raw.pop("margins").items()
    }
    return ActFigures(margins=margins, **raw)  # type: ignore[arg-type]
