"""1b, 3 and 4. Searches over real soups of the tiny family, every weight vector evaluated once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.science.conversation import Evaluate, converse
from benchmarks.science.printing import table
from bot.suites import load_suite
from bot.zoo import family, training
from bot.zoo.members import WEIGHTS
from bot.zoo.skills import Item
from merge.gate import Verdict, judge, look_level
from merge.objective import Objective
from merge.outcomes import Outcomes
from merge.search import GridSearch, Strategy, make_search
from merge.select import Selection, complementary
from merge.simplex import Weights, corner, uniform
from merge.splits import Split, Splits, split_clusters
from merge.trials import Found, Wanted

EXPERTS = ("arith", "string", "struct", "call", "noisy")


class TinyFamily:
    """Outcomes of soups of some members on all items of the tiny suite."""

    def __init__(self, names: Sequence[str], folder: Path = WEIGHTS) -> None:
        torch.set_num_threads(1)
        self.names = tuple(names)
        self.members = [family.read(folder / n / "model.safetensors") for n in names]
        categories = load_suite("tiny_skills").categories
        self.items = {
            c.name: [Item(c.name, i.cluster, i.prompt, i.answer) for i in c.items]
            for c in categories
        }
        self.clusters = {c: [i.cluster for i in found] for c, found in self.items.items()}
        self.seconds, self.answered = 0.0, 0
        self._known: dict[Weights, dict[str, np.ndarray]] = {}

    def bits(self, weights: Weights, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outcomes at these positions; an item is answered once."""
        nothing = {c: np.full(len(found), -1, np.int8) for c, found in self.items.items()}
        known = self._known.setdefault(weights, nothing)
        missing = {c: p[known[c][p] < 0] for c, p in wanted.items()}
        if any(map(len, missing.values())):
            begin = time.process_time()
            model = family.model_of(family.blend(self.members, weights))
            for c, positions in missing.items():
                if len(positions):
                    asked = [self.items[c][i] for i in positions]
                    known[c][positions] = training.outcomes(model, asked)
            self.seconds += time.process_time() - begin
            self.answered += sum(map(len, missing.values()))
        return {c: known[c][p] for c, p in wanted.items()}

    def on(self, splits: Splits, split: Split) -> Evaluate:
        places = {c: splits.positions(ids, split) for c, ids in self.clusters.items()}

        def evaluate(weights: Weights, wanted: Wanted | None = None) -> Outcomes:
            if wanted is None:
                return Outcomes(split, self.bits(weights, places))
            answers = self.bits(weights, {c: places[c][p] for c, p in wanted.items()})
            parts = {c: np.full(len(p), -1, np.int8) for c, p in places.items()}
            for c, p in wanted.items():
                parts[c][p] = answers[c]
            return Outcomes(split, parts)

        return evaluate

    def clusters_of(self, splits: Splits, split: Split) -> dict[str, list[str]]:
        return {
            c: [ids[i] for i in splits.positions(ids, split)] for c, ids in self.clusters.items()
        }

    @property
    def tune_seconds(self) -> float:
        """Processor time of one complete tune evaluation."""
        return 0.3 * sum(map(len, self.items.values())) * self.seconds / self.answered


# -- 1b: the default search against the paper's grid -------------------------------------------


def search(experts: int, seeds: int) -> None:
    truth = TinyFamily(EXPERTS[:experts])
    rows: list[list[str]] = []

    def searched() -> Iterator[list[str]]:
        for seed in range(seeds):
            rows.append(_searched(truth, experts, seed))
            yield rows[-1]

    table(
        f"1b {experts} experts of the tiny family (to reach: gap >= -0.3 at"
        f" {20 if experts == 3 else 10} % of the grid's items)"
        "; 3 ask and tell (to reach: below 1 % of a complete evaluation)",
        ["seed", "tune", "grid", "gap", "cost %", "report", "grid", "best member", "ask+tell %",
         "weights"],
        searched(),
    )  # fmt: skip
    gaps, costs = [float(row[3]) for row in rows], [float(row[4]) for row in rows]
    print(
        f"median gap {np.median(gaps):+.2f}, worst {min(gaps):+.2f}, cost <= {max(costs):.1f} %",
        flush=True,
    )


