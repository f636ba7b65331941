"""Admit: decide about a sighted candidate from listing, headers and config alone.

The base is its own first candidate. The operator chose it, so its licence and author are not in
question, but its weights must be readable like everybody else's. That they are not is never a
verdict about another candidate (`bot.ground`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from bot.admission import Admitted, Limits, Reference, examine, reference_of
from bot.errors import Gone, Rejected
from bot.ground import ours
from bot.hub import Hub
from bot.sections import BaseSection
from bot.steps import Step
from bot.world import World
from db import outcomes as o
from db.rows import CandidateRow
from merge.errors import printable


def admit(step: Step, world: World) -> Iterator[o.Outcome]:
    base = world.bases[step.base]
    assert step.subject is not None
    candidate = world.reader.candidate(step.subject)
    with ours(candidate):
        reference = _reference(world.hub, base.section.repo, base.section.sha)
    if candidate.role == "base":
        yield _admitted_base(world.hub, candidate, reference)
        return
    try:
        facts = world.hub.info(candidate.repo, candidate.sha)
        known = world.reader.known_weights(base.id)
        verdict = examine(world.hub, facts, reference, _limits(base.section), known)
    except Rejected as error:
        verdict = error
    except Gone as error:
        yield o.Withdrawn(candidate.id, str(error))
        return
    if isinstance(verdict, Rejected):
        yield o.Rejected(candidate.id, str(verdict.code), verdict.told)
    else:
        yield _admitted(candidate, verdict)


@cache
def _reference(hub: Hub, repo: str, sha: str) -> Reference:
    """A pinned commit never changes, so it is read once a process."""
    return reference_of(hub, hub.info(repo, sha))


def _limits(section: BaseSection) -> Limits:
    return Limits(
        max_bytes=int(section.max_gb * 1e9),
        allow=section.allow,
        deny=section.deny,
        allow_private=section.allow_private,
    )


def _admitted(candidate: CandidateRow, verdict: Admitted) -> o.Admitted:
    return o.Admitted(
        candidate_id=candidate.id,
        licence=printable(verdict.licence or ""),
        bytes=verdict.weights_bytes,
        weights_digest=verdict.lfs_digest,
        publishable=verdict.publishable,
        files=tuple((f.path, f.size, f.sha256, f.blob_id or "") for f in verdict.files),
        languages=verdict.languages,
        not_for_all_audiences=verdict.not_for_all_audiences,
    )


def _admitted_base(hub: Hub, candidate: CandidateRow, reference: Reference) -> o.Admitted:
    with ours(candidate):
        facts = hub.info(candidate.repo, candidate.sha)
    return o.Admitted(
        candidate_id=candidate.id,
        licence=printable(reference.licence or ""),
        bytes=sum(file.size for file in reference.weights),
        weights_digest=reference.lfs_digest,
        publishable=True,
        files=tuple((f.path, f.size, f.sha256, f.blob_id or "") for f in reference.weights),
        languages=facts.languages,
        not_for_all_audiences=facts.not_for_all_audiences,
    )
