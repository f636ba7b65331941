"""The design page names what exists: paths, tables, steps."""

from __future__ import annotations

import re
from pathlib import Path

from bot.daemon import HANDLERS
from db.schema import metadata

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text()


def test_every_path_that_is_named_exists():
    named = re.findall(r"`((?:bot|db|merge|route|tests)/[\w./]*)`", DESIGN)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_module_in_the_picture_exists():
    picture = DESIGN.split("## 2. Layers", 1)[1].split("```")[1]
    groups = re.findall(r"bot/\{([\w,]+)\}(\.py|/)", picture)
    named = [(name, end) for names, end in groups for name in names.split(",")]
    assert ("loop", ".py") in named
    assert [f"{n}{e}" for n, e in named if not (ROOT / "bot" / f"{n}{e}").exists()] == []


def test_every_table_is_named_and_no_other():
    state = DESIGN.split("## 4. State", 1)[1].split("CHECK", 1)[0]
    named = set(re.findall(r"`([a-z_]+)`", state)) - {"data", "category_table"}
    assert named == set(metadata.tables)


def test_the_cycle_is_the_handlers():
    cycle = DESIGN.split("## 3. One cycle", 1)[1].split("```")[1]
    assert re.findall(r"^(\w+) ", cycle, re.MULTILINE) == list(HANDLERS)


def test_the_modules_of_both_halves_of_merge_exist():
    halves = DESIGN.split("The engine:", 1)[1].split("`route/`", 1)[0]
    named = re.findall(r"`(\w+)`", halves)
    assert {"soup", "gate"} <= set(named)
    assert [name for name in named if not (ROOT / "merge" / f"{name}.py").is_file()] == []
