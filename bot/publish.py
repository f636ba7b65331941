"""Publish: one commit per version, exactly once, whatever dies in between.

    head = the target's head              (created private where it does not exist)
    the head's provenance has our digest  -> it already happened
    the head holds what we did not write  -> stop, and tell a person
    hide it                               (a first version, and where the settings say private)
    upload large files                    (named by content: repeating it costs nothing)
    commit with parent = head             -> done | Moved: read the head again | Busy: wait
                                             | Unknown: look, and never send blindly again
    check every remote file, tag, show    -> verified

The first version stays private until every remote file has been checked. A later version is
visible at its commit; if a file then turns out wrong, a person is told and nothing is hidden.
A file that somebody changed, added or removed since our last version, the card too, stops the
publication: the edit is kept, and no weights ever stand under a card that tells of others.
Not promised: that nobody else writes to the target, or forges our provenance where the database
does not know it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path

from bot.errors import Broken, Forbidden, Gone, Moved, Rejected, Unknown
from bot.hashes import Difference, differences, sha256_of
from bot.provenance import FILE_NAME, MAX_BYTES, Provenance, ProvenanceError, parse
from bot.reasons import Reason
from bot.steps import Step
from bot.world import World
from db import outcomes as o
from db.rows import PublicationRow
from merge.errors import printable

RACES = 5  # 412s in a row before the step is left for later
UNCLAIMED = {"README.md", ".gitattributes"}  # what a Hub puts into a new repository
NAMED = 3  # files that an error names


def publish(step: Step, world: World) -> Iterator[o.Outcome]:
    assert step.subject is not None
    publication = world.reader.publication(step.subject)
    private = world.bases[step.base].section.private
    try:
        _check_terms(publication, private)
        sha = yield from _commit_once(world, publication, private)
        yield o.Moved(publication.id, "committed", commit_sha=sha, tag=_tag(publication))
        _check_remote(world, publication, sha)
        world.hub.tag(publication.target, _tag(publication), sha, fence=world.fence)
        yield from _show(world, publication, private)
        yield o.Moved(publication.id, "verified")
    except (Broken, Forbidden, Rejected) as error:
        yield o.Moved(publication.id, "blocked", error=str(error))
        raise


def _check_terms(publication: PublicationRow, private: bool) -> None:
    """The settings may have changed since it was drafted.

    Raises:
        Rejected: it would be public, and its licences do not allow that.
    """
    if publication.public is False and not private:
        remedy = f"set private = true again, then `bot retry publish:{publication.id}`"
        detail = f"made of what may not be public; {remedy}"
        raise Rejected(Reason.LICENCE_CONFLICT, publication.target, detail)


def _commit_once(
    world: World, publication: PublicationRow, private: bool
) -> Generator[o.Outcome, None, str]:
    """Returns the sha at which the target holds exactly this publication."""
    hub, target = world.hub, publication.target
    for _ in range(RACES):
        hub.ensure_repo(target, private=True, fence=world.fence)
        head = hub.head(target)
        if head is None:
            raise Unknown(f"creating {target}", "it does not show yet")
        last = _provenance(world, target, head)
        ours = last is not None and last.digest == publication.digest
        if ours and publication.state == "committed" and publication.commit_sha is not None:
            return publication.commit_sha  # whatever somebody has put on top of it since
        _refuse_foreign(world, publication, head, last)
        if ours:
            return head
        if private or last is None:
            hub.set_private(target, True, fence=world.fence)
        try:
            return (yield from _send(world, publication, head, last))
        except Moved:
            continue
    raise Moved(target)


def _send(
    world: World, publication: PublicationRow, head: str, last: Provenance | None
) -> Generator[o.Outcome, None, str]:
    """Returns the sha of the commit on top of `head`. Raises Moved where it is no longer that."""
    files = _stored(publication)
    world.hub.upload_files(publication.target, files, fence=world.fence)
    yield o.Moved(publication.id, "unknown", parent=head)  # from here on: look before sending
    return world.hub.commit(
        publication.target,
        files,
        delete=sorted(last.files.keys() - files.keys()) if last else (),
        parent=head,
        message=f"Version {publication.version}: {publication.digest[:12]}",
        fence=world.fence,
    )


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


def _refuse_foreign(
    world: World, publication: PublicationRow, head: str, last: Provenance | None
) -> None:
    """Only what `last` lists may be replaced, and only as it was written.

    Raises:
        Rejected: the repository holds somebody else's files, or a file was changed, added or
            removed since our last version.
    """
    target = publication.target
    if last is None:
        strange = sorted(world.hub.remote_files(target, head).keys() - UNCLAIMED)
        if strange:
            raise Rejected(Reason.NOT_OURS, target, f"{printable(strange[0])} stands there")
        return
    found = differences(world.hub, target, head, last.files)
    if _is_rewritten(world, target, last):
        found[FILE_NAME] = Difference.CHANGED
    if found:
        remedy = f"put back what stood there, then `bot retry publish:{publication.id}`"
        detail = f"{_told(found)} since version {last.version}; {remedy}"
        raise Rejected(Reason.NOT_OURS, target, detail)


def _is_rewritten(world: World, target: str, last: Provenance) -> bool:
    """Whether the head's provenance says something else than the commit that we remember."""
    known = [
        row.commit_sha
        for row in world.reader.publications(target)
        if row.commit_sha and (row.digest == last.digest or _tag(row) == last.version)
    ]
    if not known:
        return False  # a lost database
    try:
        return _provenance(world, target, known[-1]) != last
    except Gone:
        return False  # a squashed history


def _told(found: Mapping[str, Difference]) -> str:
    """The first few differences, in words."""
    named = [f"{printable(path)} was {how}" for path, how in islice(found.items(), NAMED)]
    more = len(found) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _check_remote(world: World, publication: PublicationRow, sha: str) -> None:
    """The commit holds the files that its provenance lists and no others, and it is ours.

    Raises:
        Broken: a remote file has other bytes than were sent.
    """
    published = _provenance(world, publication.target, sha)
    if published is None or published.digest != publication.digest:
        raise Broken(f"{publication.target}@{sha} does not hold {publication.digest}")
    wrong = differences(world.hub, publication.target, sha, published.files)
    if wrong:
        raise Broken(f"{publication.target}@{sha} is not what was sent: {_told(wrong)}")


def _show(world: World, publication: PublicationRow, private: bool) -> Iterator[o.Outcome]:
    """The visibility that the settings say; but nothing shows what was hidden before.

    A private target with earlier versions was hidden by a person, or holds what was admitted for
    private use alone: its history would be shown with it.
    """
    hub, target = world.hub, publication.target
    earlier = {f"v{number}" for number in range(1, publication.version)}
    if not private and hub.info(target).private and earlier & hub.tags(target).keys():
        text = "the target is private and holds earlier versions: only a person may show it"
        yield o.Noted(publication.base_id, target, "kept-private", text)
        return
    hub.set_private(target, private, fence=world.fence)


def _tag(publication: PublicationRow) -> str:
    return f"v{publication.version}"
