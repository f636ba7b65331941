"""The wheel holds the four packages with all their data files, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bot", "db", "merge", "route")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy, so that no build folder is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=IGNORED)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, source], check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def in_the_checkout() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def packed(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_every_file_of_the_packages_is_there_and_no_other(wheel):
    assert packed(wheel) == in_the_checkout()


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
