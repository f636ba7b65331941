"""The figures of a family as printed tables, and the recorded ones of the shipped weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.zoo import family
from bot.zoo.family import Bench
from bot.zoo.members import MEMBERS, WEIGHTS
from bot.zoo.regimes import Act
from merge.outcomes import Outcomes
from merge.splits import Split

FIGURES = WEIGHTS / "figures.json"
TOLERANCE = 0.02
"""Largest accepted difference of a category score (share of 1, n = 150) on another processor."""


def show(acts: Sequence[Act]) -> None:
    for number, act in enumerate(acts, start=1):
        experts = ", ".join(f"{c} {m}" for c, m in act.selection.experts.items())
        weights = zip(act.selection.members, act.weights, strict=True)
        print(f"\nact {number}: experts by category: {experts}")
        print("weights: " + ", ".join(f"{name} {float(weight):.2f}" for name, weight in weights))
        print(table(act.report))
        for rival, d in act.differences.items():
            better = f"best member, {rival}" if rival == act.best_member else rival
            errors = d.mean / d.stderr if d.stderr else 0.0
            print(
                f"soup minus {better}: {100 * d.mean:+.2f} points"
                f" [{100 * d.low:+.2f}, {100 * d.high:+.2f}], {errors:.1f} standard"
                f" errors, {d.n_items} items in {d.n_clusters} clusters"
            )


def table(report: Mapping[str, Outcomes]) -> str:
    """Per cent right by category on the report split, one row a model, macro average last."""
    categories = next(iter(report.values())).categories
    lines = [" " * 12 + "".join(f"{c:>8}" for c in (*categories, "macro"))]
    for name, outcomes in report.items():
        values = [*outcomes.scores().tolist(), outcomes.macro()]
        lines.append(f"{name:12}" + "".join(f"{100 * value:8.1f}" for value in values))
    return "\n".join(lines)


def shipped_scores(bench: Bench) -> dict[str, dict[str, float]]:
    """Report-split score by member and category of the committed weights."""
    return {
        name: {category: outcomes.score(category).value for category in outcomes.categories}
        for name in MEMBERS
        for outcomes in [bench.outcomes(read_shipped(name), Split.REPORT)]
    }


def read_shipped(name: str) -> family.Weights:
    return family.read(WEIGHTS / name / "model.safetensors")


def record(path: Path = FIGURES) -> None:
    path.write_text(json.dumps(shipped_scores(Bench()), indent=1) + "\n")


def check(path: Path = FIGURES) -> int:
    """Print recorded against measured macro averages; 1 if a category is off by more than told."""
    recorded = json.loads(path.read_text())
    measured = shipped_scores(Bench())
    worst = 0.0
    for name, scores in measured.items():
        off = max(abs(scores[c] - recorded[name][c]) for c in scores)
        worst = max(worst, off)
        macro = sum(scores.values()) / len(scores)
        print(f"{name:10} macro {100 * macro:5.1f}, largest deviation {100 * off:.1f} points")
    print(f"allowed: {100 * TOLERANCE:.0f} points")
    return int(worst > TOLERANCE)
