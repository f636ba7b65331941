"""What a family showed, told on the terminal, and the shipped weights against the recorded figures.

A second run on the machine that recorded them deviates by nothing. `--check` allows for another
processor's rounding in scoring; it says nothing of training again elsewhere.
"""

from dataclasses import astuple

from bot.zoo import family, pair, tables
from bot.zoo.family import Bench
from bot.zoo.figures import Figures, Scores, read
from bot.zoo.members import MEMBERS, WEIGHTS
from bot.zoo.pair import Prose
from merge.splits import Split

SHIPPED = "weights"
TOLERANCE = 0.02
"""Largest accepted difference of a category score (share of 1, n = 168) on another processor."""
PROSE_TOLERANCE = 0.05
"""The same for quality and its parts: there the texts themselves are drawn anew."""


def show(found: Figures) -> None:
    items = sum(found.items.values())
    print(f"\n{found.regime}, seed {found.seed}: {items} report items of edition {found.suite}")
    for label, act in zip(tables.ACTS, found.acts, strict=True):
        chosen = ", ".join(f"{category} {expert}" for category, expert in act.experts.items())
        print(f"\n{label}; experts: {chosen}\n\n{tables.scores(act)}\n\n{tables.margins(act)}")
    if found.pair:
        print(f"\n{tables.pair(found)}")


def read_shipped(name: str) -> family.Weights:
    return family.read(WEIGHTS / name / "model.safetensors")


def recorded_scores() -> dict[str, Scores]:
    """Member to category to share right on the report split, as recorded."""
    scores = read(SHIPPED).acts[-1].scores
    return {name: scores[name] for name in MEMBERS if name in scores}


def check() -> int:
    """Print recorded against measured figures; 1 if one is off by more than told."""
    recorded = read(SHIPPED)
    bench = Bench()
    if bench.suite.digest != recorded.digest:
        print(f"the figures belong to edition {recorded.suite}, of other items")
        return 1
    off = [_skills_off(name, scores, bench) for name, scores in recorded_scores().items()]
    prose = [_prose_off(name, told) for name, told in recorded.pair.items()]
    print(f"allowed: {100 * TOLERANCE:.0f} points a category, {PROSE_TOLERANCE} of quality")
    return int(max(off) > TOLERANCE or max(prose) > PROSE_TOLERANCE)


def _skills_off(name: str, recorded: Scores, bench: Bench) -> float:
    outcomes = bench.outcomes(read_shipped(name), Split.REPORT)
    off = max(abs(outcomes.score(c).value - share) for c, share in recorded.items())
    mean = 100 * outcomes.macro()
    print(f"{name:10} mean {mean:5.1f}, largest deviation {100 * off:.1f} points")
    return off


def _prose_off(name: str, recorded: Prose) -> float:
    found = pair.measure(name, read_shipped(name))
    parts = slice(0, 4)  # quality, topic, form, ending
    pairs = zip(astuple(found)[parts], astuple(recorded)[parts], strict=True)
    off: float = max(abs(now - then) for now, then in pairs)
    print(f"{name:10} quality {found.quality:.2f}, largest deviation {off:.3f}")
    return off
