"""Build: write the winning soup to disk, in a child, from its recipe.

`make` is also what `bot verify` uses: the same recipe gives the same bytes on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bot.children import Meter, child
from bot.errors import Broken
from bot.executors import Executor
from bot.members import abandoned, fetch_members
from bot.steps import Step
from bot.worker.jobs import Build, Member
from bot.world import World
from db import outcomes as o


def build(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    soup = world.reader.soup(step.subject)
    meter = Meter(base, step)
    reference, _ = world.shelf.weights(world.reader.base_candidate(base.id))
    rows = world.reader.soup_members(soup.id)
    folders = yield from fetch_members(world, [row.candidate for row in rows])
    if folders is None:
        yield abandoned(soup.id)
        return
    members = [
        Member(folder, f"{row.numerator}/{row.denominator}")
        for folder, row in zip(folders, rows, strict=True)
    ]
    files = make(world.executor, members, reference, world.shelf.soup(soup.recipe_digest))
    yield o.SoupBuilt(soup.id, files)
    yield meter.spent()


def make(
    executor: Executor, members: list[Member], reference: Path, out: Path
) -> Mapping[str, Mapping[str, Any]]:
    """Write a soup to `out` and return {file: {sha256, size}} of what was written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    job = Build(members=tuple(members), base=reference, out=out)
    with child(executor, job) as running:
        for line in running.lines():
            if isinstance(files := line.get("files"), Mapping):
                return {str(name): dict(digest) for name, digest in files.items()}
    raise Broken("the child ended without naming the files that it wrote")
