"""Selection, search and gate against their figures, printed as tables. Seeds are in the tables.

    python benchmarks/soce.py [race] [search] [gate] [power] [coverage] [scale]

`race` needs the item-level outcomes of the Berkeley leaderboard (2024-08-11) and says so where they
are missing; `search` takes the tiny family of `bot.zoo` (minutes per number of experts). Everything
else is simulated with known truth: an item i is solved by an arm of skill shift g with probability
sigmoid(difficulty_i + g).
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

# merge.py beside this file is called like the package: look beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402

from merge.gate import Verdict, judge, look_level, smallest_detectable_gain  # noqa: E402
from merge.outcomes import Outcomes  # noqa: E402
from merge.racing import RaceSearch  # noqa: E402
from merge.scores import ScoreTable  # noqa: E402
from merge.search import GridSearch, make_search  # noqa: E402
from merge.select import soce  # noqa: E402
from merge.simplex import Weights, corner  # noqa: E402
from merge.splits import Split, Splits, split_clusters  # noqa: E402
from merge.trials import Found, Search  # noqa: E402

ITEMS = Path(__file__).parents[2] / "shared" / "tables" / "bfcl_v1_items_2024-08-11.csv"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    cells = [list(head), *([str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for row in cells:
        line = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print(line, flush=True)


def converse(search: Search, evaluate: Callable[[Weights], Outcomes]) -> tuple[Found, float]:
    """Drive a search; its answer and the seconds per ask and tell."""
    spent, asks = 0.0, 0
    while True:
        begin = time.process_time()
        weights = search.ask()
        wanted = search.wanted(weights) if weights is not None else None
        spent += time.process_time() - begin
        if weights is None:
            return search.best(), spent / max(asks, 1)
        outcomes = evaluate(weights)
        outcomes = outcomes if wanted is None else outcomes.only(wanted)
        begin = time.process_time()
        search.tell(weights, outcomes)
        spent += time.process_time() - begin
        asks += 1


# -- 1a: racing on real models -----------------------------------------------------------------


def race() -> None:
    if not ITEMS.exists():
        print(f"\nrace: {ITEMS} is not at hand")
        return
    bits: dict[str, dict[str, str]] = {}
    with ITEMS.open(newline="") as file:
        for row in csv.DictReader(file):
            bits.setdefault(row["model"], {})[row["category"]] = row["outcome_bits"]
    categories = sorted(next(iter(bits.values())))
    models = [Outcomes.from_bits(Split.TUNE, {c: b[c] for c in categories}) for b in bits.values()]
    regrets, costs = [], []
    for seed in range(20):
        drawn = np.random.default_rng(seed).choice(len(models), 36, replace=False)
        arms = {corner(36, k): models[m] for k, m in enumerate(drawn)}
        found, _ = converse(
            RaceSearch(list(arms), sizes=models[0].sizes, seed=seed), arms.__getitem__
        )
        regrets.append(100 * (max(arm.macro() for arm in arms.values()) - found.value))
        costs.append(100 * found.evaluations / (36 * found.full))
    table(
        "1a racing, 36 of 71 models, seeds 0-19 (to reach: cost <= 20 %, median regret <= 0.3)",
        ["median regret", "mean", "worst", "mean cost %", "highest"],
        [[f"{v:.2f}" for v in (np.median(regrets), np.mean(regrets), max(regrets),
                               np.mean(costs), max(costs))]],
    )  # fmt: skip


# -- 1b: search on the tiny family -------------------------------------------------------------


class TinyFamily:
    """Outcomes of soups on all items of the tiny suite, each weight vector evaluated once."""

    def __init__(self, names: Sequence[str]) -> None:
        import torch

        from bot.suites import load_suite
        from bot.zoo import family
        from bot.zoo.members import WEIGHTS
        from bot.zoo.skills import Item

        torch.set_num_threads(1)
        self.family = family
        self.members = [family.read(WEIGHTS / n / "model.safetensors") for n in names]
        categories = load_suite("tiny_skills").categories
        self.items = {
            c.name: [Item(c.name, i.cluster, i.prompt, i.answer) for i in c.items]
            for c in categories
        }
        self.clusters = {c: [i.cluster for i in found] for c, found in self.items.items()}
        self.seconds = 0.0
        self._known: dict[Weights, dict[str, np.ndarray]] = {}

    def bits(self, weights: Weights) -> Mapping[str, np.ndarray]:
        from bot.zoo import training

        if weights not in self._known:
            begin = time.process_time()
            model = self.family.model_of(self.family.blend(self.members, weights))
            self._known[weights] = {
                c: np.array(training.outcomes(model, found)) for c, found in self.items.items()
            }
            self.seconds += time.process_time() - begin
        return self._known[weights]

    def on(self, splits: Splits, split: Split) -> Callable[[Weights], Outcomes]:
        places = {c: splits.positions(ids, split) for c, ids in self.clusters.items()}
        return lambda w: Outcomes(split, {c: self.bits(w)[c][p] for c, p in places.items()})

    @property
    def tune_seconds(self) -> float:
        """Processor time of one complete tune evaluation."""
        return 0.3 * self.seconds / len(self._known)


EXPERTS = ("arith", "string", "struct", "call", "noisy")


def search(seeds: int = 10) -> None:
    for n in (3, 4, 5):
        truth = TinyFamily(EXPERTS[:n])
        rows = [_searched(truth, n, seed) for seed in range(seeds)]
        gaps = [float(row[3]) for row in rows]
        table(
            f"1b {n} experts of the tiny family (to reach: gap >= -0.3 at {20 if n == 3 else 10} %"
            " of the grid's items; ask and tell below 1 % of a complete evaluation)",
            ["seed", "tune", "grid", "gap", "cost %", "report", "grid", "best member",
             "ask+tell %", "weights"],
            rows,
        )  # fmt: skip
        print(f"median gap {np.median(gaps):+.2f}, worst {min(gaps):+.2f}", flush=True)


def _searched(truth: TinyFamily, n: int, seed: int) -> list[str]:
    """The paper's grid and the default search on one split, and their winners on report items."""
    splits = split_clusters(truth.clusters, seed=seed)
    tune, report = truth.on(splits, Split.TUNE), truth.on(splits, Split.REPORT)
    known = [tune(corner(n, i)) for i in range(n)]
    paper, _ = converse(GridSearch(n, known=known), tune)
    ours, ask = converse(make_search("surrogate", n, known=known, seed=seed), tune)
    best = corner(n, int(np.argmax([outcomes.macro() for outcomes in known])))
    return [
        str(seed),
        f"{100 * ours.value:.2f}",
        f"{100 * paper.value:.2f}",
        f"{100 * (ours.value - paper.value):+.2f}",
        f"{100 * ours.evaluations / paper.evaluations:.1f}",
        *(f"{100 * report(w).macro():.2f}" for w in (ours.weights, paper.weights, best)),
        f"{100 * ask / truth.tune_seconds:.2f}",
        " ".join(map(str, ours.weights)),
    ]


