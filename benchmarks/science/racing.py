"""1a. Racing on real models: item outcomes of the Berkeley leaderboard (BFCL v1, 2024-08-11)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.science.conversation import converse
from benchmarks.science.printing import table
from merge.outcomes import Outcomes
from merge.racing import RaceSearch
from merge.simplex import Weights, corner
from merge.splits import Split
from merge.trials import Wanted

ITEMS = Path(__file__).parents[3] / "shared" / "tables" / "bfcl_v1_items_2024-08-11.csv"


def read_models() -> list[Outcomes]:
    bits: dict[str, dict[str, str]] = {}
    with ITEMS.open(newline="") as file:
        for row in csv.DictReader(file):
            bits.setdefault(row["model"], {})[row["category"]] = row["outcome_bits"]
    categories = sorted(next(iter(bits.values())))
    return [Outcomes.from_bits(Split.TUNE, {c: b[c] for c in categories}) for b in bits.values()]


def answer(arms: Mapping[Weights, Outcomes], arm: Weights, wanted: Wanted | None) -> Outcomes:
    return arms[arm] if wanted is None else arms[arm].only(wanted)


def race(seeds: int = 20) -> None:
    if not ITEMS.exists():
        print(f"\n1a racing: {ITEMS} is not at hand")
        return
    models = read_models()
    regrets, costs = [], []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).choice(len(models), 36, replace=False)
        arms = {corner(36, k): models[m] for k, m in enumerate(drawn)}
        search = RaceSearch(list(arms), sizes=models[0].sizes, seed=seed)
        found, _ = converse(search, partial(answer, arms))
        regrets.append(100 * (max(arm.macro() for arm in arms.values()) - found.value))
        costs.append(100 * found.evaluations / (36 * found.full))
    figures = np.median(regrets), np.mean(regrets), max(regrets), np.mean(costs), max(costs)
    table(
        f"1a racing, 36 of {len(models)} models, seeds 0-{seeds - 1}"
        " (to reach: cost <= 20 %, median regret <= 0.3)",
        ["median regret", "mean", "worst", "mean cost %", "highest"],
        [[f"{value:.2f}" for value in figures]],
    )
