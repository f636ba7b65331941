"""What is known about the soups of one search, and asking for what is not.

Every answer is yielded, and so stored, before the next question. Nothing is asked twice: what
members score alone is kept with the members, and what earlier searches found out about soups of
the same members is taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from bot.children import child
from bot.executors import Child
from bot.table import outcomes_of
from bot.trial import ask, read, show, trial_job
from bot.world import Base, World
from db import outcomes as o
from db.rows import SearchRow
from merge.crossfit import exchanged
from merge.outcomes import Outcomes
from merge.search import Search, Weights, make_search
from merge.simplex import corner
from merge.splits import Split
from merge.trials import Wanted


@dataclass(frozen=True)
class Study:
    """One search, with what is known before its first question.

    split: whose items the soups answer. A search tunes on tune items; the gate asks for report
    items, and tunes on them in the second round of cross-fitting (`bot.second_round`).
    """

    world: World
    base: Base
    row: SearchRow
    split: Split = Split.TUNE

    @property
    def n(self) -> int:
        return len(self.row.members)

    def alone(self) -> list[Outcomes]:
        """The members' own outcomes, in member order."""
        found = outcomes_of(self.world, self.base, self.split, self.row.members)
        return [found[member] for member in self.row.members]

    def tried(self) -> dict[Weights, Outcomes]:
        """In the order in which the vectors were first answered."""
        stored = self.world.reader.trials(self.row.id, str(self.split))
        return {read(t.weights): Outcomes.from_bits(self.split, t.outcomes) for t in stored}

    def earlier(self) -> dict[Weights, Outcomes]:
        """What earlier searches found out about soups of these members."""
        found: dict[Weights, Outcomes] = {}
        for trial in self.world.reader.earlier_trials(self.row.id, str(self.split)):
            shares = dict(zip(trial.members, read(trial.weights), strict=True))
            used = {member for member, weight in shares.items() if weight}
            if used <= set(self.row.members):
                weights = tuple(shares.get(member, Fraction(0)) for member in self.row.members)
                known = found.get(weights)
                new = Outcomes.from_bits(self.split, trial.outcomes)
                found[weights] = new if known is None or new.complete else known.merged(new)
        return found

    def known(self) -> dict[Weights, Outcomes]:
        """Everything that was ever answered about soups of these members, and they alone."""
        found = dict(self.earlier())
        for weights, new in self.tried().items():
            found[weights] = new if weights not in found else found[weights].merged(new)
        return found | {corner(self.n, i): alone for i, alone in enumerate(self.alone())}

    def search(self, strategy: str, told: Mapping[Weights, Outcomes]) -> Search:
        """A search that has been told this much, in this order."""
        search = make_search(
            strategy,
            self.n,
            known=[self._as_tune(outcomes) for outcomes in self.alone()],
            objective=self.base.section.aim,
            seed=self.base.section.seed,
        )
        for weights, outcomes in told.items():
            search.tell(weights, self._as_tune(outcomes))
        return search

    def converse(
        self,
        strategy: str,
        told: Mapping[Weights, Outcomes],
        known: Mapping[Weights, Outcomes],
        server: Child,
    ) -> Generator[o.Tried, None, dict[Weights, Outcomes]]:
        """Play a search to its end and return what it was told in all.

        told: what it has been told before. known: answers that need not be asked for again; the
        search hears of them where it asks.
        """
        search, heard = self.search(strategy, told), dict(told)
        while (weights := search.ask()) is not None:
            answer = self._answer(search.wanted(weights), weights, known.get(weights), server)
            yield self._tried(weights, answer)
            search.tell(weights, self._as_tune(answer))
            heard[weights] = heard[weights].merged(answer) if weights in heard else answer
        return heard

    def measure(self, vectors: Collection[Weights], folders: Sequence[Path]) -> Iterator[o.Tried]:
        """Soups of these weights on every item, live, where they are not known."""
        known = self.known()
        unknown = [w for w in dict.fromkeys(vectors) if w not in known or not known[w].complete]
        if unknown:
            with self.server(folders) as server:
                for weights in unknown:
                    answer = self._answer(None, weights, known.get(weights), server)
                    yield self._tried(weights, answer)

    @contextmanager
    def server(self, folders: Sequence[Path]) -> Iterator[Child]:
        """Answers for soups of the members, whose tensors lie in these folders."""
        job = trial_job(self.world, self.base, folders, self.split)
        with child(self.world.executor, job) as server:
            server.receive()  # ready
            yield server

    def _as_tune(self, outcomes: Outcomes) -> Outcomes:
        """As a search may see them: in the second round the two splits have changed places."""
        return outcomes if self.split is Split.TUNE else exchanged(outcomes)

    def _tried(self, weights: Weights, answer: Outcomes) -> o.Tried:
        return o.Tried(self.row.id, show(weights), answer.to_bits(), str(self.split))

    def _answer(
        self, wanted: Wanted | None, weights: Weights, before: Outcomes | None, server: Child
    ) -> Outcomes:
        """The items wanted, those known before without asking again."""
        if before is None:
            return ask(server, weights, self.base, self.split, wanted)
        if wanted is None:
            wanted = {c: np.arange(n) for c, n in before.sizes.items()}
        recalled = before.only(wanted)
        missing = {c: p[before.values[c][p] < 0] for c, p in wanted.items()}
        if not any(map(len, missing.values())):
            return recalled
        return recalled.merged(ask(server, weights, self.base, self.split, missing))
