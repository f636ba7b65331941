"""Build: write the winning soup to disk, in a child, from its recipe.

`make` is also what `bot verify` uses: the same recipe gives the same bytes on any machine. So what
was built need not be kept: whoever wants a soup's folder asks `written`, which makes it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from bot.children import Meter, child
from bot.errors import Broken, Gone
from bot.executors import Executor
from bot.hashes import sha256_of
from bot.members import abandoned, fetch_members
from bot.steps import Step
from bot.worker.jobs import Build, Member
from bot.world import World
from db import outcomes as o
from db.rows import SoupRow

Files = Mapping[str, Mapping[str, Any]]  # {name: {"sha256": ..., "size": ...}}


def build(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    soup = world.reader.soup(step.subject)
    meter = Meter(base, step)
    files = yield from _make(world, soup)
    if files is None:
        yield abandoned(soup.id)
        return
    yield o.SoupBuilt(soup.id, files)
    yield meter.spent()


def written(world: World, soup: SoupRow) -> Generator[o.Outcome, None, Path]:
    """The folder of a soup with exactly the files that were built, by name and SHA-256.

    Where it is not there, or holds anything else, it is fetched from a commit that published it,
    or made again from its recipe.

    Raises:
        Gone: neither can be had any more; that a member is gone has been yielded.
        Broken: what is made again is not what was built.
    """
    folder, files = world.shelf.soup(soup.recipe_digest), soup.files or {}
    if holds(folder, files):
        return folder
    if not _is_published(world, soup, folder) and (yield from _make(world, soup)) is None:
        raise Gone(f"a member of soup {soup.recipe_digest[:12]}", "it cannot be made again")
    if not holds(folder, files):
        raise Broken(f"soup {soup.recipe_digest[:12]}, made again, has other files than were built")
    return folder


def holds(folder: Path, files: Files) -> bool:
    """Whether these are the files of `folder`, all of them and no other. None are never held."""
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    return (
        bool(files)
        and there == files.keys()
        and all(sha256_of(folder / name) == digest["sha256"] for name, digest in files.items())
    )


def _is_published(world: World, soup: SoupRow, folder: Path) -> bool:
    """Fetch the weights from the first commit that still has them; False where none has."""
    for publication in world.reader.published(soup.recipe_digest):
        assert publication.commit_sha is not None
        shutil.rmtree(folder, ignore_errors=True)
        try:
            world.shelf.published(
                publication.target, publication.commit_sha, list(soup.files or {}), folder
            )
        except Gone:
            continue
        return True
    return False


def _make(world: World, soup: SoupRow) -> Generator[o.Outcome, None, Files | None]:
    """Write the folder anew; None after yielding that a member is gone."""
    reference, _ = world.shelf.weights(world.reader.base_candidate(soup.base_id))
    rows = world.reader.soup_members(soup.id)
    folders = yield from fetch_members(world, [row.candidate for row in rows])
    if folders is None:
        return None
    members = [
        Member(folder, f"{row.numerator}/{row.denominator}")
        for folder, row in zip(folders, rows, strict=True)
    ]
    out = world.shelf.soup(soup.recipe_digest)
    # A kill may have come between the folder and the word of it; under another benchmark the same
    # recipe is built once more. What lies there has not been checked, so it is not taken over.
    shutil.rmtree(out, ignore_errors=True)
    return make(world.executor, members, reference, out)


def make(executor: Executor, members: list[Member], reference: Path, out: Path) -> Files:
    """Write a soup to `out` and return {file: {sha256, size}} of what was written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    job = Build(members=tuple(members), base=reference, out=out)
    with child(executor, job) as running:
        for line in running.lines():
            if isinstance(files := line.get("files"), Mapping):
                return {str(name): dict(digest) for name, digest in files.items()}
    raise Broken("the child ended without naming the files that it wrote")
