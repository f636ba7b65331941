"""Figures of the soup engine, measured in one run on checkpoints of its own making.

    python benchmarks/merge.py [--mb 1100] [--rounds 5] [--mergekit VENV/bin/mergekit-yaml]

Prints one line per figure: the merge phase against `cp` of the output plus one read of all inputs,
the whole process (against mergekit where its command is given), private memory, one more weight
vector in a live model against copying one expert, and elements that differ from the definition.
Medians of the rounds; hashing, fsync and verification are timed apart. Commands take turns, and
another busy process on the machine makes every figure worthless.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

# This file is called like the package that it measures: look for that beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from merge import definition  # noqa: E402
from merge.live import LiveSoup  # noqa: E402
from merge.soup import plan_soup, write_soup  # noqa: E402

WEIGHTS = [Fraction(n, 10) for n in (4, 3, 2, 1)]
SHAPE = (1024, 1024)

CHILD = """
import sys, time
started = time.perf_counter()
from fractions import Fraction
from pathlib import Path
from merge.soup import plan_soup, write_soup
root = Path(sys.argv[1])
peak = 0
def watch(done, total):
    global peak
    status = open("/proc/self/status").read()
    peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)
plan = plan_soup([(root / f"m{i}", Fraction(4 - i, 10)) for i in range(4)])
report = write_soup(plan, root / "out", hash=False, verify=False, durable=False, progress=watch)
print(report.seconds.merge, peak)
"""


def make(root: Path, megabytes: int) -> None:
    """Four bfloat16 experts in three shards each: a shared base plus noise."""
    count = max(3, megabytes * 10**6 // (2 * SHAPE[0] * SHAPE[1]))
    generator = torch.Generator().manual_seed(0)
    for shard in range(3):
        names = [f"layers.{i}.weight" for i in range(shard, count, 3)]
        base = {n: torch.randn(SHAPE, generator=generator) * 0.02 for n in names}
        for k in range(4):
            folder = root / f"m{k}"
            folder.mkdir(exist_ok=True)
            noise = {n: torch.randn(SHAPE, generator=generator) * 0.001 for n in names}
            state = {n: (base[n] + noise[n]).bfloat16() for n in names}
            save_file(state, folder / f"model-{shard + 1:05d}-of-00003.safetensors")
    for k in range(4):
        write_index(root / f"m{k}", count)


def write_index(folder: Path, count: int) -> None:
    lines = ",".join(
        f'"layers.{i}.weight":"model-{i % 3 + 1:05d}-of-00003.safetensors"' for i in range(count)
    )
    (folder / "model.safetensors.index.json").write_text(
        '{"metadata":{"total_size":0},"weight_map":{' + lines + "}}"
    )
    (folder / "config.json").write_text('{"model_type":"llama","architectures":["X"]}')


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def clean(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def read_all(root: Path) -> None:
    buffer = bytearray(1 << 20)
    for path in sorted(root.glob("m?/*.safetensors")):
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def disk(root: Path, rounds: int, mergekit: str | None) -> None:
    plan = plan_soup([(root / f"m{i}", w) for i, w in enumerate(WEIGHTS)])
    figures: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        figures.setdefault(name, []).append(seconds)

    for _ in range(rounds):
        clean(root / "cp", root / "out")
        note("floor", timed(lambda: (shutil.copytree(root / "m0", root / "cp"), read_all(root))))
        report = write_soup(plan, root / "out", hash=False, verify=False, durable=False)
        note("merge", report.seconds.merge)
        clean(root / "out")
        full = write_soup(plan, root / "out").seconds
        note("hash", full.hash)
        note("sync", full.sync)
        note("verify", full.verify)
        clean(root / "out")
        note("process", timed(lambda: child(root)))
        if mergekit is not None:
            note("mergekit", timed(lambda: run_mergekit(mergekit, root)))
    median = {name: statistics.median(seconds) for name, seconds in figures.items()}
    for name, seconds in median.items():
        print(f"{name:10} {seconds:8.3f} s")
    print(f"merge / (cp of output + one read of inputs): {median['merge'] / median['floor']:.2f}")
    if mergekit is not None:
        print(f"mergekit / whole process: {median['mergekit'] / median['process']:.1f}")
    clean(root / "out")
    print(f"private memory: {int(child(root).split()[1]) / 1e6:.0f} MB")


def child(root: Path) -> str:
    clean(root / "out")
    command = [sys.executable, "-c", CHILD, str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=sys.path[0])
    return done.stdout


def run_mergekit(command: str, root: Path) -> None:
    models = "".join(
        f"  - model: {root / f'm{i}'}\n    parameters: {{weight: {float(w)}}}\n"
        for i, w in enumerate(WEIGHTS)
    )
    text = f"merge_method: linear\nmodels:\n{models}dtype: bfloat16\n"
    (root / "mergekit.yaml").write_text(text)
    options = ["-j", "1", "--out-shard-size", "400M", "--async-write"]
    clean(root / "mk")
    arguments = [command, str(root / "mergekit.yaml"), str(root / "mk"), *options]
    subprocess.run(arguments, check=True, capture_output=True)


def load(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: x for file in files for name, x in load_file(file).items()}


def live(root: Path, rounds: int) -> None:
    state = {
        n: x for f in sorted((root / "m0").glob("*.safetensors")) for n, x in load_file(f).items()
    }
    model = nn.Module()
    layers = nn.Module()
    model.add_module("layers", layers)
    for name, x in state.items():
        layer = nn.Module()
        layer.register_parameter("weight", nn.Parameter(torch.empty_like(x)))
        layers.add_module(name.split(".")[1], layer)
    soup = LiveSoup(model, [root / f"m{i}" for i in range(4)])
    soup.write(WEIGHTS)
    targets = dict(model.named_parameters())

    def copy() -> None:
        with torch.no_grad():
            for name, x in state.items():
                targets[name].copy_(x)

    one = statistics.median(timed(lambda: soup.write(WEIGHTS)) for _ in range(rounds))
    floor = statistics.median(timed(copy) for _ in range(rounds))
    print(f"live: one more vector {one:.3f} s, copy of one expert {floor:.3f} s")
    print(f"live / copy, per member: {one / floor / len(WEIGHTS):.2f}")


def differences(root: Path) -> None:
    members = [load(root / f"m{i}") for i in range(4)]
    found = load_file(root / "out/model.safetensors")
    wrong = 0
    for name, x in found.items():
        raws = [m[name].view(torch.uint8).numpy().tobytes() for m in members]
        values = definition.blend([definition.decode(r, "BF16") for r in raws], (4, 3, 2, 1), 10)
        wanted = torch.frombuffer(bytearray(definition.encode(values, "BF16")), dtype=torch.int16)
        wrong += int((x.view(torch.int16).view(-1) != wanted).sum())
    print(f"elements that differ from the definition: {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mb", type=int, default=1100, help="of one member, in megabytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mergekit", help="path of mergekit-yaml in an environment of its own")
    parser.add_argument("--dir", type=Path, help="where the checkpoints are made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        root = Path(name)
        make(root, options.mb)
        disk(root, options.rounds, options.mergekit)
        differences(root)
        live(root, options.rounds)


if __name__ == "__main__":
    main()
