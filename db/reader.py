"""Read-only questions of the handlers, answered with frozen values."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from db import planning
from db.engine import reading
from db.facts import BaseFacts, Request
from db.rows import (
    CandidateRow,
    EarlierTrial,
    LookRow,
    MemberRow,
    PublicationRow,
    RouterRow,
    ScoreRow,
    SearchRow,
    SelectionRow,
    SketchRow,
    SoupRow,
    TrialRow,
    Watermarks,
    to_candidate,
    to_search,
    to_selection,
    to_values,
)
from db.schema import (
    bases,
    benchmarks,
    candidates,
    events,
    looks,
    publications,
    routers,
    scores,
    searches,
    selections,
    soup_members,
    soups,
    trials,
)


class Reader:
    """Each call is one consistent view of its own. Unknown ids raise LookupError."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # -- planning --------------------------------------------------------------------------------

    def facts(self, base_id: int, benchmark_id: int, categories: int, now: datetime) -> BaseFacts:
        with reading(self.engine) as connection:
            return planning.load_facts(connection, base_id, benchmark_id, categories, now)

    def open_requests(self) -> tuple[Request, ...]:
        with reading(self.engine) as connection:
            return planning.open_requests(connection)

    def paused(self) -> frozenset[str]:
        with reading(self.engine) as connection:
            return planning.paused(connection)

    def last_event(self) -> int:
        with reading(self.engine) as connection:
            return int(connection.execute(select(func.max(events.c.id))).scalar() or 0)

    # -- candidates ------------------------------------------------------------------------------

    def candidate(self, candidate_id: int) -> CandidateRow:
        return self.candidates([candidate_id])[0]

    def candidates(self, ids: Collection[int]) -> list[CandidateRow]:
        """In the order of `ids`."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(candidates).where(candidates.c.id.in_(list(ids))))
            found = {row.id: to_candidate(row) for row in rows}
        missing = [i for i in ids if i not in found]
        if missing:
            raise LookupError(f"no candidate {missing[0]}")
        return [found[i] for i in ids]

    def base_candidate(self, base_id: int) -> CandidateRow:
        with reading(self.engine) as connection:
            query = select(candidates).filter_by(base_id=base_id, role="base")
            return to_candidate(connection.execute(query).one())

    def known_weights(self, base_id: int) -> dict[str, str]:
        """weights digest -> repo@sha of the oldest admitted candidate that has it."""
        return self._known(base_id, candidates.c.weights_digest)

    def known_fingerprints(self, base_id: int) -> dict[str, str]:
        """content fingerprint -> repo@sha of the oldest admitted candidate that has it."""
        return self._known(base_id, candidates.c.fingerprint)

    def known_sketches(self, base_id: int, other_than: str) -> dict[str, list[float]]:
        """repo@sha -> direction from the base, of the examined fine-tunes of other repos."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(candidates.c.repo, candidates.c.sha, candidates.c.sketch).where(
                    candidates.c.base_id == base_id,
                    candidates.c.state == "admitted",
                    candidates.c.role == "finetune",
                    candidates.c.repo != other_than,
                    candidates.c.sketch.is_not(None),
                )
            )
            return {f"{row.repo}@{row.sha}": row.sketch for row in rows}

    def places(self, ids: Collection[int]) -> dict[int, SketchRow]:
        """Candidate id -> where it lies, for those that were examined."""
        query = select(candidates).where(
            candidates.c.id.in_(list(ids)), candidates.c.delta_norm.is_not(None)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query)
            return {row.id: SketchRow(tuple(row.sketch), row.delta_norm) for row in rows}

    def _known(self, base_id: int, column: Any) -> dict[str, str]:
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(column.label("digest"), candidates.c.repo, candidates.c.sha)
                .where(
                    candidates.c.base_id == base_id,
                    candidates.c.state == "admitted",
                    column.is_not(None),
                )
                .order_by(candidates.c.id.desc())
            )
            return {row.digest: f"{row.repo}@{row.sha}" for row in rows}

    def sighted_shas(self, base_id: int) -> set[tuple[str, str]]:
        with reading(self.engine) as connection:
            query = select(candidates.c.repo, candidates.c.sha).filter_by(base_id=base_id)
            return {(row.repo, row.sha) for row in connection.execute(query)}

    def watermarks(self, base_id: int) -> Watermarks:
        with reading(self.engine) as connection:
            return to_values(Watermarks, _one(connection, bases, base_id))

    # -- scores ----------------------------------------------------------------------------------

    def scores(
        self,
        benchmark_id: int,
        split: str,
        *,
        candidates: Collection[int] = (),
        soups: Collection[int] = (),
    ) -> list[ScoreRow]:
        subject = scores.c.candidate_id.in_(list(candidates)) | scores.c.soup_id.in_(list(soups))
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(scores)
                .where(scores.c.benchmark_id == benchmark_id, scores.c.split == split, subject)
                .order_by(scores.c.id)
            )
            return [to_values(ScoreRow, row) for row in rows]

    # -- soups -------------------------------------------------------------------------------------

    def selection(self, selection_id: int) -> SelectionRow:
        with reading(self.engine) as connection:
            return to_selection(_one(connection, selections, selection_id))

    def last_selection(self, base_id: int, benchmark_id: int) -> SelectionRow | None:
        with reading(self.engine) as connection:
            query = select(selections).filter_by(base_id=base_id, benchmark_id=benchmark_id)
            row = connection.execute(query.order_by(selections.c.id.desc()).limit(1)).first()
            return to_selection(row) if row else None

    def search_of(self, selection_id: int) -> SearchRow | None:
        with reading(self.engine) as connection:
            query = select(searches).filter_by(selection_id=selection_id)
            row = connection.execute(query).first()
            return to_search(row) if row else None

    def search(self, search_id: int) -> SearchRow:
        with reading(self.engine) as connection:
            return to_search(_one(connection, searches, search_id))

    def trials(self, search_id: int, split: str = "tune") -> list[TrialRow]:
        """In the order in which they were answered."""
        with reading(self.engine) as connection:
            query = select(trials).filter_by(search_id=search_id, split=split)
            query = query.order_by(trials.c.id)
            return [to_values(TrialRow, row) for row in connection.execute(query)]

    def earlier_trials(self, search_id: int, split: str = "tune") -> list[EarlierTrial]:
        """Of all searches before this one with its base and benchmark."""
        with reading(self.engine) as connection:
            this = _one(connection, searches, search_id)
            query = (
                select(trials, searches.c.members)
                .join(searches, searches.c.id == trials.c.search_id)
                .where(
                    searches.c.base_id == this.base_id,
                    searches.c.benchmark_id == this.benchmark_id,
                    searches.c.id < search_id,
                    trials.c.split == split,
                )
                .order_by(trials.c.id)
            )
            rows = connection.execute(query)
            return [EarlierTrial(r.weights, r.outcomes, tuple(r.members)) for r in rows]

    def soup(self, soup_id: int) -> SoupRow:
        with reading(self.engine) as connection:
            return to_values(SoupRow, _one(connection, soups, soup_id))

    def soup_members(self, soup_id: int) -> list[MemberRow]:
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(candidates, soup_members.c.numerator, soup_members.c.denominator)
                .join(soup_members, soup_members.c.candidate_id == candidates.c.id)
                .where(soup_members.c.soup_id == soup_id)
                .order_by(soup_members.c.position)
            )
            return [MemberRow(to_candidate(r), r.numerator, r.denominator) for r in rows]

    def look_of(self, soup_id: int, splits_digest: str) -> LookRow | None:
        with reading(self.engine) as connection:
            query = select(looks).filter_by(soup_id=soup_id, splits_digest=splits_digest)
            row = connection.execute(query).first()
            return LookRow(row.k, row.level) if row else None

    def looks_taken(self, base_id: int, benchmark_id: int) -> int:
        """How many looks at items that this benchmark judges on the base has had.

        Items are the same where their cluster is, under whatever division: another seed, or one
        more item, makes nothing unseen. Where it is not known what a look saw, it counts. Never
        less than the k of one of them: of two looks at one item the later has the larger k.
        """
        with reading(self.engine) as connection:
            marks = _one(connection, benchmarks, benchmark_id).judging
            query = (
                select(
                    benchmarks.c.judging,
                    func.count(looks.c.id).label("n"),
                    func.max(looks.c.k).label("last"),
                )
                .join(soups, soups.c.benchmark_id == benchmarks.c.id)
                .join(looks, looks.c.soup_id == soups.c.id)
                .where(looks.c.base_id == base_id)
                .group_by(benchmarks.c.id)
            )
            found = [row for row in connection.execute(query) if _share(row.judging, marks)]
        return max(sum(int(row.n) for row in found), *(int(row.last) for row in found), 0)

    # -- publications ------------------------------------------------------------------------------

    def router(self, router_id: int) -> RouterRow:
        with reading(self.engine) as connection:
            return to_values(RouterRow, _one(connection, routers, router_id))

    def publication(self, publication_id: int) -> PublicationRow:
        with reading(self.engine) as connection:
            return to_values(PublicationRow, _one(connection, publications, publication_id))

    def publications(self, target: str) -> list[PublicationRow]:
        """Every version of `target` that was ever drafted, oldest first."""
        with reading(self.engine) as connection:
            query = select(publications).filter_by(target=target).order_by(publications.c.version)
            return [to_values(PublicationRow, row) for row in connection.execute(query)]

    def version_before(self, base_id: int, target: str) -> PublicationRow | None:
        """The base's soup that readers of the target get now; one whose commit got no answer is
        taken to be there."""
        with reading(self.engine) as connection:
            query = select(publications).where(
                publications.c.kind == "soup",
                publications.c.base_id == base_id,
                publications.c.target == target,
                publications.c.commit_sha.is_not(None) | (publications.c.state == "unknown"),
            )
            newest = query.order_by(publications.c.version.desc()).limit(1)
            row = connection.execute(newest).first()
            return to_values(PublicationRow, row) if row else None

    def published(self, recipe_digest: str) -> list[PublicationRow]:
        """The commits that hold the soup of this recipe, newest first."""
        with reading(self.engine) as connection:
            query = select(publications).where(
                publications.c.kind == "soup",
                publications.c.digest == recipe_digest,
                publications.c.commit_sha.is_not(None),
            )
            rows = connection.execute(query.order_by(publications.c.id.desc()))
            return [to_values(PublicationRow, row) for row in rows]


def _share(one: list[str] | None, other: list[str] | None) -> bool:
    return one is None or other is None or not set(one).isdisjoint(other)


def _one(connection: Connection, table: Any, key: int) -> Row[Any]:
    row = connection.execute(select(table).where(table.c.id == key)).first()
    if row is None:
        raise LookupError(f"no row {key} in {table.name}")
    return row