def _searched(truth: TinyFamily, n: int, seed: int) -> list[str]:
    """The paper's grid and the default search on one split, and their winners on report items."""
    splits = split_clusters(truth.clusters, seed=seed)
    tune, report = truth.on(splits, Split.TUNE), truth.on(splits, Split.REPORT)
    known = [tune(corner(n, i), None) for i in range(n)]
    paper, _ = converse(GridSearch(n, known=known), tune)
    ours, ask = converse(make_search(Strategy.SURROGATE, n, known=known, seed=seed), tune)
    best = corner(n, int(np.argmax([outcomes.macro() for outcomes in known])))
    return [
        str(seed),
        f"{100 * ours.value:.2f}",
        f"{100 * paper.value:.2f}",
        f"{100 * (ours.value - paper.value):+.2f}",
        f"{100 * ours.evaluations / paper.evaluations:.1f}",
        *(f"{100 * report(w, None).macro():.2f}" for w in (ours.weights, paper.weights, best)),
        f"{100 * ask / truth.tune_seconds:.2f}",
        " ".join(map(str, ours.weights)),
    ]


# -- 4: the three regimes ----------------------------------------------------------------------

ACTS = {1: ("arith", "string", "struct", "noisy"), 2: EXPERTS}


def regimes(folders: Mapping[str, Path], seeds: int, floor: float = 0.3) -> None:
    """The bot's cycle on other splits: select by items, search, gate at the level of a first look.

    folders: regime -> weights as `python -m bot.zoo --regime` writes them. An expert of disjoint
    skills gives up some of its own category, so the floor is that of the demo.
    """
    for name, folder in folders.items():
        table(
            f"4 regime {name}, floor {100 * floor:g} points, intervals of a first look",
            ["act", "seed", "published", "minus best member", "minus uniform", "minus greedy",
             "optimism", "cost of grid %", "members and weights"],
            _played(folder, floor, seeds),
        )  # fmt: skip


def _played(folder: Path, floor: float, seeds: int) -> Iterator[list[str]]:
    for act, cast in ACTS.items():
        truth = TinyFamily(cast, folder)
        for seed in range(seeds):
            yield [str(act), *_cycle(truth, seed, floor)]


def _cycle(truth: TinyFamily, seed: int, floor: float) -> list[str]:
    splits = split_clusters(truth.clusters, seed=seed)
    selection = _select(truth, splits)
    chosen = [truth.names.index(name) for name in selection.members]
    n = len(chosen)
    if n < 2:
        return [str(seed), "no soup", *["-"] * 5, ", ".join(selection.members)]

    def whole(weights: Weights) -> Weights:
        """Of the chosen -> of everybody."""
        shares = dict(zip(chosen, weights, strict=True))
        return tuple(shares.get(i, weights[0] * 0) for i in range(len(truth.names)))

    def tune(weights: Weights, wanted: Wanted | None = None) -> Outcomes:
        return truth.on(splits, Split.TUNE)(whole(weights), wanted)

    def report(weights: Weights) -> Outcomes:
        return truth.on(splits, Split.REPORT)(whole(weights), None)

    aim = Objective(floor=floor)
    known = [tune(corner(n, i)) for i in range(n)]

    def searched(strategy: Strategy) -> Found:
        search = make_search(strategy, n, known=known, objective=aim, seed=seed)
        return converse(search, tune)[0]

    found, greedy = searched(Strategy.SURROGATE), searched(Strategy.GREEDY)
    best = int(np.argmax([aim.of(outcomes) for outcomes in known]))
    verdict = judge(
        report(found.weights),
        {name: report(corner(n, i)) for i, name in enumerate(selection.members)},
        None,
        None,
        report(uniform(n)),
        greedy=report(greedy.weights),
        best_member=selection.members[best],
        clusters=truth.clusters_of(splits, Split.REPORT),
        splits=splits,
        level=look_level(1),
        floor=floor,
        objective=aim,
        tune_value=found.value,
        seed=seed,
    )
    cost = 100 * found.evaluations / (found.full * len(GridSearch(n).points))
    return [
        str(seed),
        "yes" if verdict.publish else "no",
        *(_interval(verdict, rival) for rival in ("best member", "uniform", "greedy")),
        f"{100 * (verdict.optimism or 0.0):+.2f}",
        f"{cost:.1f}",
        ", ".join(map(" ".join, zip(map(str, found.weights), selection.members, strict=True))),
    ]


def _select(truth: TinyFamily, splits: Splits) -> Selection:
    select = truth.on(splits, Split.SELECT)
    n = len(truth.names)
    alone = {name: select(corner(n, i), None) for i, name in enumerate(truth.names)}
    return complementary(alone, clusters=truth.clusters_of(splits, Split.SELECT))


def _interval(verdict: Verdict, rival: str) -> str:
    d = verdict.differences[rival]
    return f"{100 * d.mean:+.2f} ({100 * d.low:+.2f} to {100 * d.high:+.2f})"
