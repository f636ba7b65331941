"""Verify: make a published soup again from its provenance and compare every byte.

Nothing of the bot's database is used: anybody with the Hub and this package can run it. Each file
is `same`, `differs`, or `unverifiable` where what it takes is gone.
Not promised: that the scores are right. They need the benchmark; this needs only the members.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bot.build import make
from bot.errors import Gone, Misconfigured
from bot.executors import Executor
from bot.hashes import Difference, differences, sha256_of
from bot.hub import Hub
from bot.provenance import FILE_NAME, MAX_BYTES, Kind, Provenance, parse
from bot.shelf import Shelf, is_weights
from bot.worker.jobs import Member
from merge.recipe import Recipe

DIFFERENT = {
    Difference.CHANGED: "the Hub's file against provenance",
    Difference.REMOVED: "listed in provenance, missing at the Hub",
    Difference.ADDED: "at the Hub, not listed in provenance",
}


class State(StrEnum):
    """What a check, or all of them together, came to; each has its exit code."""

    SAME = "same"
    DIFFERS = "differs"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True)
class Check:
    """One file or claim. `how`: what it was compared with."""

    what: str
    state: State
    how: str


@dataclass(frozen=True)
class Verification:
    """What was compared of one publication, and with which result."""

    repo: str
    sha: str
    kind: Kind
    digest: str
    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The worst of the checks: a difference outranks what could not be told."""
        states = {check.state for check in self.checks}
        for worst in (State.DIFFERS, State.UNVERIFIABLE):
            if worst in states:
                return worst
        return State.SAME


def verify(hub: Hub, executor: Executor, data: Path, target: str) -> Verification:
    """Check `ORG/NAME` (its head) or `ORG/NAME@REVISION`.

    Raises:
        Misconfigured: the repository has no provenance.
        ProvenanceError: it has one that cannot be read.
        Gone: there is no such repository or revision.
    """
    repo, _, revision = target.partition("@")
    facts = hub.info(repo, revision or None)
    if facts.file(FILE_NAME) is None:
        raise Misconfigured(f"{repo}@{facts.sha} has no {FILE_NAME}: the bot did not publish it")
    provenance = parse(hub.read_bytes(repo, facts.sha, FILE_NAME, MAX_BYTES))
    checks = list(_published(hub, repo, facts.sha, provenance))
    if provenance.kind is Kind.SOUP:
        checks += _remade(Shelf(hub, data), executor, provenance)
    return Verification(repo, facts.sha, provenance.kind, provenance.digest, tuple(checks))


def _published(hub: Hub, repo: str, sha: str, provenance: Provenance) -> Iterator[Check]:
    """Every file at the Hub against the digest in provenance."""
    found = differences(hub, repo, sha, provenance.files)
    for path in dict.fromkeys([*provenance.files, *found]):
        if path in found:
            yield Check(path, State.DIFFERS, DIFFERENT[found[path]])
        else:
            yield Check(path, State.SAME, "the Hub's file against provenance")


def _remade(shelf: Shelf, executor: Executor, provenance: Provenance) -> Iterator[Check]:
    try:
        recipe = Recipe.from_json(provenance.recipe_json)
    except ValueError as error:
        yield Check("recipe", State.DIFFERS, f"cannot be read: {error}")
        return
    same = recipe.digest == provenance.digest
    yield Check("recipe", State.SAME if same else State.DIFFERS, "its digest")
    yield from _donated(shelf, provenance)
    try:
        reference = shelf.model(recipe.base_repo, recipe.base_sha)
        members = [
            Member(shelf.model(member.repo, member.sha), str(member.weight))
            for member in recipe.members
        ]
    except Gone as error:
        yield Check("weights", State.UNVERIFIABLE, str(error))
        return
    shelf.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf.data, prefix="verify-") as folder:
        made = make(executor, members, reference, Path(folder) / "soup")
    expected = {p: d.sha256 for p, d in provenance.files.items() if is_weights(p)}
    for path in sorted(expected.keys() | made.keys()):
        same = path in made and made[path]["sha256"] == expected.get(path)
        yield Check(path, State.SAME if same else State.DIFFERS, "made again from the recipe")


def _donated(shelf: Shelf, provenance: Provenance) -> Iterator[Check]:
    """Config, tokenizer and the like are the donor's, byte for byte."""
    assert provenance.donor is not None
    donor = provenance.donor
    try:
        texts = shelf.texts(donor.repo, donor.sha)
    except Gone as error:
        yield Check("config and tokenizer", State.UNVERIFIABLE, str(error))
        return
    for file in sorted(texts.iterdir()):
        published = provenance.files.get(file.name)
        same = published is not None and published.sha256 == sha256_of(file)
        how = f"the file of {donor.repo}@{donor.sha[:12]}"
        yield Check(file.name, State.SAME if same else State.DIFFERS, how)
