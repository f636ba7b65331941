"""Figures of routed decoding: forwards, speed, the loop's own time, memory. Ratios of one run.

    python benchmarks/route.py [--real PAIR] [--tokens 128] [--rounds 3] [--device cuda]

Pairs: the tiny one that ships with the zoo; `--real PAIR`, a folder with `base/` and `aligned/`
(see `benchmarks/real_pair.py`); and a random one of about 110 M parameters, whose aligned side is
the base plus so much noise that one draft in twenty is rejected: it writes nonsense, and its only
use is that speed does not depend on what is written. All texts have the same length (no end token),
all ways of writing take turns, and ratios are medians over rounds. Seconds are CPU seconds of one
thread where there is no GPU; another busy process still costs caches and memory bandwidth.

Not measured: compiled models, flash attention, two devices.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

# This file is called like the package that it measures: look for that beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
)

from bot.zoo import write_member  # noqa: E402
from route.block import block_sample  # noqa: E402
from route.decode import BaseInput, RoutedOutput, routed_sample  # noqa: E402
from route.lengths import cost  # noqa: E402
from route.prompts import aligned_ids, pad_left  # noqa: E402
from route.rules import Policy, Router  # noqa: E402
from route.shares import tune  # noqa: E402
from route.vocab import Vocabulary, classify, read_vocabulary  # noqa: E402

LOOPS: dict[str, Callable[..., Any]] = {
    "eager": routed_sample,
    "lazy": partial(routed_sample, lazy=True),
    "block": block_sample,
}
PROMPTS = [
    "Tell me a short story about a fox and a river.",
    "What should I cook for dinner tonight?",
    "Describe a walk in the mountains in autumn.",
    "Give me three names for a small bookshop.",
    "Why do people keep diaries?",
    "Write a letter to a friend who moved away.",
    "How does a bicycle stay upright?",
    "Explain what a good question is.",
]


@dataclass
class Pair:
    name: str
    base: Any
    aligned: Any
    vocabulary: Vocabulary
    policy: Policy
    prompts: list[list[int]]  # the same ids for both


def load(name: str, base: Path, aligned: Path, where: dict[str, Any], share: float) -> Pair:
    """Two folders, with -P-PUNC tuned to a base share on the benchmark's prompts."""
    tokenizer = AutoTokenizer.from_pretrained(aligned)
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=where["dtype"]).to(where["device"])
        for folder in (base, aligned)
    ]
    ids = [aligned_ids(tokenizer, prompt) for prompt in PROMPTS]
    pair = Pair(name, *models, read_vocabulary(tokenizer), Policy(Router.P_PUNC, "never"), ids)

    def texts(threshold: Any) -> Any:
        pair.policy = Policy(Router.P_PUNC, threshold)
        return write(pair, "block", 8, 32)

    pair.policy = Policy(Router.P_PUNC, tune(Router.P_PUNC, share, texts))
    return pair


