"""Make, measure and re-check the tiny family: `python -m bot.zoo --help`."""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from bot.zoo import family, figures, pair, report, suite, tables, tokenizer, training
from bot.zoo.family import Bench, Weights
from bot.zoo.members import PROMPTS, WEIGHTS
from bot.zoo.regimes import REGIMES, train_family, two_acts


def main() -> int:
    given = arguments()
    torch.set_num_threads(1)
    if given.files:
        write_files()
    if given.regime:
        folder = given.out or Path("zoo") / given.regime
        if not given.trained:
            train(given.regime, folder, given.seed)
        play(given.regime, given.trained or folder, given.seed, given.edition, given.record)
    if given.tables:
        print("\n\n".join(tables.all_tables([figures.read(name) for name in REGIMES])))
    return report.check() if given.check else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bot.zoo", description=__doc__)
    parser.add_argument("--regime", choices=REGIMES, help="train this family, play both acts")
    parser.add_argument("--out", type=Path, help="where its weights go, one folder a member")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trained", type=Path, help="play these weights, train nothing")
    parser.add_argument("--edition", choices=suite.VERSIONS, default=suite.NEWEST.version,
                        help="of the items to play on")  # fmt: skip
    parser.add_argument(
        "--record", action="store_true", help="keep the figures in bot/zoo/recorded"
    )
    parser.add_argument("--tables", action="store_true", help="recorded figures, as in docs/zoo.md")
    parser.add_argument("--files", action="store_true", help="re-make suite, prompts, tokenizer")
    parser.add_argument("--check", action="store_true", help="shipped weights, recorded figures")
    return parser.parse_args()


def write_files() -> None:
    """Everything committed beside the code except weights and figures."""
    suite.write_suite(Path(__file__).parents[1] / "suites" / "tiny_skills")
    suite.write_prompts(PROMPTS)
    tokenizer.save(WEIGHTS / "shared")
    training.save_config(WEIGHTS / "shared")


def train(regime: str, out: Path, seed: int) -> None:
    """Train every member and write its bfloat16 weights."""
    start = time.process_time()

    def told(name: str) -> None:
        print(f"{name} trained, {time.process_time() - start:.0f} CPU s", flush=True)

    for name, weights in train_family(REGIMES[regime], seed, told=told).items():
        family.write(weights, out / name / "model.safetensors")


def play(regime: str, folder: Path, seed: int, version: str, record: bool) -> None:
    """Play both acts with the weights in `folder`, measure the pair, print and keep the figures."""
    start = time.process_time()
    recipe = REGIMES[regime]
    made = {n: family.read(folder / n / "model.safetensors") for n in recipe.recipes}
    bench = Bench(suite.build(version))
    acts = two_acts(bench, made, recipe.floor)
    prose = _pair(made, version)
    found = figures.figures(regime, seed, recipe.floor, bench, acts, prose)
    report.show(found)
    print(f"\nplayed in {time.process_time() - start:.0f} CPU s")
    if record:
        figures.write(found, figures.FOLDER / f"{regime}.json")


def _pair(made: Mapping[str, Weights], version: str) -> dict[str, pair.Prose]:
    names = [name for name in (pair.BASE, pair.ALIGNED) if name in made]
    return {name: pair.measure(name, made[name], version=version) for name in names}


if __name__ == "__main__":
    sys.exit(main())
