"""Publish: one commit per version, exactly once, whatever dies in between.

    head = the target's head              (created private where it does not exist)
    the head's provenance has our digest  -> it already happened
    upload large files                    (named by content: repeating it costs nothing)
    commit with parent = head             -> done | Moved: read the head again | Busy: wait
                                             | Unknown: look, and never send blindly again
    check every remote file, tag, show    -> verified

The first version stays private until every remote file has been checked. A later version is
visible at its commit; if a file then turns out wrong, a person is told and nothing is hidden.
Not promised: that nobody else writes to the target. Files that a person changed since our last
version are kept, and the conflict is reported.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from bot.errors import Broken, Forbidden, Moved, Rejected, Unknown
from bot.hashes import remote_sha256, sha256_of
from bot.provenance import FILE_NAME, MAX_BYTES, Provenance, ProvenanceError, parse
from bot.reasons import Reason
from bot.steps import Step
from bot.world import World
from db import outcomes as o
from db.rows import PublicationRow

RACES = 5  # 412s in a row before the step is left for later
CARD = "README.md"
UNCLAIMED = {CARD, ".gitattributes"}  # what a Hub puts into a new repository


def publish(step: Step, world: World) -> Iterator[o.Outcome]:
    assert step.subject is not None
    publication = world.reader.publication(step.subject)
    section = world.bases[step.base].section
    try:
        sha = yield from _commit_once(world, publication)
        yield o.Moved(publication.id, "committed", commit_sha=sha, tag=_tag(publication))
        _check_remote(world, publication, sha)
        world.hub.tag(publication.target, _tag(publication), sha, fence=world.fence)
        if not section.private:
            world.hub.set_private(publication.target, False, fence=world.fence)
        yield o.Moved(publication.id, "verified")
    except (Broken, Forbidden, Rejected) as error:
        yield o.Moved(publication.id, "blocked", error=str(error))
        raise


def _commit_once(world: World, publication: PublicationRow) -> Generator[o.Outcome, None, str]:
    """Returns the sha at which the target holds exactly this publication."""
    hub, target = world.hub, publication.target
    files = _stored(publication)
    for _ in range(RACES):
        hub.ensure_repo(target, private=True, fence=world.fence)
        head = hub.head(target)
        if head is None:
            raise Unknown(f"creating {target}", "it does not show yet")
        last = _provenance(world, target, head)
        if last is not None and last.digest == publication.digest:
            return head
        kept = _edited_since(world, target, head, last)
        if kept:
            text = "the card was edited at the Hub; the edit is kept, ours is not sent"
            yield o.Noted(publication.base_id, target, "conflict", text)
        send = {path: content for path, content in files.items() if path not in kept}
        hub.upload_files(target, send, fence=world.fence)
        yield o.Moved(publication.id, "unknown", parent=head)  # from here on: look before sending
        try:
            return hub.commit(
                target,
                send,
                delete=sorted(set(last.files) - set(files) - kept) if last else (),
                parent=head,
                message=f"Version {publication.version}: {publication.digest[:12]}",
                fence=world.fence,
            )
        except Moved:
            continue
    raise Moved(target)


def _stored(publication: PublicationRow) -> dict[str, bytes | Path]:
    """The draft as it was rendered, checked against its digests.

    Raises:
        Broken: a file of the draft is missing or was changed since it was stored.
    """
    folder = Path(publication.folder)
    found: dict[str, bytes | Path] = {}
    for path, expected in publication.files.items():
        file = folder / path
        if not file.is_file() or sha256_of(file) != expected["sha256"]:
            raise Broken(f"draft file {path} of {publication.target} is missing or was changed")
        found[path] = file
    return found


def _provenance(world: World, target: str, head: str) -> Provenance | None:
    """What our last version says of itself; None in a repository that is new or not ours."""
    facts = world.hub.info(target, head)
    stored = facts.file(FILE_NAME)
    if stored is None:
        return None
    raw = world.hub.read_bytes(target, head, FILE_NAME, MAX_BYTES)
    try:
        return parse(raw)
    except ProvenanceError as error:
        raise Rejected(Reason.NOT_OURS, target, str(error)) from error


def _edited_since(world: World, target: str, head: str, last: Provenance | None) -> set[str]:
    """The card, where a person changed it since our last version.

    Raises:
        Rejected: the repository holds somebody else's files, or a file other than the card was
            changed since our last version.
    """
    remote = world.hub.remote_files(target, head)
    if last is None:
        strange = sorted(set(remote) - UNCLAIMED)
        if strange:
            raise Rejected(Reason.NOT_OURS, target, f"{strange[0]} stands there")
        return set()
    changed = {
        path
        for path, digest in last.files.items()
        if path in remote and remote_sha256(world.hub, target, head, remote[path]) != digest.sha256
    }
    if changed - {CARD}:
        raise Rejected(Reason.NOT_OURS, target, f"{min(changed - {CARD})} was changed")
    return changed


def _check_remote(world: World, publication: PublicationRow, sha: str) -> None:
    """Every file that the published provenance lists is there with its digest, and so is ours.

    Raises:
        Broken: a remote file has other bytes than were sent.
    """
    published = _provenance(world, publication.target, sha)
    remote = world.hub.remote_files(publication.target, sha)
    if published is None or published.digest != publication.digest:
        raise Broken(f"{publication.target}@{sha} does not hold {publication.digest}")
    for path, digest in published.files.items():
        if path == CARD:  # a person may have edited it: reported as a conflict before
            continue
        there = remote.get(path)
        if (
            there is None
            or remote_sha256(world.hub, publication.target, sha, there) != digest.sha256
        ):
            raise Broken(f"{publication.target}@{sha}: {path} is not what was sent")


def _tag(publication: PublicationRow) -> str:
    return f"v{publication.version}"