# -- 2: false and true publications ------------------------------------------------------------


class World:
    """Items of one report split; arms of a given mean skill answer them."""

    def __init__(self, n: int, split: Split, rng: np.random.Generator, categories: int = 4) -> None:
        self.rng, self.split = rng, split
        self.names = [f"c{k}" for k in range(categories)]
        self.logit = rng.normal(1.5, 2.5, (categories, n // categories))
        ids = {c: [f"{split}-{c}-{i}" for i in range(n // categories)] for c in self.names}
        self.clusters = ids
        assigned = {k: split for cluster in ids.values() for k in cluster}
        self.splits = Splits(0, (0.4, 0.3, 0.3), assigned)

    def shifts_for(self, gains: np.ndarray) -> np.ndarray:
        """The skill shifts that add these gains to the expected score."""
        shifts = np.linspace(-0.5, 0.5, 21)
        expected = [(1 / (1 + np.exp(-self.logit - s))).mean() for s in shifts]
        return np.interp(gains, np.array(expected) - expected[10], shifts)

    def arm(self, shift: float = 0.0) -> Outcomes:
        solved = self.rng.random(self.logit.shape) < 1 / (1 + np.exp(-self.logit - shift))
        return Outcomes(self.split, dict(zip(self.names, solved, strict=True)))


def verdict(world: World, soup: Outcomes, best: Outcomes, look: int) -> Verdict:
    return judge(soup, {"best": best}, None, None, None, best_member="best",
                 clusters=world.clusters, splits=world.splits, level=look_level(look))  # fmt: skip


def gate(cycles: int = 1000, daemons: int = 200, looks: int = 50) -> None:
    """Candidates of equal skill. A cycle chooses the best of 3 members and of 37 soups on tune
    items; on report items nothing distinguishes them, so what was chosen does not matter there."""
    rng = np.random.default_rng(0)
    world = World(1000, Split.REPORT, rng)
    single = sum(verdict(world, world.arm(), world.arm(), 1).publish for _ in range(cycles))
    ever = 0
    for seed in range(daemons):
        world = World(1000, Split.REPORT, np.random.default_rng(1000 + seed))
        best = world.arm()
        ever += any(verdict(world, world.arm(), best, k).publish for k in range(1, looks + 1))
    table(
        "2 equal skill, 1,000 report items, seeds 0 and 1000-1199 (to reach: <= 5 % each)",
        ["cycles", "published %", "daemons", "looks", "ever published %"],
        [[cycles, f"{100 * single / cycles:.1f}", daemons, looks, f"{100 * ever / daemons:.1f}"]],
    )


def paired(rng: np.random.Generator, n: int, gain: float, discordance: float) -> list[Outcomes]:
    """Soup and best member on n items, with exactly this expected gain and discordance."""
    u, agree = rng.random(n), rng.random(n) < 0.7
    differ = u < discordance
    soup = np.where(differ, u < (discordance + gain) / 2, agree)
    return [Outcomes(Split.REPORT, {"c0": x}) for x in (soup, np.where(differ, ~soup, agree))]


def publishes(n: int, gain: float, discordance: float, runs: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    world = World(n, Split.REPORT, rng, categories=1)
    hits = [verdict(world, *paired(rng, n, gain, discordance), 1).publish for _ in range(runs)]
    return sum(hits) / runs


def power() -> None:
    target = publishes(2000, 0.02, 0.08, 1000, 1)
    print(
        "\n2 true gain of 2 points, discordance 8 %, 2,000 items, first look, 1,000 runs, seed 1:"
    )
    print(f"  {100 * target:.1f} % publish (to reach: 80)")
    sizes, shares = (500, 1000, 2000, 4000, 8000), (0.05, 0.08, 0.12, 0.2, 0.3)
    table(
        "2 power in % for a true gain of 2 points, first look, margin 0, 200 runs, seed 2",
        ["discordance", *map(str, sizes)],
        [
            [f"{s:.0%}", *(f"{100 * publishes(n, 0.02, s, 200, 2):.0f}" for n in sizes)]
            for s in shares
        ],
    )

    def detectable(n: int, discordance: float) -> str:
        level = look_level(1)
        return f"{100 * smallest_detectable_gain(n, level=level, discordance=discordance):.2f}"

    table(
        "  smallest gain in points that is published with 80 % probability, first look",
        ["discordance", *map(str, sizes)],
        [[f"{s:.0%}", *(detectable(n, s) for n in sizes)] for s in shares],
    )


# -- 3: scale ----------------------------------------------------------------------------------


def scale() -> None:
    values = np.random.default_rng(0).random((10_000, 30))
    names = [tuple(f"{kind}{i}" for i in range(n)) for kind, n in (("m", 10_000), ("c", 30))]
    scores = ScoreTable(names[0], names[1], values)
    begin = time.perf_counter()
    soce(scores)
    print(f"\n3 selection over 10,000 models x 30 categories: {time.perf_counter() - begin:.2f} s"
          " (to reach: 2)")  # fmt: skip


# -- 5: what a published interval is worth -----------------------------------------------------


def coverage(cycles: int = 1000, items: int = 2000) -> None:
    """Soups with true gains between -1 and +4 points: the best of 37 on 1,200 tune items is judged
    once on report items, and its gain compared with that on 20,000 items never used."""
    published = inside = all_inside = 0
    optimism = []
    for seed in range(cycles):
        rng = np.random.default_rng(5000 + seed)
        tune, report, fresh = (
            World(n, split, rng)
            for n, split in ((1200, Split.TUNE), (items, Split.REPORT), (20_000, Split.REPORT))
        )
        shifts = fresh.shifts_for(rng.uniform(-0.01, 0.04, 37)).tolist()
        tuned = [tune.arm(shift).macro() for shift in shifts]
        winner = shifts[int(np.argmax(tuned))]
        found = verdict(report, report.arm(winner), report.arm(), 1)
        gain = found.differences["best member"]
        truth = fresh.arm(winner).macro() - fresh.arm().macro()
        optimism.append(max(tuned) - found.overall["soup"])
        held = gain.low <= truth <= gain.high
        all_inside += held
        if found.publish:
            published += 1
            inside += held
    table(
        f"5 {cycles} simulated cycles, {items} report items, seeds 5000.. (to reach: 95 % inside)",
        ["published", "inside, published %", "inside, all %", "mean optimism, points"],
        [[published, f"{100 * inside / max(published, 1):.1f}", f"{100 * all_inside / cycles:.1f}",
          f"{100 * np.mean(optimism):.2f}"]],
    )  # fmt: skip


PARTS: dict[str, Callable[[], None]] = {
    "race": race,
    "search": search,
    "gate": gate,
    "power": power,
    "scale": scale,
    "coverage": coverage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all by default")
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
