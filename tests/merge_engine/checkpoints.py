"""Small checkpoints for tests, written by the safetensors library itself."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SHAPES = {
    "z.first": (7,),
    "model.embed_tokens.weight": (33, 16),
    "model.layers.0.mlp.up_proj.weight": (48, 16),
    "model.layers.10.mlp.up_proj.weight": (48, 16),
    "model.layers.2.mlp.up_proj.weight": (48, 16),
    "model.norm.weight": (16,),
    "a.scalar": (),
    "empty.rows": (0, 5),
}


def tensors(seed, dtype=torch.bfloat16, shapes=None, spread=0):
    """Random normal tensors; with `spread`, times powers of two over that many binades."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in (shapes or SHAPES).items():
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.02
        if spread:
            x *= 2.0 ** torch.randint(-spread, 1, shape, generator=generator)
        made[name] = x.to(dtype)
    return made


def save(folder: Path, state, shards=1, config=None):
    """A checkpoint of one or several shards, tensors dealt out in turn."""
    folder.mkdir(parents=True)
    names = list(state)
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
        for i, file in enumerate(files):
            save_file({n: state[n] for n in names[i::shards]}, folder / file)
        weight_map = {n: files[i % shards] for i, n in enumerate(names)}
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_unaligned(folder: Path, state):
    """What other writers make: no padding, so that tensors begin at odd offsets."""
    entries, data = {"__metadata__": {"note": "odd"}}, b""
    for name, x in state.items():
        kind = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[str(x.dtype)[6:]]
        end = len(data) + x.nbytes
        shape = list(x.shape)
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), end]}
        data += raw(x)
    text = json.dumps(entries).encode()
    text += b" " * (1 - len(text) % 2)  # of odd length
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def load(folder: Path):
    """All tensors, by the safetensors library."""
    from safetensors.torch import load_file

    state = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    return state


def module_of(state):
    """A module tree with a parameter for every tensor of floats, by its name in the files, and a
    buffer for every other."""
    root = nn.Module()
    for name, x in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        if x.is_floating_point():
            node.register_parameter(leaf, nn.Parameter(x))
        else:
            node.register_buffer(leaf, x)
    return root


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


WATCHED = """
import sys, threading, time
from fractions import Fraction
from pathlib import Path
import merge.soup
from merge.plan import refusals
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.005)
watcher = threading.Thread(target=watch)
watcher.start()
{program}
done = True
watcher.join()
print(max(peak, anonymous()))
"""


def private_memory(program: str, *arguments: object) -> tuple[int, str]:
    """Highest private memory of a process that runs `program`, in bytes; and what it prints."""
    ran = run_python(WATCHED.replace("{program}", program), *arguments)
    assert ran.returncode == 0, ran.stderr
    *said, peak = ran.stdout.strip().split("\n")
    return int(peak), "\n".join(said)


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
