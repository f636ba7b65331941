"""Make, CI, constraints and hooks agree with each other and with this environment."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in LINES)}
FILES = (
    *("Makefile", ".ci/run", ".ci/check_demo.py", "Dockerfile", ".dockerignore"),
    *("constraints.txt", "pyproject.toml", ".pre-commit-config.yaml", "README.md"),
    *("CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"),
)
HOSTS = ("github.com", "arxiv.org", "huggingface.co", "apache.org", "keepachangelog.com")


def requirements() -> list[Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in (*PROJECT["dependencies"], *extras)]


def test_constraints_are_exact_versions_and_nothing_else():
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.!]*", line), line
    assert len(PINS) == len(LINES)


@pytest.mark.parametrize("wanted", requirements(), ids=lambda wanted: wanted.name)
def test_every_dependency_is_pinned_inside_its_range(wanted):
    assert wanted.specifier.contains(Version(PINS[canonicalize_name(wanted.name)]))


def test_this_environment_is_the_pinned_one():
    for name, pin in PINS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        assert Version(found).public == pin, name


def test_no_address_but_those_of_public_documents():
    for file in FILES:
        text = (ROOT / file).read_text()
        for host in re.findall(r"[a-z][a-z0-9+]*://([\w.-]+)", text):
            assert host.removeprefix("www.") in (*HOSTS, "127.0.0.1"), (file, host)


@pytest.mark.parametrize("target", ["demo", "test", "check", "lint", "types", "slow", "setup"])
def test_every_target_sets_up_first(target):
    """A dry run in a checkout without .venv: the installation comes before anything else."""
    command = ["make", "--dry-run", "--no-print-directory", "VENV=not-there", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m pip install" in done.stdout
    tool = {"demo": "bot demo", "lint": "ruff check", "types": "mypy", "setup": "pip install"}
    after = done.stdout[done.stdout.index("-m pip install") :]
    assert tool.get(target, "-m pytest" if target != "check" else "mypy") in after


def test_check_runs_the_very_test_command():
    command = ["make", "--dry-run", "--no-print-directory", "VENV=not-there", "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for tool in ("ruff check", "ruff format --check", "mypy", "-m pytest"):
        assert tool in done.stdout


def test_a_python_that_is_too_old_is_told_so(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stdout


def test_where_venv_is_missing_the_package_is_named(tmp_path):
    """As Debian's python3 without python3-venv: the version is right, the modules are not there."""
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\n[ "$1" = -c ] || exit 1\n')
    bare.chmod(0o755)
    command = ["make", f"PYTHON={bare}", f"VENV={tmp_path / 'venv'}", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stdout


def test_ci_is_a_script_that_runs_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "make check" in text
    assert "demo DEMO=--json" in text
    assert "</dev/null" in text


def test_hooks_are_local():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "mypy"}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
