"""Selection, search and gate against their figures, printed as tables. Seeds are in the tables.

    python benchmarks/soce.py [race] [search3] [search4] [search5] [gate] [power] [scale]
                              [regimes] [coverage] [--families FOLDER]

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
from benchmarks.science.simulated import coverage, gate, power, scale  # noqa: E402


def search(experts: int) -> None:
    from benchmarks.science import tiny_family

    tiny_family.search(experts)


def regimes(families: Path | None) -> None:
    from benchmarks.science import tiny_family
    from bot.zoo.members import WEIGHTS

    made = sorted(families.iterdir()) if families is not None else []
    tiny_family.regimes({"weights, as shipped": WEIGHTS, **{f.name: f for f in made}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts: dict[str, Callable[[], None]] = {
        "race": race,
        "search3": partial(search, 3),
        "search4": partial(search, 4),
        "search5": partial(search, 5),
        "gate": gate,
        "power": power,
        "scale": scale,
        "coverage": coverage,
    }
    names = [*parts, "regimes"]
    parser.add_argument("parts", nargs="*", choices=[[], *names], help="all by default")
    parser.add_argument("--families", type=Path, help="a folder of weights for each other regime")
    given = parser.parse_args()
    parts["regimes"] = partial(regimes, given.families)
    for part in given.parts or names:
        parts[part]()


if __name__ == "__main__":
    main()
