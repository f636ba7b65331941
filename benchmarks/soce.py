"""Selection, search and gate against their figures, printed as tables. Seeds are in the tables.

    python benchmarks/soce.py [race] [search3] [search4] [search5] [gate] [power] [scale]
                              [regimes] [coverage] [rounds] [--families FOLDER] [--seeds N]

`race` needs the item-level outcomes of the Berkeley leaderboard (2024-08-11) and says so where they
are missing; `search` and `regimes` evaluate real soups of the tiny family of `bot.zoo` (minutes
each). Only the regime that ships is at hand; `python -m bot.zoo --regime NAME --out FOLDER/NAME`
makes the others. Everything else is simulated with known truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

# merge.py beside this file is called like the package: look beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.science.racing import race  # noqa: E402
from benchmarks.science.rounds import rounds  # noqa: E402
from benchmarks.science.simulated import coverage, gate, power, scale  # noqa: E402


def search(experts: int, seeds: int) -> None:
    from benchmarks.science import tiny_family

    tiny_family.search(experts, seeds)


def regimes(families: Path | None, seeds: int) -> None:
    from benchmarks.science import tiny_family
    from bot.zoo.members import WEIGHTS

    made = sorted(families.iterdir()) if families is not None else []
    tiny_family.regimes({"as shipped": WEIGHTS, **{f.name: f for f in made}}, seeds)


def main() -> None:
    names = [
        "race",
        "search3",
        "search4",
        "search5",
        "gate",
        "power",
        "scale",
        "regimes",
        "coverage",
        "rounds",
    ]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *names], help="all by default")
    parser.add_argument("--families", type=Path, help="a folder of weights for each other regime")
    parser.add_argument("--seeds", type=int, default=10, help="of search and regimes (default: 10)")
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "race": race,
        **{f"search{n}": partial(search, n, given.seeds) for n in (3, 4, 5)},
        "gate": gate,
        "power": power,
        "scale": scale,
        "regimes": partial(regimes, given.families, given.seeds),
        "coverage": coverage,
        "rounds": rounds,
    }
    for part in given.parts or names:
        parts[part]()


if __name__ == "__main__":
    main()
