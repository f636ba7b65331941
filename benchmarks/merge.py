"""Figures of the soup engine, measured in one run on checkpoints of its own making.

    python benchmarks/merge.py [--mb 1100] [--rounds 5] [--parts disk,memory,live,exact]
                               [--mergekit VENV/bin/mergekit-yaml | --mergekit install]

disk    merge phase against `cp` of the output plus one read of all inputs, in the page cache and
        not; whole process, also against mergekit 0.1.5 at the better of two sets of options, in an
        environment of its own
memory  highest private memory of the process at 0.1, 1 and 4 GB
live    one more weight vector in a model against copying one expert into it, and against merging
        to disk and loading the result
exact   elements that differ from the definition: numpy, apart from both kernels

Ratios are those of medians; commands take turns. What has to be written back is written back
before each (untimed); but where it says so, all inputs lie in the page cache. Hashing, fsync and
verification are timed apart. Another busy process makes every figure worse, ours more than that of
`cp`, which uses one core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import prod
from pathlib import Path

# This file is called like the package that it measures: look for that beside the folder instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from merge import definition  # noqa: E402
from merge.compiled import VARIABLE  # noqa: E402
from merge.compiled import load as compiled_kernel  # noqa: E402
from merge.fingerprints import fingerprint  # noqa: E402
from merge.live import LiveSoup  # noqa: E402
from merge.recipe import numerators  # noqa: E402
from merge.soup import plan_soup, write_soup  # noqa: E402

WEIGHTS = [Fraction(n, 10) for n in (4, 3, 2, 1)]
SHAPE = (1024, 1024)  # of the tensors in `memory`
VOCABULARY, WIDTH, INNER = 32_000, 1024, 2816
POOL = 40_000_000  # random numbers that all tensors are cut from
SHARD = "model-{:05d}-of-00003.safetensors"
ELEMENTS = 500_000  # of a tensor in `exact`
MERGEKIT = "mergekit==0.1.5"
BARE = {"hash": False, "verify": False, "durable": False}
OPTIONS = {"default": [], "tuned": ["-j", "1", "--out-shard-size", "400M", "--async-write"]}

CHILD = """
import sys
from fractions import Fraction
from math import prod
from pathlib import Path
from merge.soup import plan_soup, write_soup
root = Path(sys.argv[1])
peak = 0
def watch(done, total):
    global peak
    status = open("/proc/self/status").read()
    peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)
plan = plan_soup([(root / f"m{i}", Fraction(4 - i, 10)) for i in range(4)])
write_soup(plan, root / "out", hash=False, verify=False, durable=False,
           progress=watch if sys.argv[2] == "watch" else None)
