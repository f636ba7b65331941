"""2, 3 and 5. Simulated candidates with known truth, and the scale of a selection.

An arm of skill shift g solves item i with probability sigmoid(difficulty_i + g).
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.science.printing import table
from merge.gate import Verdict, judge, look_level, smallest_detectable_gain
from merge.outcomes import Outcomes
from merge.scores import ScoreTable
from merge.select import soce
from merge.splits import Split, Splits


class World:
    """Items of one split; arms of a given mean skill answer them."""

    def __init__(self, n: int, split: Split, rng: np.random.Generator, categories: int = 4) -> None:
        self.rng, self.split = rng, split
        self.names = [f"c{k}" for k in range(categories)]
        self.logit = rng.normal(1.5, 2.5, (categories, n // categories))
        self.clusters = {
            c: [f"{split}-{c}-{i}" for i in range(n // categories)] for c in self.names
        }
        assigned = {k: split for cluster in self.clusters.values() for k in cluster}
        self.splits = Splits(0, (0.4, 0.3, 0.3), assigned)

    def shifts_for(self, gains: np.ndarray) -> np.ndarray:
        """The skill shifts that add these gains to the expected score."""
        shifts = np.linspace(-0.5, 0.5, 21)
        expected = [(1 / (1 + np.exp(-self.logit - s))).mean() for s in shifts]
        return np.asarray(np.interp(gains, np.array(expected) - expected[10], shifts))

    def arm(self, shift: float = 0.0) -> Outcomes:
        solved = self.rng.random(self.logit.shape) < 1 / (1 + np.exp(-self.logit - shift))
        return Outcomes(self.split, dict(zip(self.names, solved, strict=True)))


def verdict(world: World, soup: Outcomes, best: Outcomes, look: int) -> Verdict:
    return judge(soup, {"best": best}, None, None, None, best_member="best",
                 clusters=world.clusters, splits=world.splits, level=look_level(look))  # fmt: skip


# -- 2: false and true publications ------------------------------------------------------------


def gate(cycles: int = 1000, daemons: int = 200, looks: int = 50) -> None:
    """Candidates of equal skill. A cycle takes the best of 3 members and the best of 37 soups by
    noisy tune scores; a daemon meets its members once and new soups in every cycle."""
    rng = np.random.default_rng(0)
    single = optimism = 0.0
    for _ in range(cycles):
        tune, report = World(1000, Split.TUNE, rng), World(1000, Split.REPORT, rng)
        tuned = max(tune.arm().macro() for _ in range(37))
        best = max(tune.arm().macro() for _ in range(3))
        found = verdict(report, report.arm(), report.arm(), 1)
        single += found.publish
        optimism += tuned - best
    ever = sum(_daemon(1000 + seed, looks) for seed in range(daemons))
    table(
        "2 equal skill, 1,000 tune and 1,000 report items, seeds 0 and 1000-1199"
        " (to reach: <= 5 % each)",
        ["cycles", "gain on tune, points", "published %", "daemons", "looks", "ever published %"],
        [[cycles, f"{100 * optimism / cycles:+.2f}", f"{100 * single / cycles:.1f}", daemons, looks,
          f"{100 * ever / daemons:.1f}"]],
    )  # fmt: skip


def _daemon(seed: int, looks: int) -> bool:
    report = World(1000, Split.REPORT, np.random.default_rng(seed))
    best = report.arm()
    return any(verdict(report, report.arm(), best, k).publish for k in range(1, looks + 1))


def paired(
    rng: np.random.Generator, n: int, gain: float, discordance: float
) -> tuple[Outcomes, Outcomes]:
    """Soup and best member on n items, with exactly this expected gain and discordance."""
    u, agree = rng.random(n), rng.random(n) < 0.7
    differ = u < discordance
    soup = np.where(differ, u < (discordance + gain) / 2, agree)
    best = np.where(differ, ~soup, agree)
    return Outcomes(Split.REPORT, {"c0": soup}), Outcomes(Split.REPORT, {"c0": best})


def publishes(n: int, gain: float, discordance: float, runs: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    world = World(n, Split.REPORT, rng, categories=1)
    hits = [verdict(world, *paired(rng, n, gain, discordance), 1).publish for _ in range(runs)]
    return sum(hits) / runs


SIZES, SHARES = (500, 1000, 2000, 4000, 8000), (0.05, 0.08, 0.12, 0.2, 0.3)


def power() -> None:
    rows = [
        [f"{gain:+.0%}", f"{100 * publishes(2000, gain, 0.08, 1000, 1):.1f}", wanted]
        for gain, wanted in ((0.0, "<= 5"), (0.02, ">= 80"))
    ]
    table(
        "2 discordance 8 %, 2,000 items, first look, margin 0, 1,000 runs, seed 1",
        ["true gain", "published %", "to reach"],
        rows,
    )
    table(
        "2 power in % for a true gain of 2 points, first look, margin 0, 200 runs, seed 2",
        ["discordance", *map(str, SIZES)],
        [
            [f"{s:.0%}", *(f"{100 * publishes(n, 0.02, s, 200, 2):.0f}" for n in SIZES)]
            for s in SHARES
        ],
    )

    def detectable(n: int, discordance: float) -> str:
        level = look_level(1)
        return f"{100 * smallest_detectable_gain(n, level=level, discordance=discordance):.2f}"

    table(
        "2 smallest gain in points that is published with 80 % probability, first look",
        ["discordance", *map(str, SIZES)],
        [[f"{s:.0%}", *(detectable(n, s) for n in SIZES)] for s in SHARES],
    )


# -- 3: scale ----------------------------------------------------------------------------------


def scale() -> None:
    values = np.random.default_rng(0).random((10_000, 30))
    names = [tuple(f"{kind}{i}" for i in range(n)) for kind, n in (("m", 10_000), ("c", 30))]
    scores = ScoreTable(names[0], names[1], values)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        soce(scores)
        seconds.append(time.perf_counter() - begin)
    table(
        "3 selection over 10,000 models x 30 categories, seed 0, 5 runs (to reach: below 2 s)",
        ["median s", "slowest s"],
        [[f"{np.median(seconds):.2f}", f"{max(seconds):.2f}"]],
    )


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
