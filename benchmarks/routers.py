"""Does any router beat random switching at the same base share? On the tiny family's pair.

    python benchmarks/routers.py OUT [--routers p-punc h-punc ...] [--samples 8] [--calibrate 24]
        [--formats qa]

Every router is calibrated on the family's calibration prompts and measured on the held-out ones,
each beside random switching at its own share, without and with its content rule. What is measured
is kept in OUT/rounds, so a killed run goes on; OUT/ROUTER.json are the whole figures. About three
minutes a router on one core. Intervals are 95 % each, over prompts, not corrected for their number.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# route.py beside this file is called like the package: look beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bot.zoo import PROMPTS, write_member  # noqa: E402
from bot.zoo.quality import scores  # noqa: E402
from route.calibrate import Controls, calibrate  # noqa: E402
from route.config import PromptFormat, RouterConfig  # noqa: E402
from route.figures import Estimate  # noqa: E402
from route.rounds import Ruler, Store  # noqa: E402
from route.rules import Router  # noqa: E402

SPLITS, MEMBERS = ("calibrate", "held-out"), ("storybase", "aligned")
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
FORMATS = tuple(PromptFormat(name) for name in ("same", "plain", "qa", "urial"))
CONTROLS = Controls((0.7, 1.0, 1.3, 1.6), (1.5, 2.0, 2.5, 3.0))
DEFAULT = ("p-punc", "h-punc", "p-fc", "p", "h", "punc", "fc")


def main() -> None:
    torch.set_num_threads(1)
    arguments = parse()
    out: Path = arguments.out
    (out / "rounds").mkdir(parents=True, exist_ok=True)
    pair = load_pair()
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    prompts = {split: [r["prompt"] for r in rows if r["split"] == split] for split in SPLITS}
    for name in arguments.routers:
        router = Router(name)
        config = calibrate(
            *pair,
            prompts["calibrate"][: arguments.calibrate],
            held_out=prompts["held-out"],
            router=router,
            shares=reachable_shares(router, arguments.shares),
            prompt_format=[PromptFormat(one) for one in arguments.formats],
            controls=CONTROLS,
            samples_per_prompt=arguments.samples,
            max_new_tokens=40,
            ruler=Ruler(scores, "bot.zoo.quality:scores"),
            batch_rows=256,
            store=folder_store(out / "rounds"),
        )
        (out / f"{name}.json").write_text(config.to_json(), encoding="utf-8")
        print("\n".join(told(config)), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--routers", nargs="+", default=DEFAULT, choices=list(Router))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=list(PromptFormat))
    parser.add_argument("--calibrate", type=int, default=80, help="how many prompts")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    return parser.parse_args()


def load_pair() -> tuple[Any, Any, Any]:
    """storybase, aligned, and the tokenizer of both."""
    with TemporaryDirectory() as folder:
        for name in MEMBERS:
            write_member(name, Path(folder, name))
        models = [AutoModelForCausalLM.from_pretrained(f"{folder}/{name}") for name in MEMBERS]
        return models[0], models[1], AutoTokenizer.from_pretrained(f"{folder}/aligned")


def reachable_shares(router: Router, shares: list[float]) -> list[float]:
    """A content rule may leave the base less than half: those stop at 0.35."""
    return [share for share in shares if router.content is None or share < 0.5]


def folder_store(folder: Path) -> Store:
    def known(name: str) -> Any:
        file = folder / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def keep(name: str, record: Any) -> None:
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(folder / f"{name}.json")

    return Store(known, keep)


def told(config: RouterConfig) -> Iterator[str]:
    figures = config.calibration
    assert figures is not None
    yield f"\n# {config.router}: format {config.prompt_format}, reach {figures.reach}"
    for trial in figures.formats:
        yield f"  base reads {trial.prompt_format}: quality {shown(trial.quality)}"
    for one in figures.held_out:
        yield (
            f"  {one.name:<48} diversity {shown(one.diversity)} quality {shown(one.quality)} "
            f"length {one.length.value:.1f} share {one.share.value:.3f}"
        )
    for row in figures.indicators:
        yield (
            f"  {row.method:<10} {row.settings} settings: Coverage {shown(row.coverage)}, "
            f"Dominance {shown(row.dominance)}"
        )
    for difference in figures.against_random:
        at = "" if difference.target is None else f" at {difference.target:g}"
        yield (
            f"  minus {difference.control}{at}: diversity {shown(difference.diversity, '+')}, "
            f"quality {shown(difference.quality, '+')}"
        )
    for gain in figures.gains:
        yield f"  Coverage minus {gain.control}: {shown(gain.coverage, '+')}"
    yield f"  forwards per token in blocks: {figures.forwards_in_blocks}"


def shown(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (f"{x:{sign}.3f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
