"""Does any router beat random switching at the same base share? On the tiny family's pair, or PAIR.

    python benchmarks/routers.py OUT [--routers p-punc h-punc ...] [--samples 8] [--calibrate 24]
        [--formats qa]
    python benchmarks/routers.py OUT --pair PAIR --routers p-punc --shares 0.15 0.3 0.45 --tokens 48
        --formats same qa --held-out 24 --temperatures 1 --min-p-temperatures --no-plain-random

PAIR is a folder with `base/` and `aligned/`, as `benchmarks/real_pair.py` makes one. Every router
is calibrated on calibration prompts (the family's own; `benchmarks/prompts.jsonl` for a PAIR) and
measured on held-out ones, each beside random switching at its own share, without and with its
content rule. Quality is the family's scorer, or for a PAIR the log-likelihood under its aligned
model. What is measured is kept in OUT/rounds, so a run that was killed, or ended by --minutes, goes
on; OUT/ROUTER.json are the whole figures. About three minutes a router on one core for the family,
half an hour for a PAIR of 135 M parameters; with `--held-out 0`, where the calibration prompts are
measured again and no others, half of that. Intervals are 95 % each, over prompts, not corrected
for their number.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# route.py beside this file is called like the package: look beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bot.zoo import PROMPTS, write_member  # noqa: E402
from bot.zoo.quality import scores  # noqa: E402
from route import formats  # noqa: E402
from route.bootstrap import Resampler  # noqa: E402
from route.calibrate import (  # noqa: E402
    Controls,
    aligned_alone,
    calibrate,
    random_plans,
    routed_plans,
    uncalibrated,
)
from route.config import PromptFormat, RouterConfig  # noqa: E402
from route.figures import Estimate  # noqa: E402
from route.report import report  # noqa: E402
from route.rounds import Progress, Rounds, Ruler, Store  # noqa: E402
from route.rules import Router  # noqa: E402
from route.sampling import Pair  # noqa: E402
from route.signals import observe  # noqa: E402

SPLITS, MEMBERS = ("calibrate", "held-out"), ("storybase", "aligned")
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
FORMATS = tuple(PromptFormat(name) for name in ("same", "plain", "qa", "urial"))
CONTROLS = Controls((0.7, 1.0, 1.3, 1.6), (1.5, 2.0, 2.5, 3.0))
DEFAULT = ("p-punc", "h-punc", "p-fc", "p", "h", "punc", "fc")
OPEN = Path(__file__).parent / "prompts.jsonl"


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    (out / "rounds").mkdir(parents=True, exist_ok=True)
    real: Path | None = arguments.pair
    pair = tiny_pair() if real is None else load_pair(real)
    ruler = Ruler(scores, "bot.zoo.quality:scores") if real is None else Ruler()
    file: Path = arguments.prompts or (PROMPTS if real is None else OPEN)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    prompts = {split: [r["prompt"] for r in rows if r["split"] == split] for split in SPLITS}
    alone = tuple(arguments.temperatures), tuple(arguments.min_p_temperatures)
    controls = Controls(*alone, plain_random=not arguments.no_plain_random)
    store = folder_store(out / "rounds", time.monotonic() + 60 * arguments.minutes)
    for name in arguments.routers:
        router = Router(name)
        held_out = prompts["held-out"][: arguments.held_out]
        config = (calibrate if held_out else on_seen_prompts)(
            *pair,
            prompts["calibrate"][: arguments.calibrate],
            held_out=held_out,
            router=router,
            shares=reachable_shares(router, arguments.shares),
            prompt_format=[PromptFormat(one) for one in arguments.formats],
            controls=controls,
            samples_per_prompt=arguments.samples,
            max_new_tokens=arguments.tokens,
            ruler=ruler,
            batch_rows=256 if real is None else 128,
            store=store,
            progress=tell,
        )
        (out / f"{name}.json").write_text(config.to_json(), encoding="utf-8")
        print("\n".join(told(config)), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--routers", nargs="+", default=DEFAULT, choices=list(Router))
    parser.add_argument("--pair", type=Path, help="a folder with base/ and aligned/")
    parser.add_argument("--prompts", type=Path, help="lines with a prompt and its split")
    parser.add_argument("--samples", type=int, default=8, help="texts for each prompt")
    parser.add_argument("--tokens", type=int, default=40, help="of one text, at most")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=list(PromptFormat))
    parser.add_argument("--calibrate", type=int, default=80, help="how many prompts, at most")
    parser.add_argument(
        "--held-out", type=int, default=80,
        help="how many prompts, at most; 0: figures from the calibration ones, for half the work",
    )  # fmt: skip
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    alone = "of the aligned model alone"
    parser.add_argument(
        "--temperatures", nargs="*", type=float, default=CONTROLS.temperatures, help=alone
    )
    parser.add_argument(
        "--min-p-temperatures", nargs="*", type=float, default=CONTROLS.min_p_temperatures,
        help=f"{alone}, with min-p",
    )  # fmt: skip
    parser.add_argument(
        "--no-plain-random", action="store_true",
        help="of the random routers only the one with the same content rule, where there is one",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"),
        help="end with the first round that is over after so many; a later call goes on",
    )  # fmt: skip
    return parser.parse_args()


def tiny_pair() -> tuple[Any, Any, Any]:
    """storybase, aligned, and the tokenizer of both."""
    with TemporaryDirectory() as folder:
        for name, side in zip(MEMBERS, ("base", "aligned"), strict=True):
            write_member(name, Path(folder, side))
        return load_pair(Path(folder))


def load_pair(folder: Path) -> tuple[Any, Any, Any]:
    """base, aligned, and the tokenizer of both."""
    base, aligned = (
        AutoModelForCausalLM.from_pretrained(folder / side) for side in ("base", "aligned")
    )
    return base, aligned, AutoTokenizer.from_pretrained(folder / "aligned")


def on_seen_prompts(
    base: Any,
    aligned: Any,
    tokenizer: Any,
    prompts: list[str],
    *,
    held_out: list[str],
    router: Router,
    shares: list[float],
    prompt_format: list[PromptFormat],
    controls: Controls,
    samples_per_prompt: int,
    max_new_tokens: int,
    batch_rows: int,
    ruler: Ruler,
    store: Store,
    progress: Progress,
) -> RouterConfig:
    """As `calibrate`, but everything is measured where the thresholds were tuned, with the aligned
    model alone at temperature 1. Nothing is chosen by these figures; they are of no unseen prompt.
    """
    config = uncalibrated(base, aligned, tokenizer, router)
    pair = Pair(base, aligned, tokenizer, config, samples_per_prompt, max_new_tokens, 0, batch_rows)
    rivals = controls.rivals(router)
    total = 1 + len(prompt_format) + len(shares) * (2 + len(rivals))
    rounds = Rounds(pair, ruler, store, progress, total)
    first = rounds.run(prompts, aligned_alone())
    tried = formats.study(rounds, prompts, prompt_format)
    config = replace(config, prompt_format=formats.choose(tried))
    rounds.pair = replace(pair, config=config)
    signal = observe(rounds.pair, router, prompts, first.written)
    plans = routed_plans(rounds, prompts, shares, signal)
    curve = [first, tried[config.prompt_format], *(rounds.run(prompts, plan) for plan in plans)]
    random = [plan for one in curve[2:] for plan in random_plans(one, rivals)]
    figures = [*curve, *(rounds.run(prompts, plan) for plan in random)]
    resampler = Resampler(len(prompts), 0)
    found = report(rounds, curve, figures, {}, resampler, resampler, plans[0].target)
    return replace(config, calibration=found)


def tell(done: int, total: int, what: str) -> None:
    print(f"round {done} of {total}: {what}", file=sys.stderr, flush=True)


def reachable_shares(router: Router, shares: list[float]) -> list[float]:
    """A content rule may leave the base less than half: those stop at 0.35."""
    return [share for share in shares if router.content is None or share < 0.5]


def folder_store(folder: Path, deadline: float) -> Store:
    """Rounds as files. Leaves the program once one is kept after `deadline` (monotonic seconds)."""

    def known(name: str) -> Any:
        file = folder / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def keep(name: str, record: Any) -> None:
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(folder / f"{name}.json")
        if time.monotonic() > deadline:
            raise SystemExit("the minutes are over: call again to go on")

    return Store(known, keep)


def told(config: RouterConfig) -> Iterator[str]:
    figures = config.calibration
    assert figures is not None
    yield f"\n# {config.router}: format {config.prompt_format}, reach {figures.reach}"
    yield (
        f"  n = {figures.held_out_prompts} prompts, {figures.samples_per_prompt} texts of "
        f"at most {figures.max_new_tokens} tokens each; thresholds from {figures.prompts} prompts"
    )
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
            f"  minus {difference.control}{at} (shares {difference.share.value:.3f} and "
            f"{difference.control_share.value:.3f}): "
            f"diversity {shown(difference.diversity, '+')}, "
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
