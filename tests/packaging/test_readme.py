"""What the README says is so: its commands exist, its settings load, its code runs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from bot.cli import app
from bot.cli.exits import Exit
from bot.config import Settings, load_settings
from bot.sections import BaseSection, RouterSettings
from bot.suites import load_suite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```(?=\n\n```text\n(.*?)```|)", README, re.DOTALL)
PYTHON = [(code, printed) for kind, code, printed in BLOCKS if kind == "python"]
SHELL = "".join(code for kind, code, _ in BLOCKS if kind == "sh")


def commands(group=None, prefix=()):
    """Every command: its words, and the click object."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


COMMANDS = dict(commands())


def test_the_two_commands_stand_at_the_top():
    first = README.split("## ", 1)[0]
    assert re.search(r"^make demo\b", first, re.MULTILINE)
    assert re.search(r"^make test\b", first, re.MULTILINE)


def test_the_command_table_is_the_command_line():
    table = README.split("## Commands", 1)[1].split("Reading commands", 1)[0]
    named = {tuple(words.split()) for words in re.findall(r"`bot ([a-z ]+)", table)}
    named = {words[:1] if words[:1] in COMMANDS else words for words in named}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words):
    assert COMMANDS[words].help


def options(words: tuple[str, ...]) -> set[str]:
    return {option for parameter in COMMANDS[words].params for option in parameter.opts}


def test_options_in_the_examples_exist():
    lines = re.findall(r"^bot (.+?)(?:#|$)", SHELL, re.MULTILINE)
    assert lines
    for line in map(str.split, lines):
        name = tuple(line[:2]) if tuple(line[:2]) in COMMANDS else (line[0],)
        assert {word for word in line if word.startswith("--")} <= options(name), line


def test_options_in_the_command_table_exist():
    for first, second in re.findall(r"^\| (`bot [^|]+) \|([^|]*)\|$", README, re.MULTILINE):
        names = {words for words in COMMANDS if f"`bot {' '.join(words)}" in first}
        assert names, first
        known = set().union(*map(options, names))
        assert set(re.findall(r"`(--[a-z-]+)", second)) <= known, first


def test_exit_codes():
    table = README.split("Exit codes:", 1)[1].split("The table is", 1)[0]
    assert [int(code) for code in re.findall(r"^\| (\d) \|", table, re.MULTILINE)] == list(Exit)


def test_settings_in_the_readme_exist(tmp_path):
    table = README.split("| setting |", 1)[1].split("Every field", 1)[0]
    named = {
        name
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    models = (Settings, BaseSection, RouterSettings)
    assert named
    assert named <= {field for model in models for field in model.model_fields}


def test_the_smallest_settings_file_loads(tmp_path, monkeypatch):
    monkeypatch.delenv("BOT_PUBLISH", raising=False)
    (example,) = [code for kind, code, _ in BLOCKS if kind == "toml"]
    (tmp_path / "bot.toml").write_text(example)
    settings = load_settings(tmp_path / "bot.toml")
    assert settings.publish == "ask"
    assert settings.bases[0].router is not None


def test_the_smallest_benchmark_loads(tmp_path):
    suite, item = (code for kind, code, _ in BLOCKS if kind == "json")
    (tmp_path / "suite.json").write_text(suite)
    (tmp_path / "sums.jsonl").write_text(item)
    loaded = load_suite(str(tmp_path))
    assert [(c.name, len(c.items)) for c in loaded.categories] == [("sums", 1)]


def test_places_on_the_page_exist():
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= places


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_modules_that_the_code_imports_exist():
    imported = {
        (module, name.strip())
        for code, _ in PYTHON
        for module, names in re.findall(
            r"^from ((?:bot|db|merge|route)[\w.]*) import (.+)$", code, re.MULTILINE
        )
        for name in names.split(",")
    }
    assert {"merge", "merge.select", "route.calibrate"} <= {module for module, _ in imported}
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_the_code_runs_and_prints_what_it_says(number, tmp_path):
    code, printed = PYTHON[number]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=tmp_path, env={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if printed:
        assert done.stdout == printed