def random_pair(where: dict[str, Any], distance: float) -> Pair:
    """About 110 M parameters; total variation `distance` between the two at every position."""
    torch.manual_seed(0)
    width = 32_000
    config = LlamaConfig(
        vocab_size=width, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
        num_attention_heads=12, tie_word_embeddings=True, max_position_embeddings=4096,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(where["device"], where["dtype"]).eval()
    base.model.norm.weight.data.mul_(6.0)  # so that some tokens are far more probable than others
    aligned = LlamaForCausalLM(config).to(where["device"], where["dtype"]).eval()
    ids = torch.randint(1, width, (4, 32), device=where["device"])
    low, high = 0.0, 1.0
    for _ in range(12):
        amount = (low + high) / 2
        blur(base, aligned, amount)
        low, high = (amount, high) if variation(base, aligned, ids) < distance else (low, amount)
    texts = [" word" if i % 3 else "." for i in range(width)]
    prompts = torch.randint(1, width, (8, 16)).tolist()
    vocabulary = classify(texts, special={0})
    return Pair("random", base, aligned, vocabulary, Policy(Router.RAND, 0.3), prompts)


@torch.no_grad()
def blur(base: Any, aligned: Any, amount: float) -> None:
    """aligned = base + noise of `amount` standard deviations, the same noise every time."""
    generator = torch.Generator().manual_seed(1)
    for one, other in zip(base.parameters(), aligned.parameters(), strict=True):
        noise = torch.randn(one.shape, generator=generator).to(one.device) * one.float().std(
            correction=0
        )
        other.copy_((one.float() + amount * noise).to(one.dtype))


@torch.no_grad()
def variation(base: Any, aligned: Any, ids: torch.Tensor) -> float:
    p, q = (model(ids).logits.float().softmax(-1) for model in (base, aligned))
    return float((p - q).abs().sum(-1).mean() / 2)


def write(pair: Pair, way: str, batch: int, tokens: int, seed: int = 0) -> Any:
    """`tokens` new tokens for each prompt; `way`: a loop, or "plain" (the aligned model alone)."""
    ids, mask = pad_left(pair.prompts[:batch])
    device = pair.aligned.device
    options: dict[str, Any] = {
        "attention_mask": mask.to(device), "do_sample": True, "top_k": 0, "top_p": 1.0,
        "temperature": 1.0, "max_new_tokens": tokens, "pad_token_id": 0,
        "return_dict_in_generate": True,
        "suppress_tokens": _ends(pair),
    }  # fmt: skip
    torch.manual_seed(seed)
    if way == "plain":
        return pair.aligned.generate(ids.to(device), **options)
    loop = partial(
        LOOPS[way], base=BaseInput(pair.base), policy=pair.policy, vocabulary=pair.vocabulary
    )
    return GenerationMixin.generate(pair.aligned, ids.to(device), custom_generate=loop, **options)


def _ends(pair: Pair) -> list[int]:
    ends = pair.aligned.generation_config.eos_token_id
    return list(ends) if isinstance(ends, list | tuple) else [0 if ends is None else ends]


def forwards(pair: Pair, batch: int, tokens: int, seeds: Sequence[int]) -> None:
    """Figure 1: forwards per token of a row, against the optima at the rates just measured."""
    outs: list[RoutedOutput] = [write(pair, "block", batch, tokens, seed) for seed in seeds]
    seen, rejected, made, right = (
        sum(column) for column in zip(*((*out.drafts, *out.guesses) for out in outs), strict=True)
    )
    # The prompts' forwards are no part of the price of a token; they give the first one.
    rows = [sum(side.double().mean() - 1 for side in out.row_forwards.values()) for out in outs]
    last = [sum(out.forwards.values()) - 2 for out in outs]
    rate, sure = rejected / seen, right / made
    plain = min(cost(rate, m) for m in range(1, 65))
    best = min(cost(rate, m, sure) for m in range(1, 65))
    share = sum(int(out.by_base.sum()) for out in outs) / (len(outs) * batch * tokens)
    mine = float(sum(rows)) / len(outs) / (tokens - 1)
    print(
        f"{pair.name:7} batch {batch}: base share {share:.2f}, rejection rate {rate:.3f}, "
        f"guesses right {sure:.2f}, forwards per token {mine:.3f} (optimum without guesses "
        f"{plain:.3f}, ratio {mine / plain:.3f}; with them {best:.3f}, ratio {mine / best:.3f}; "
        f"eager 2; until the last row ends {sum(last) / len(outs) / (tokens - 1):.3f})",
        flush=True,
    )


def speed(pair: Pair, batch: int, tokens: int, rounds: int) -> None:
    """Figure 2: seconds of each way in turn; ratios of the same round."""
    ways = ("plain", "eager", "lazy", "block")
    times: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways:
        write(pair, way, batch, 8)
    for round_ in range(rounds):
        for way in ways:
            started = clock(pair)
            write(pair, way, batch, tokens, round_)
            times[way].append(clock(pair) - started)
    rates = ", ".join(f"{way} {batch * tokens / median(times[way]):.1f}" for way in ways)
    to_eager, to_plain = (
        median(a / b for a, b in zip(times[way], times["block"], strict=True))
        for way in ("eager", "plain")
    )
    print(
        f"{pair.name:7} batch {batch}: tokens/s {rates}; "
        f"block is {to_eager:.2f} x eager, {to_plain:.2f} x plain",
        flush=True,
    )


def overhead(pair: Pair, batch: int, tokens: int, rounds: int) -> None:
    """Figure 2b: the time outside the models' forwards, as a share of the time inside."""
    parts = []
    for way in ("plain", "eager", "block"):
        shares = []
        for round_ in range(rounds):
            inside, hooks = Stopwatch(pair), []
            for model in (pair.base, pair.aligned):
                hooks += [model.register_forward_pre_hook(inside.start)]
                hooks += [model.register_forward_hook(inside.stop)]
            started = clock(pair)
            write(pair, way, batch, tokens, round_)
            whole = clock(pair) - started
            for hook in hooks:
                hook.remove()
            shares.append((whole - inside.seconds) / inside.seconds)
        parts.append(f"{way} {median(shares):.1%}")
    print(f"{pair.name:7} batch {batch}: the loop beside its forwards: {', '.join(parts)}")


class Stopwatch:
    def __init__(self, pair: Pair) -> None:
        self._pair, self.seconds, self._since = pair, 0.0, 0.0

    def start(self, *_: Any) -> None:
        self._since = clock(self._pair)

    def stop(self, *_: Any) -> None:
        self.seconds += clock(self._pair) - self._since


def clock(pair: Pair) -> float:
    """Seconds: of the wall with a GPU, of this process's own threads without."""
    if pair.aligned.device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def memory(pair: Pair, batch: int, tokens: int) -> None:
    """Figure 3: the peak while writing, against both models and caches of the texts' length."""
    models = sum(
        p.numel() * p.element_size() for m in (pair.base, pair.aligned) for p in m.parameters()
    )
    length = max(len(prompt) for prompt in pair.prompts[:batch]) + tokens
    config, size = pair.aligned.config, pair.aligned.dtype.itemsize
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * size
    caches = 2 * batch * length * token
    for way in ("eager", "block"):
        if pair.aligned.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            write(pair, way, batch, tokens)
            growth = torch.cuda.max_memory_allocated() - before
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
            before = resident("VmRSS")
            write(pair, way, batch, tokens)
            growth = resident("VmHWM") - before
        print(
            f"{pair.name:7} batch {batch}: {way}: models {models / 1e6:.0f} MB, caches "
            f"{caches / 1e6:.0f} MB, peak {(models + growth) / 1e6:.0f} MB, "
            f"{(models + growth) / (models + caches) - 1:+.1%} of both",
            flush=True,
        )


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--real", type=Path, help="a folder with base/ and aligned/")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", default="tiny,random,real")
    parser.add_argument("--figures", default="forwards,speed,overhead,memory")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = {"device": options.device, "dtype": torch.bfloat16}
    names, figures = options.pairs.split(","), options.figures.split(",")
    tokens, rounds = options.tokens, options.rounds

    if "tiny" in names:
        with tempfile.TemporaryDirectory() as room:
            sides = [Path(room, name) for name in ("storybase", "aligned")]
            for side in sides:
                write_member(side.name, side)
            exact = {**where, "dtype": torch.float32}
            tiny = load("tiny", *sides, exact, options.share)
        for batch in options.batches:
            forwards(tiny, batch, tokens, range(rounds * 8 // batch))
    large = [random_pair(where, 0.07)] if "random" in names else []
    if "real" in names and options.real is not None:
        real = load("real", options.real / "base", options.real / "aligned", where, options.share)
        large.append(real)
    for pair in large:
        if "memory" in figures:
            memory(pair, 8, tokens)
        for batch in options.batches:
            if "forwards" in figures:
                forwards(pair, batch, tokens, range(max(1, rounds // batch)))
            if "speed" in figures:
                speed(pair, batch, tokens, rounds)
            if "overhead" in figures:
                overhead(pair, batch, tokens, rounds)


if __name__ == "__main__":
    main()
