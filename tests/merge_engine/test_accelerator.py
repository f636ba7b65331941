"""A live soup in memory that the host cannot touch is the exported soup, and alone travels there.

Accelerators are rare where tests run; `stand_in.cpp` takes their place. It shows that copies by
torch are the only way to the devices, and when they happen; not how fast, and not what a queue of
kernels does.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import checkpoints as zoo
import pytest
import torch
from safetensors.torch import load_file, save_file

from merge.compiled import VARIABLE
from merge.soup import plan_soup, write_soup

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
UP = "model.layers.{}.mlp.up_proj.weight"
SHAPES = {  # matrices take three blocks, so that a thread uses its staging memory again
    UP.format(0): (150, 16), UP.format(1): (150, 16), UP.format(2): (151, 16),
    "model.embed_tokens.weight": (133, 16), "model.norm.weight": (16,), "a.scalar": (),
    "empty.rows": (0, 5), "z.first": (7,),
}  # fmt: skip
PLACES = dict(zip(["seen", *SHAPES], cycle(["stand_in:0", "stand_in:1", "cpu"]), strict=False))
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["up_proj"]}
TOUCH = """
import ctypes, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # this crash is no news
sys.path.insert(0, sys.argv[1])
import accelerator, torch
accelerator.connect(sys.argv[2])
x = torch.arange(4).to("stand_in:1")
print(x.cpu().tolist(), flush=True)
print(ctypes.string_at(x.data_ptr(), 1))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The devices; unoptimised code compiles soonest."""
    if COMPILER is None:
        pytest.skip("no C++ compiler here")
    found = tmp_path_factory.mktemp("stand_in") / "stand_in.so"
    subprocess.run(
        [COMPILER, "-std=c++20", "-O0", "-fPIC", "-shared", f"-I{TORCH / 'include'}",
         HERE / "stand_in.cpp", "-o", found, f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"],
        check=True,
    )  # fmt: skip
    return found


def full(folder, seed, dtype):
    state = zoo.tensors(seed, dtype, SHAPES)
    return zoo.save(folder, {**state, "seen": torch.arange(5)})


def adapter(folder, seed):
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name in map(UP.format, range(3)):
        rows, columns = SHAPES[name]
        module = f"base_model.model.{name.removesuffix('.weight')}"
        state[f"{module}.lora_A.weight"] = torch.randn(4, columns, generator=draw)
        state[f"{module}.lora_B.weight"] = torch.randn(rows, 4, generator=draw) * 0.01
    folder.mkdir()
    save_file(state, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


def write_live(task, kernel=""):
    """The events that `accelerator.py` reports."""
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "accelerator.py", json.dumps(task, default=str)],
        cwd=HERE.parents[1], env=os.environ | {VARIABLE: kernel}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def on_devices(state, pick):
    """Bytes on each device of the tensors that `pick` picks."""
    found = Counter()
    for name, x in state.items():
        if pick(x) and PLACES[name] != "cpu":
            found[PLACES[name]] += x.nbytes
    return found


def travelled(events):
    """Bytes written to each device, after the device was waited for; nothing was read from it."""
    waited, found = set(), Counter()
    for event in events:
        what, *count, number = event.split()
        device = f"stand_in:{number}"
        if what == "synchronize":
            waited.add(device)
        else:
            assert what == "write" and device in waited, events
            found[device] += int(*count)
    return found


def check(library, out, members, dtype, weights, reference=None, kernel=""):
    """Every soup in the model is the exported one, and is all that travelled to the devices."""
    out.mkdir()
    task = {
        "library": library, "out": out, "members": members, "reference": reference,
        "dtype": dtype, "weights": weights, "places": PLACES,
        "like": (reference or members[0]) / "model.safetensors",
    }  # fmt: skip
    opening, *writes = write_live(task, kernel)
    for n, (parts, events) in enumerate(zip(weights, writes, strict=True)):
        given = zip(members, [Fraction(p, sum(parts)) for p in parts], strict=True)
        plan = plan_soup(list(given), reference=reference, dtype=dtype)
        write_soup(plan, out / f"soup{n}", threads=1, durable=False)
        soup, live = zoo.load(out / f"soup{n}"), load_file(out / f"{n}.safetensors")
        assert {k: zoo.raw(x) for k, x in live.items()} == {k: zoo.raw(x) for k, x in soup.items()}
        assert travelled(events) == on_devices(soup, torch.is_floating_point)
    assert travelled(opening) == on_devices(soup, lambda x: not torch.is_floating_point(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_live_equals_exported(library, tmp_path, dtype):
    kinds = (torch.bfloat16, torch.float32, torch.float16)
    members = [full(tmp_path / f"m{i}", i, kind) for i, kind in enumerate(kinds)]
    weights = [(4, 3, 3), (1, 0, 0), (0, 1, 0), (1, 9, 0), (0, 5, 5)]
    check(library, tmp_path / "out", members, dtype, weights)


@pytest.mark.parametrize("kernel", ["torch", ""])
def test_live_adapters_equal_exported(library, tmp_path, kernel):
    """By rank concatenation, and by the compiled kernel where it was built."""
    base = full(tmp_path / "base", 0, torch.bfloat16)
    members = [adapter(tmp_path / "m1", 1), full(tmp_path / "m2", 2, torch.float32),
               adapter(tmp_path / "m3", 3)]  # fmt: skip
    weights = [(1, 1, 1), (1, 0, 0), (0, 1, 0), (2, 0, 5)]
    check(library, tmp_path / "out", members, "bfloat16", weights, base, kernel)


def test_the_host_cannot_touch_a_device(library):
    """Else the tests above would show nothing."""
    done = zoo.run_python(TOUCH, HERE, library)
    assert done.stdout == "[0, 1, 2, 3]\n"
    assert done.returncode == -signal.SIGSEGV