print(peak)
"""
Figures = dict[str, list[float]]


def shapes(megabytes: int) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama in bfloat16 of about that size: mergekit goes by their names."""
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    found: dict[str, tuple[int, ...]] = dict.fromkeys(ends, (VOCABULARY, WIDTH))
    layer = {
        **{f"self_attn.{x}_proj.weight": (WIDTH, WIDTH) for x in "qkvo"},
        **{f"mlp.{x}_proj.weight": (INNER, WIDTH) for x in ("gate", "up")},
        "mlp.down_proj.weight": (WIDTH, INNER),
        "input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,),
    }  # fmt: skip
    rest = megabytes * 10**6 // 2 - 2 * VOCABULARY * WIDTH
    for i in range(max(1, rest // sum(map(prod, layer.values())))):
        found |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return found | {"model.norm.weight": (WIDTH,)}


def make(root: Path, megabytes: int) -> None:
    """Four bfloat16 experts in three shards each: a shared base plus noise."""
    generator = torch.Generator().manual_seed(0)
    base, noise = (torch.randn(POOL, generator=generator) * size for size in (0.02, 0.001))
    names = list(shapes(megabytes).items())

    def drawn(pool: torch.Tensor, number: int, count: int) -> torch.Tensor:
        start = number * 104_729 % (POOL - count)
        return pool[start : start + count]

    for k in range(4):
        folder = root / f"m{k}"
        folder.mkdir(parents=True)
        for shard in range(3):
            state = {}
            for i, (name, shape) in list(enumerate(names))[shard::3]:
                x = drawn(base, i, prod(shape)) + drawn(noise, 4 * i + k, prod(shape))
                state[name] = x.view(shape).bfloat16()
            save_file(state, folder / SHARD.format(shard + 1), metadata={"format": "pt"})
        weight_map = {name: SHARD.format(i % 3 + 1) for i, (name, _) in enumerate(names)}
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH,
            "intermediate_size": INNER, "vocab_size": VOCABULARY, "num_attention_heads": 16,
            "num_key_value_heads": 16, "num_hidden_layers": (len(names) - 3) // 9,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))


def make_sparse(root: Path, megabytes: int) -> None:
    """Four members of zeros that take no disk: enough where only memory is looked at."""
    count = megabytes * 10**6 // (2 * SHAPE[0] * SHAPE[1])
    size = 2 * SHAPE[0] * SHAPE[1]
    entries = {
        f"layers.{i}.weight": {
            "dtype": "BF16", "shape": SHAPE, "data_offsets": [i * size, (i + 1) * size]
        }
        for i in range(count)
    }  # fmt: skip
    header = json.dumps(entries).encode()
    for k in range(4):
        folder = root / f"m{k}"
        folder.mkdir(parents=True)
        with open(folder / "model.safetensors", "wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            stream.truncate(8 + len(header) + count * size)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def clean(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def note(figures: Figures, name: str, seconds: float) -> None:
    figures.setdefault(name, []).append(seconds)


def median(figures: Figures) -> dict[str, float]:
    found = {name: statistics.median(seconds) for name, seconds in figures.items()}
    for name, seconds in figures.items():
        print(f"  {name:18} {found[name]:7.3f} s  [{min(seconds):.3f}..{max(seconds):.3f}]")
    return found


def read_all(root: Path) -> None:
    buffer = bytearray(1 << 20)
    for path in sorted(root.glob("m?/*.safetensors")):
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def forget(root: Path) -> None:
    """Have the page cache drop the inputs."""
    for path in root.glob("m?/*.safetensors"):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def disk(root: Path, rounds: int, mergekit: str | None) -> None:
    plan = plan_soup([(root / f"m{i}", w) for i, w in enumerate(WEIGHTS)])
    figures: Figures = {}
    out, copy = root / "out", root / "cp"
    write_soup(plan, out, **BARE)
    shutil.move(out, root / "soup")
    for _ in range(rounds):
        clean(out, copy)
        forget(root)
        note(figures, "merge, cold", write_soup(plan, out, **BARE).seconds.merge)
        clean(out)
        forget(root)
        note(figures, "read, cold", timed(lambda: read_all(root)))
        note(figures, "read", timed(lambda: read_all(root)))
        note(figures, "cp", timed(lambda: subprocess.run(["cp", "-r", root / "soup", copy])))
        clean(out, copy)
        note(figures, "merge", write_soup(plan, out, **BARE).seconds.merge)
        clean(out)
        full = write_soup(plan, out).seconds
        note(figures, "merge with hash", full.merge)
        note(figures, "fsync", full.sync + full.journal)
        note(figures, "verify", full.verify)
        clean(out)
        read_all(root)
        note(figures, "whole process", timed(lambda: child(root)))
    if mergekit is not None:
        for _ in range(max(2, rounds // 2)):
            for name, options in OPTIONS.items():
                clean(root / "mk")
                read_all(root)
                call = lambda options=options: run_mergekit(mergekit, root, options)  # noqa: E731
                note(figures, f"mergekit {name}", timed(call))
    found = median(figures)
    floor = found["cp"] + found["read"]
    print(f"merge / (cp of output + one read of inputs): {found['merge'] / floor:.2f}")
    cold = found["merge, cold"] / (found["cp"] + found["read, cold"])
    print(f"the same where no input is in the page cache: {cold:.2f}")
    if mergekit is not None:
        best = min(found[f"mergekit {name}"] for name in OPTIONS)
        print(f"mergekit / whole process: {best / found['whole process']:.1f}")
    clean(out, root / "mk", root / "soup")


def child(root: Path, mode: str = "fast") -> str:
    command = [sys.executable, "-c", CHILD, str(root), mode]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=sys.path[0])
    return done.stdout


def run_mergekit(command: str, root: Path, options: list[str]) -> None:
    models = "".join(
        f"  - model: {root / f'm{i}'}\n    parameters: {{weight: {float(w)}}}\n"
        for i, w in enumerate(WEIGHTS)
    )
    text = f"merge_method: linear\nmodels:\n{models}dtype: bfloat16\n"
    (root / "mergekit.yaml").write_text(text)
    arguments = [command, str(root / "mergekit.yaml"), str(root / "mk"), *options]
    subprocess.run(arguments, check=True, capture_output=True)
    # Tensors whose names it does not know are left out without an error.
    written, wanted = (
        sum(path.stat().st_size for path in (root / name).glob("*.safetensors"))
        for name in ("mk", "m0")
    )
    if not 0.99 < written / wanted < 1.01:
        raise SystemExit(f"mergekit wrote {written} bytes of {wanted}")


def install_mergekit(folder: Path) -> str:
    """mergekit and this run's torch in an environment of their own."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    torch_version = torch.__version__.partition("+")[0]
    packages = [MERGEKIT, f"torch=={torch_version}"]
    subprocess.run([folder / "bin" / "pip", "install", "-q", *packages], check=True)
    return str(folder / "bin" / "mergekit-yaml")


def memory(root: Path) -> None:
    for megabytes in (100, 1000, 4000):
        folder = root / f"memory{megabytes}"
        make_sparse(folder, megabytes)
        peak = int(child(folder, "watch"))
        print(f"private memory, members of {megabytes / 1000:g} GB: {peak / 1e6:.0f} MB")
        clean(folder)


def load(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: x for file in files for name, x in load_file(file).items()}


def module(state: dict[str, torch.Tensor]) -> nn.Module:
    """A model with a parameter of its own memory for every tensor."""
    model = nn.Module()
    for name, x in state.items():
        *path, leaf = name.split(".")
        node = model
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        node.register_parameter(leaf, nn.Parameter(torch.zeros_like(x)))
    return model


def live(root: Path, rounds: int, mergekit: str | None) -> None:
    state = load(root / "m0")
    model = module(state)
    targets = dict(model.named_parameters())
    soup = LiveSoup(model, [root / f"m{i}" for i in range(4)])
    soup.write(WEIGHTS)
    plan = plan_soup([(root / f"m{i}", w) for i, w in enumerate(WEIGHTS)])
    figures: Figures = {}

    def copy(tensors: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, x in tensors.items():
                targets[name].copy_(x)

    def through(folder: Path, write: Callable[[], object]) -> None:
        write()
        copy(load(folder))

    def ours() -> None:
        write_soup(plan, root / "out", **BARE)

    for _ in range(rounds):
        note(figures, "copy of one expert", timed(lambda: copy(state)))
        note(figures, "one more vector", timed(lambda: soup.write(WEIGHTS)))
        clean(root / "out")
        note(figures, "our disk, reload", timed(lambda: through(root / "out", ours)))
    if mergekit is not None:
        clean(root / "mk")
        theirs = lambda: run_mergekit(mergekit, root, OPTIONS["tuned"])  # noqa: E731
        note(figures, "mergekit, reload", timed(lambda: through(root / "mk", theirs)))
    found = median(figures)
    one = found["one more vector"]
    print(f"live / copy, per member: {one / found['copy of one expert'] / len(WEIGHTS):.2f}")
    for name in ("our disk, reload", "mergekit, reload"):
        if name in found:
            print(f"{name} / live: {found[name] / one:.1f}")
    clean(root / "out", root / "mk")


def cases() -> Iterator[tuple[str, str, str, list[Fraction]]]:
    """(member dtype, output dtype, how members lie to each other, weights)."""
    draw = random.Random(0)
    grids = [[Fraction(n, 10) for n in (4, 3, 2, 1)], [Fraction(n, 7) for n in (1, 2, 1, 3)]]
    for dtype in ("BF16", "F16", "F32"):
        for kind in ("family", "cancelling", "alike", "far"):
            cuts = sorted(draw.randint(1, 999) for _ in range(3))
            ends = zip([0, *cuts], [*cuts, 1000], strict=True)
            for weights in (*grids, [Fraction(b - a, 1000) for a, b in ends]):
                for out in sorted({dtype, draw.choice(["BF16", "F16", "F32"])}):
                    yield dtype, out, kind, weights


def values(kind: str, dtype: str, k: int, generator: torch.Generator) -> torch.Tensor:
    """Member k, fp64 [elements].

    family: fine-tunes of one base, most within an eighth of each other, as sums in fp32 want them;
    cancelling: the same with random signs; alike: independent, of one size; far: over many binades.
    """
    noise = torch.randn(ELEMENTS, generator=generator, dtype=torch.float64)
    if kind == "alike":
        return noise * 0.02
    if kind == "far":
        spread = 12 if dtype == "F16" else 60
        return noise * 0.02 * 2.0 ** torch.randint(-spread, 1, noise.shape, generator=generator)
    shared = torch.Generator().manual_seed(7)
    base = torch.randn(ELEMENTS, generator=shared, dtype=torch.float64) * 0.02
    member = base * (1 + noise / 16) + noise * 1e-5 * k
    if kind == "cancelling":
        member *= torch.randint(0, 2, noise.shape, generator=generator) * 2 - 1
    return member


def exact(root: Path) -> None:
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    kernels = ["torch"] + ["compiled"] * (compiled_kernel() is not None)
    wrong, elements = dict.fromkeys(kernels, 0), 0
    for seed, (dtype, out_dtype, kind, weights) in enumerate(cases()):
        folder = root / "exact"
        generator = torch.Generator().manual_seed(seed)
        for k in range(4):
            (folder / f"m{k}").mkdir(parents=True)
            x = values(kind, dtype, k, generator).to(getattr(torch, names[dtype]))
            save_file({"w": x}, folder / f"m{k}" / "model.safetensors")
        members = [(folder / f"m{k}", w) for k, w in enumerate(weights)]
        wanted = defined(members, dtype, out_dtype)
        plan = plan_soup(members, dtype=names[out_dtype])
        for kernel in kernels:
            os.environ[VARIABLE] = kernel
            write_soup(plan, folder / kernel, verify=False)
            found = load(folder / kernel)["w"].view(torch.uint8).view(wanted.shape)
            wrong[kernel] += int((found != wanted).any(dim=1).sum())
        elements += len(wanted)
        clean(folder)
    for kernel, count in wrong.items():
        print(f"elements that differ from the definition, {kernel}: {count} of {elements}")


def defined(members: list[tuple[Path, Fraction]], dtype: str, out_dtype: str) -> torch.Tensor:
    """Bytes of the soup of the tensor `w`, uint8 [elements, bytes of one]."""
    whole, denominator = numerators([weight for _, weight in members])
    ranked = sorted(
        zip((fingerprint(folder) for folder, _ in members), members, whole, strict=True)
    )
    raw = [load(folder)["w"].view(torch.uint8).numpy().tobytes() for _, (folder, _), _ in ranked]
    values = [definition.decode(x, dtype) for x in raw]
    total = definition.blend(values, [n for _, _, n in ranked], denominator)
    encoded = torch.frombuffer(bytearray(definition.encode(total, out_dtype)), dtype=torch.uint8)
    return encoded.view(len(total), -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mb", type=int, default=1100, help="of one member, in megabytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mergekit", help="its mergekit-yaml, or `install` for a fresh one")
    parser.add_argument("--dir", type=Path, help="where the checkpoints are made")
    parser.add_argument("--parts", default="disk,memory,live,exact")
    options = parser.parse_args()
    print(f"kernel: {'compiled' if compiled_kernel() else 'torch'}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        root, parts = Path(name), options.parts.split(",")
        install = options.mergekit == "install"
        mergekit = install_mergekit(root / "venv") if install else options.mergekit
        if {"disk", "live"} & set(parts):
            make(root, options.mb)
        if "disk" in parts:
            disk(root, options.rounds, mergekit)
        if "memory" in parts:
            memory(root)
        if "live" in parts:
            live(root, options.rounds, mergekit)
        if "exact" in parts:
            exact(root)


if __name__ == "__main__":
    main()
