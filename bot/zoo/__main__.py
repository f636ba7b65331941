"""Make, measure and re-check the tiny family: `python -m bot.zoo --help`."""

import argparse
import sys
import time
from pathlib import Path

import torch

from bot.zoo import family, report, suite, tokenizer, training
from bot.zoo.members import PROMPTS, WEIGHTS
from bot.zoo.regimes import REGIMES, train_family, two_acts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bot.zoo", description=__doc__)
    parser.add_argument("--regime", choices=REGIMES, help="train this family and print its figures")
    parser.add_argument("--out", type=Path, help="where its weights go, one folder a member")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", action="store_true", help="re-make suite, prompts, tokenizer")
    parser.add_argument("--check", action="store_true", help="shipped weights, recorded figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.files:
        write_files()
    if given.regime:
        make(given.regime, given.out or Path("zoo") / given.regime, given.seed)
    if given.check:
        return report.check()
    return 0


def write_files() -> None:
    """Everything committed beside the code except the weights."""
    suite.write_suite(Path(__file__).parents[1] / "suites" / "tiny_skills")
    suite.write_prompts(PROMPTS)
    tokenizer.save(WEIGHTS / "shared")
    training.save_config(WEIGHTS / "shared")


def make(regime: str, out: Path, seed: int) -> None:
    """Train, write bfloat16 weights, play both acts and print the tables."""
    start = time.process_time()

    def told(name: str) -> None:
        print(f"{name} trained, {time.process_time() - start:.0f} CPU s", flush=True)

    made = train_family(REGIMES[regime], seed, told=told)
    for name, weights in made.items():
        family.write(weights, out / name / "model.safetensors")
    report.show(two_acts(family.Bench(), made))


if __name__ == "__main__":
    sys.exit(main())
