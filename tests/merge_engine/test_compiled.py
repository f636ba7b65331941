"""The compiled kernel present, absent, stale, forbidden and insisted on: always the same bytes."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import checkpoints as zoo
import numpy as np
import pytest
import torch

from merge import compiled
from merge.definition import blend
from merge.kernel import TorchKernel
from merge.lora import LowRank, adapted
from merge.mixer import choose_kernel

ROOT = Path(__file__).parents[2]
SOURCE = Path(compiled.__file__).with_name("blend.c")
COMPILER = shutil.which(os.environ.get("CC", "cc").split()[0])
FLAGS = ["-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")

SOUP = """
import sys
from fractions import Fraction
from pathlib import Path
import merge.compiled
from merge.soup import plan_soup, write_soup
root, out, library = map(Path, sys.argv[1:])
merge.compiled.__file__ = str(library / "compiled.py")  # where the library is looked for
members = [(root / f"m{i}", Fraction(n, 7)) for i, n in enumerate((1, 2, 4))]
write_soup(plan_soup(members, dtype="bfloat16"), out)
print("torch" in sys.modules)
"""


def compile_into(folder, source=SOURCE, *flags):
    folder.mkdir(exist_ok=True)
    headers = ["-I", SOURCE.parent]
    command = [COMPILER, *FLAGS, *flags, *headers, "-o", folder / "_blend.abi3.so", source, "-lm"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def members(tmp_path):
    """Three dtypes, near and far exponents."""
    kinds = (torch.bfloat16, torch.float16, torch.float32)
    for i, kind in enumerate(kinds):
        zoo.save(tmp_path / f"m{i}", zoo.tensors(i, kind, spread=8 * i))
    return tmp_path


def soup(members, name, library, **environment):
    """Content digest of the soup, and whether making it loaded torch."""
    environ = {k: v for k, v in os.environ.items() if k != compiled.VARIABLE} | environment
    done = subprocess.run(
        [sys.executable, "-c", SOUP, members, members / name, library],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return (members / name / "model.safetensors").read_bytes(), done.stdout.strip() == "True"


@needs_compiler
def test_present_absent_stale_broken_and_forbidden_give_the_same_bytes(members, tmp_path):
    present = compile_into(tmp_path / "present")
    absent = tmp_path / "absent"
    absent.mkdir()
    old = tmp_path / "old.c"
    old.write_text(SOURCE.read_text().replace(f"return {compiled.VERSION}; }}", "return 0; }"))
    stale = compile_into(tmp_path / "stale", old)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "_blend.abi3.so").write_bytes(b"\x7fELF, but not much more")
    wanted, loaded = soup(members, "a", present)
    assert not loaded  # a second of start-up saved
    for name, library in [("b", absent), ("c", stale), ("d", broken)]:
        assert soup(members, name, library) == (wanted, True)
    assert soup(members, "e", present, STOCKPOT_KERNEL="torch") == (wanted, True)
    assert soup(members, "f", present, STOCKPOT_KERNEL="compiled") == (wanted, False)


@needs_compiler
@pytest.mark.parametrize("flag", ["-O0", "-O1", "-O3"])
def test_optimisation_changes_no_byte(members, tmp_path, flag):
    plain, _ = soup(members, "plain", tmp_path, STOCKPOT_KERNEL="torch")
    found, loaded = soup(members, "out", compile_into(tmp_path / "library", SOURCE, flag))
    assert found == plain
    assert not loaded


@pytest.fixture(scope="module")
def lemma(tmp_path_factory):
    program = tmp_path_factory.mktemp("lemma") / "lemma"
    source = Path(__file__).with_name("lemma.c")
    flags = ["-O3", "-ffp-contract=off", "-I", SOURCE.parent]
    subprocess.run([COMPILER, *flags, "-o", program, source, "-lm"], check=True)
    return program


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "last", "step"),
    [("F16", -24, 1), ("F16", -12, 1), ("F16", 5, 1), ("BF16", -133, 9), ("BF16", 104, 9)],
)
def test_sums_in_fp32_are_rounded_as_whole_numbers_are(lemma, form, last, step):
    """last: exponents of the smallest subnormal number, and near the largest."""
    number = str({"BF16": 0, "F16": 1}[form])
    told = subprocess.run([lemma, number, str(last), str(step)], capture_output=True, check=True)
    assert told.stdout == b"0 0\n"


@needs_compiler
@pytest.mark.slow
def test_inputs_smaller_than_any_show_that_the_lemma_has_a_bound(lemma):
    told = subprocess.run([lemma, "0", "-149", "64"], capture_output=True, check=True)
    single, double = map(int, told.stdout.split())
    assert single > 0
    assert double == 0


@needs_compiler
@pytest.mark.parametrize(
    "flags",
    ["-funsafe-math-optimizations", "-fno-signed-zeros -fassociative-math", "-freciprocal-math",
     "-ffast-math", "-Ofast"],
)  # fmt: skip
def test_flags_of_whoever_installs_change_no_byte(tmp_path, flags):
    """A compiler is given the environment's CFLAGS first, ours last. (Linking with such flags also
    has this process flush subnormals: see `test_arithmetic`.)"""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = project["tool"]["setuptools"]["ext-modules"][0]["extra-compile-args"]
    made = tmp_path / "blend.o"
    subprocess.run([COMPILER, *flags.split(), *ours, "-fPIC", "-c", SOURCE, "-o", made], check=True)
    library = compile_into(tmp_path / "library", made)
    kernel = compiled.CompiledKernel(compiled.open_library(library), 3)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(5000) * 2.0 ** rng.integers(-40, 40, 5000) for _ in range(3)]
    out = np.empty(5000)
    blocks = [(x.view(np.uint8), "F64") for x in (*inputs, out)]
    kernel.mix(blocks[:3], (1, 2, 4), 7, blocks[3])
    assert out.tobytes() == blend(inputs, (1, 2, 4), 7).tobytes()
    a, b = rng.standard_normal((8, 50)), rng.standard_normal((100, 8))
    parts = [LowRank(a, b, 0.3, 0, 50)]
    kernel.adapt(blocks[0], parts, out)
    assert out.tobytes() == adapted(inputs[0], parts).tobytes()


@needs_compiler
def test_fast_math_is_refused_by_the_source(tmp_path):
    command = [COMPILER, *FLAGS, "-ffast-math", "-o", tmp_path / "x.so", SOURCE, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "changes results" in done.stderr


def test_insisting_where_there_is_none_says_what_to_do(members, tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        soup(members, "out", tmp_path, STOCKPOT_KERNEL="compiled")
    assert "install again where a C compiler is" in caught.value.stderr
    assert not (members / "out").exists()


def test_any_other_wish_is_an_error(monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, "fast")
    with pytest.raises(ImportError, match="neither 'torch' nor 'compiled'"):
        compiled.load()


def test_the_kernel_is_chosen_when_it_is_needed(monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, "torch")
    assert isinstance(choose_kernel(2), TorchKernel)
