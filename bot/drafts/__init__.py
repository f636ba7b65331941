"""Draft: everything of a publication, rendered once and stored before the first attempt to send it.

A draft is a folder that is complete: what is sent later is exactly what lies there. It names itself
by the digest of the recipe or router configuration; making it again finds it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bot.build import written
from bot.drafts.router import router_draft
from bot.drafts.soup import soup_draft
from bot.hashes import sha256_of
from bot.incumbent import is_overtaken
from bot.licences import Use
from bot.provenance import FILE_NAME
from bot.sections import Publish
from bot.steps import Step
from bot.world import Base, World
from db import outcomes as o
from db.rows import SoupRow


def draft(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    kind = step.key.split(":")[1]
    if kind == "soup":
        soup = world.reader.soup(step.subject)
        if is_overtaken(world, base, soup):
            yield _judge_again(soup)
            return
        yield from written(world, soup)
        target, digest = base.section.target, soup.recipe_digest
    else:
        router = world.reader.router(step.subject)
        assert base.section.router is not None
        target, digest = base.section.router.target, router.config_digest
    version = _next_version(world, target)
    folder = world.shelf.draft(kind, digest, version)
    with _Staging(folder) as staging:
        render = soup_draft if kind == "soup" else router_draft
        terms = render(world, base, step.subject, version, staging)
    yield from _replace_waiting(world, target)
    if kind == "soup" and is_overtaken(world, base, soup):  # a person let one go meanwhile
        yield _judge_again(soup)
        return
    yield o.Drafted(
        base_id=base.id,
        kind=kind,
        target=target,
        digest=digest,
        version=version,
        folder=str(folder),
        files=_digests(folder),
        state=_state(world, base),
        soup_id=step.subject if kind == "soup" else None,
        router_id=step.subject if kind == "router" else None,
        public=terms.use is Use.PUBLIC,
    )


def _judge_again(soup: SoupRow) -> o.Reopened:
    return o.Reopened(soup.id, "it was compared with another version than the one before it now")


def _state(world: World, base: Base) -> str:
    asks = world.settings.publish_mode(base.section) is Publish.ASK
    return "draft" if asks else "approved"


def _next_version(world: World, target: str) -> int:
    """One more than any version that the database or the Hub knows: a lost database must not
    make two different versions 1."""
    versions = [row.version for row in world.reader.publications(target)]
    if world.hub.head(target) is not None:
        tags = (tag.removeprefix("v") for tag in world.hub.tags(target) if tag.startswith("v"))
        versions += [int(tag) for tag in tags if tag.isdecimal()]
    return max(versions, default=0) + 1


def _replace_waiting(world: World, target: str) -> Iterator[o.Outcome]:
    """What still waits for a person, and never left us, is overtaken by this one."""
    for row in world.reader.publications(target):
        if row.state == "draft" or (row.state == "blocked" and row.commit_sha is None):
            yield o.Moved(row.id, "dropped", error="a newer draft took its place")


def _digests(folder: Path) -> Mapping[str, Mapping[str, object]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": sha256_of(file),
            "size": file.stat().st_size,
        }
        for file in files
    }


class _Staging:
    """A folder that appears by one rename when all of it is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial = folder.with_name(f".{folder.name}.partial")

    def __enter__(self) -> Path:
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        return self.partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
            return
        assert (self.partial / FILE_NAME).is_file()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.partial, self.folder)
