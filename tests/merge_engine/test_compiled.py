"""The compiled kernel present, absent, stale, forbidden and insisted on: always the same bytes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import checkpoints as zoo
import pytest
import torch

from merge import compiled
from merge.kernel import TorchKernel
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
