"""Watch: list the fine-tunes of a base, newest first to a watermark; sweep all of them at times.

The newest-first list misses repositories that were created empty and filled later, or whose card
named the base later; the sweep by last change finds those. Candidates are keyed by repo and sha,
so reading a line twice changes nothing but likes and downloads, which `order` may go by, and a push
makes a new candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from bot.errors import Gone, Rejected
from bot.hub import Sighting
from bot.steps import Step
from bot.world import Base, World
from db.outcomes import Noted, Outcome, Sighted, Watched
from db.rows import Watermarks

OVERLAP = timedelta(hours=1)  # listings are not snapshots: read a little of the known past again


def watch(step: Step, world: World) -> Iterator[Outcome]:
    base = world.bases[step.base]
    started = world.now()
    marks = world.reader.watermarks(base.id)
    interval = timedelta(seconds=world.settings.sweep_seconds)
    sweep = marks.swept_at is None or started - marks.swept_at > interval
    known, counts = world.reader.sighted_shas(base.id), _counts(world, base)
    newest = marks.newest_created_at
    for seen in _listing(world, base, marks, sweep):
        newest = max(newest or seen.created_at, seen.created_at)
        pin, told = (seen.repo, seen.sha), (seen.likes, seen.downloads)
        if pin not in known or counts.get(pin, told) != told:
            known.add(pin)
            yield _sighted(base, seen)
    yield from _asked_for(world, base, known)
    head = world.hub.head(base.repo)
    # A date in the future would hide everything that comes after it.
    newest = min(newest, started) if newest else None
    yield Watched(base.id, head, newest, swept=sweep)


def _counts(world: World, base: Base) -> dict[tuple[str, str], tuple[int, int]]:
    """Likes and downloads of those that are not scored yet, as they were when last seen."""
    categories = len(base.benchmark.categories)
    facts = world.reader.facts(base.id, base.benchmark.id, categories, world.now())
    return {(c.repo, c.sha): (c.likes, c.downloads) for c in facts.open}


def _listing(world: World, base: Base, marks: Watermarks, sweep: bool) -> Iterator[Sighting]:
    if sweep:
        yield from world.hub.finetunes(base.repo, sort="last_modified")
        return
    newest, watched = marks.newest_created_at, marks.watched_at
    stop = newest - OVERLAP if newest else None
    yield from world.hub.finetunes(base.repo, sort="created_at", stop=stop)
    # A push to a known repository changes its last_modified, not its place by creation.
    stop = watched - OVERLAP if watched else None
    yield from world.hub.finetunes(base.repo, sort="last_modified", stop=stop)


def _asked_for(world: World, base: Base, known: set[tuple[str, str]]) -> Iterator[Outcome]:
    """Models that a request names, whether or not their card says whose fine-tune they are."""
    for request in world.reader.open_requests():
        if request.model is None or request.base not in (None, base.repo):
            continue
        try:
            facts = world.hub.info(request.model)
        except (Gone, Rejected) as error:
            yield Noted(base.id, request.model, "not-found", str(error))
            continue
        claimed = request.base is not None or base.repo in facts.base_models
        if claimed and (request.force or (facts.repo, facts.sha) not in known):
            yield _sighted(base, facts.sighting, again=request.force)


def _sighted(base: Base, seen: Sighting, again: bool = False) -> Sighted:
    return Sighted(
        base_id=base.id,
        repo=seen.repo,
        sha=seen.sha,
        author=seen.author,
        created_at=seen.created_at,
        modified_at=seen.modified_at,
        likes=seen.likes,
        downloads=seen.downloads,
        again=again,
    )
