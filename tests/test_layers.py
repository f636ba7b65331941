"""Who may import whom. The tables are the architecture; the tests read every source file.

Imports are found by `ast`, those inside functions too: a late import is an edge like any other.
Only for weight (what the daemon loads) do module-level imports alone count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = {
    "wiring": "bot.__main__ bot.cli bot.daemon bot.demo bot.doctor bot.health",
    "loop": "bot.loop bot.failures bot.requests",
    "handlers": """bot.watch bot.admit bot.evaluate bot.select bot.search bot.build bot.judge
                   bot.second_round bot.incumbent bot.calibrate bot.drafts bot.publish
                   bot.verify""",
    "what handlers see": """bot.world bot.children bot.gate bot.ground bot.hashes bot.members
                            bot.rounds bot.shelf bot.study bot.table bot.trial""",
    "judgement": "bot.plan bot.steps bot.order bot.admission bot.checks bot.layouts",
    "services": """bot.cards bot.child bot.config bot.executors bot.hub bot.provenance bot.secret
                   bot.sections bot.spawn bot.template bot.worker bot.engines bot.suites
                   bot.localhub bot.zoo""",
    "words": "bot bot.errors bot.licences bot.reasons",
    "libraries": "db merge route",
}
"""Top first. A module may import from its own layer and from those below it."""

APART = {
    "db": "db",
    "merge": "merge",
    "route": "route",
    "bot.worker": "bot.worker bot.engines bot.suites merge route",
    "bot.engines": "bot.engines bot.suites merge",
    "bot.suites": "bot.suites merge.splits",
    "bot.localhub": "bot.localhub",
    "bot.zoo": "bot.zoo bot.engines bot.suites merge route",
    "bot.cards": "bot.cards",
}
"""These know nothing of ours but this. The child process, for one, knows no Hub and no database."""

OWNERS = {
    "alembic": "db",
    "apscheduler": "bot.daemon",
    "fastapi": "bot.localhub",
    "huggingface_hub": "bot.hub bot.localhub bot.demo",
    "lm_eval": "bot.engines bot.worker",
    "matplotlib": "bot.worker bot.zoo",
    "prometheus_client": "bot.health",
    "sqlalchemy": "db",
    "torch": "merge route bot.worker bot.engines bot.zoo",
    "transformers": "route bot.worker bot.engines bot.zoo",
    "typer": "bot.cli",
    "uvicorn": "bot.localhub",
}
"""Each danger has one door: nobody else imports these."""

LIGHT = f"bot.cli bot.daemon bot.loop bot.plan {LAYERS['handlers']}".split()
HEAVY = {"torch", "transformers", "scipy", "lm_eval", "matplotlib", "datasets", "accelerate"}


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module that we ship."""
    found = {}
    for package in ("bot", "db", "merge", "route"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST, *, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports below `node`; without `everywhere` only those that run when it is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif everywhere or not (
            isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or is_for_types_only(child)
        ):
            yield from statements(child, everywhere=everywhere)


@cache
def imports(module: str, *, everywhere: bool = True) -> frozenset[str]:
    """Absolute dotted names that `module` imports: submodules where a name is one."""
    file = modules()[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in statements(ast.parse(file.read_text()), everywhere=everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*parents, *filter(None, [node.module])]) if node.level else node.module
        for alias in node.names:
            whole = f"{source}.{alias.name}"
            found.add(whole if whole in modules() else str(source))
    return frozenset(found)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name in modules()}


def within(module: str, names: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names.split())


def layer(module: str) -> int | None:
    """The layer with the longest matching name: `bot` alone is only the package itself."""
    best: tuple[int, int] | None = None
    for rank, names in enumerate(LAYERS.values()):
        for name in names.split():
            exact = module == name or (name != "bot" and module.startswith(f"{name}."))
            if exact and (best is None or len(name) > best[0]):
                best = (len(name), rank)
    return best[1] if best else None


def test_every_module_has_its_place():
    assert [module for module in modules() if layer(module) is None] == []


def test_every_name_in_the_tables_exists():
    tables = [*LAYERS.values(), *APART, *APART.values(), *OWNERS.values()]
    named = {name for names in tables for name in names.split()}
    assert named - set(modules()) == set()


def test_imports_go_down():
    ranks = {module: layer(module) for module in modules()}
    upward = [
        f"{module} -> {name}"
        for module, rank in ranks.items()
        for name in ours(imports(module))
        if None not in (rank, ranks[name]) and ranks[name] < rank
    ]
    assert upward == []


def test_imports_go_in_no_circle():
    """Those within functions too: a circle of files is one file that cannot be read alone."""
    graph = {module: ours(imports(module)) - {module} for module in modules()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(("area", "allowed"), APART.items(), ids=APART)
def test_what_stands_apart_knows_nothing_else(area, allowed):
    strange = [
        f"{module} -> {name}"
        for module in modules()
        if within(module, area)
        for name in ours(imports(module))
        if not within(name, allowed)
    ]
    assert strange == []


@pytest.mark.parametrize(("package", "owners"), OWNERS.items(), ids=OWNERS)
def test_each_danger_has_one_door(package, owners):
    users = [m for m in modules() if any(within(name, package) for name in imports(m))]
    assert [module for module in users if not within(module, owners)] == []
    assert users, "nobody imports it: it can leave the table"


def test_published_router_code_needs_nothing_of_ours():
    """Those files run in strangers' programs, from a cache folder without this package."""
    absolute = [
        f"{module} -> {ast.unparse(node)}"
        for module, file in modules().items()
        if within(module, "route")
        for node in statements(ast.parse(file.read_text()), everywhere=True)
        if ast.unparse(node).split()[1].split(".")[0] in ("bot", "db", "merge", "route")
    ]
    assert absolute == []


def test_nothing_light_reaches_anything_heavy():
    """Measured: the daemon's imports are 99 MB with numpy; torch adds 3.5 s and 370 MB."""
    for root in LIGHT:
        for path in paths(root):
            assert path[-1].partition(".")[0] not in HEAVY, " -> ".join(path)


def paths(root: str) -> Iterator[list[str]]:
    """From `root`, one path to each module that importing it imports."""
    queue, seen = [[root]], {root}
    while queue:
        path = queue.pop()
        yield path
        if path[-1] not in modules():
            continue
        for name in imports(path[-1], everywhere=False):
            for step in (name, *parents(name)):
                if step not in seen:
                    seen.add(step)
                    queue.append([*path, step])


def parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def test_the_command_line_loads_nothing_heavy():
    code = "import sys, bot.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sqlalchemy" in loaded
    assert loaded & HEAVY == set()
