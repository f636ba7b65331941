"""The wheel holds the four packages with all their data files, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from merge.compiled import open_library

ROOT = Path(__file__).parents[2]
PACKAGES = ("bot", "db", "merge", "route")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")


COMPILER = os.environ.get("CC", "cc").split()[0]


def build(folder: Path, **environment: str) -> zipfile.ZipFile:
    """Built from a copy, so that no build folder is left in the checkout."""
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=IGNORED)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    environ = os.environ | environment
    subprocess.run([*command, "-w", folder, source], check=True, cwd=folder, env=environ)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    return build(tmp_path_factory.mktemp("wheel"))


def in_the_checkout() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }


def packed(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_every_file_of_the_packages_is_there_and_no_other(wheel):
    assert packed(wheel) - {"merge/_blend.abi3.so"} == in_the_checkout()


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C compiler here")
def test_the_kernel_is_compiled_where_there_is_a_compiler(wheel, tmp_path):
    wheel.extract("merge/_blend.abi3.so", tmp_path)
    library = open_library(tmp_path / "merge")
    assert library is not None
    assert library.soup_level() in (0, 1, 2)


def test_without_a_compiler_there_is_a_wheel_without_the_kernel(tmp_path):
    bare = build(tmp_path, CC="/bin/false")
    assert packed(bare) == in_the_checkout()


@pytest.mark.parametrize(
    "needed",
    [
        "bot/cards/templates/soup.md.jinja",
        "bot/cards/templates/router.md.jinja",
        "bot/localhub/pages/style.css",
        "bot/localhub/pages/templates/model.html.jinja",
        "bot/suites/tiny_skills/suite.json",
        "bot/suites/tiny_skills/add.jsonl",
        "bot/zoo/weights/base/model.safetensors",
        "bot/zoo/weights/shared/tokenizer.json",
        "bot/zoo/prompts/stories.jsonl",
        "db/migrations/versions/m0001_initial.py",
        "db/migrations/script.py.mako",
        "merge/py.typed",
        "route/hubrepo.py",
    ],
)
def test_what_the_bot_cannot_work_without(wheel, needed):
    assert wheel.getinfo(needed).file_size == (ROOT / needed).stat().st_size


def test_metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "stockpot"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert name.replace("METADATA", "licenses/LICENSE") in wheel.namelist()
    scripts = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "bot = bot.cli:main" in scripts
