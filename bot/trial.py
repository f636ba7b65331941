"""Asking a trial server: one soup of its members, some items or all, one checked answer.

The server (`bot/worker/trials.py`) keeps the live model and the mapped members, so a soup that is
only tried never touches the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bot.errors import Broken
from bot.executors import Child
from bot.worker.jobs import Trials
from bot.world import Base, World
from merge.outcomes import Outcomes
from merge.simplex import Weights, parse_weights
from merge.splits import Split
from merge.trials import Wanted


def trial_job(world: World, base: Base, members: Sequence[Path], split: Split) -> Trials:
    """A server for soups of these members on one split."""
    return Trials(
        members=tuple(members),
        config=world.shelf.trusted(base.section),
        suite=base.benchmark.location,
        seed=base.section.seed,
        shares=base.section.shares,
        split=str(split),
    )


def ask(
    server: Child, weights: Weights, base: Base, split: Split, wanted: Wanted | None = None
) -> Outcomes:
    """One soup's outcomes on the items wanted, all where None. A child's answer is data of unknown
    quality and is checked.

    Raises:
        Broken: the answer is not one outcome for each of these items and no other.
    """
    trial = show(weights)
    question: dict[str, object] = {"trial": trial, "weights": [str(w) for w in weights]}
    if wanted is not None:
        question["items"] = {c: positions.tolist() for c, positions in wanted.items()}
    answer = server.ask(question)
    bits = answer.get("outcomes")
    sizes = base.benchmark.sizes(split)
    if answer.get("trial") != trial or not isinstance(bits, Mapping) or set(bits) != set(sizes):
        raise Broken(f"trial {trial}: the answer is not about these items")
    outcomes = Outcomes.from_bits(split, {c: str(bits[c]) for c in sizes})
    if outcomes.sizes != sizes or not _answers(outcomes, wanted):
        raise Broken(f"trial {trial}: these are not the items that were asked for")
    return outcomes


def _answers(outcomes: Outcomes, wanted: Wanted | None) -> bool:
    if wanted is None:
        return outcomes.complete
    return all(
        np.array_equal(np.flatnonzero(bits >= 0), np.unique(wanted.get(c, ())))
        for c, bits in outcomes.values.items()
    )


def show(weights: Weights) -> str:
    """As trials are named and stored: "2/5 3/5 0"."""
    return " ".join(str(weight) for weight in weights)


def read(text: str) -> Weights:
    """What `show` wrote. Raises BadWeights."""
    return parse_weights(text.split())
