"""Three splits of a benchmark, by cluster: select, tune, report.

A cluster is a scenario, a question or a template: items that stand or fall together. All items of
one cluster lie in one split, in every category, because a translation or a variant of a seen
question is a seen question (the four multi-turn categories of BFCL are 200 scenarios told four
times; arXiv 2511.13254 splits nothing and reports on what it tuned on).

Not promised: that cluster ids are right. Two ids for one question leak, and nothing here can see
that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Split(StrEnum):
    SELECT = "select"  # experts and correlations
    TUNE = "tune"  # weights
    REPORT = "report"  # published figures; every look is counted


class Leak(ValueError):
    """Items of one split were offered where only another split may be used."""

    def __init__(self, wanted: Split, offered: str, where: str) -> None:
        self.wanted, self.offered, self.where = wanted, offered, where
        super().__init__(f"{where} takes {wanted} items only, but was given {offered}")


@dataclass(frozen=True)
class Splits:
    """Which split every cluster belongs to; made by `split_clusters`, persisted by `to_json`."""

    seed: int
    shares: tuple[float, float, float]
    assignment: Mapping[str, Split]

    def __post_init__(self) -> None:
        object.__setattr__(self, "assignment", MappingProxyType(dict(self.assignment)))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the seed, the shares and the assignment."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        assignment = {cluster: str(split) for cluster, split in sorted(self.assignment.items())}
        return {"seed": self.seed, "shares": list(self.shares), "assignment": assignment}

    def to_json(self) -> str:
        return json.dumps({**self._content(), "digest": self.digest}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Splits:
        """Raises ValueError where the stored digest is not the digest of the stored assignment."""
        raw = json.loads(text)
        assignment = {cluster: Split(split) for cluster, split in raw["assignment"].items()}
        splits = cls(raw["seed"], tuple(raw["shares"]), assignment)
        if splits.digest != raw["digest"]:
            raise ValueError(f"stored splits were changed: digest {raw['digest']} does not fit")
        return splits

    def clusters(self, split: Split) -> frozenset[str]:
        return frozenset(c for c, s in self.assignment.items() if s is split)

    def marks(self, *splits: Split) -> tuple[str, ...]:
        """16 hex digits of each cluster in these splits, sorted: whether two divisions share one
        can be told from them, of whatever items and seed."""
        chosen = [c for c, split in self.assignment.items() if split in splits]
        return tuple(sorted(hashlib.sha256(c.encode()).hexdigest()[:16] for c in chosen))

    def positions(self, clusters: Sequence[str], split: Split) -> NDArray[np.intp]:
        """Indices of the items, given by their clusters, that belong to `split`. Raises KeyError
        for a cluster that was never assigned."""
        return np.flatnonzero([self.assignment[cluster] is split for cluster in clusters])

    def require(self, split: Split, clusters: Iterable[str], where: str) -> None:
        """Raises Leak unless every cluster belongs to `split`."""
        for cluster in clusters:
            found = self.assignment.get(cluster)
            if found is not split:
                raise Leak(split, f"cluster {cluster!r} of {found or 'no split'}", where)


def split_clusters(
    clusters: Iterable[str] | Mapping[str, Iterable[str]],
    *,
    seed: int,
    shares: tuple[float, float, float] = (0.4, 0.3, 0.3),
) -> Splits:
    """Assign clusters to select, tune and report.

    `clusters` is either a plain collection or, better, category -> clusters of its items: then
    every group of clusters that serve the same categories is split in the same proportions, so a
    small category is not lost from one split by chance. Within a group the order is a seeded hash
    of the id; the order of the input does not matter.

    `shares` are for (select, tune, report), none negative, sum 1.
    """
    _check_shares(shares)
    ordered = stratified_order(clusters, seed)
    return Splits(
        seed, shares, dict(zip(ordered, _fair_sequence(len(ordered), shares), strict=True))
    )


def stratified_order(clusters: Iterable[str] | Mapping[str, Iterable[str]], seed: int) -> list[str]:
    """Every cluster once: those that serve the same categories stand together, in seeded random
    order. Dealing them out in turn deals every category evenly."""
    serves: dict[str, set[str]] = {}
    groups = clusters if isinstance(clusters, Mapping) else {"": clusters}
    for category, members in groups.items():
        for cluster in members:
            serves.setdefault(cluster, set()).add(category)
    return sorted(serves, key=lambda c: (sorted(serves[c]), _shuffle_key(seed, c)))


def _check_shares(shares: tuple[float, float, float]) -> None:
    fair = len(shares) == 3 and all(s >= 0 for s in shares) and abs(sum(shares) - 1) <= 1e-9
    if not fair:  # so written, nan is not
        raise ValueError(f"shares for select, tune, report must be >= 0 and sum to 1: {shares}")


def _shuffle_key(seed: int, cluster: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{cluster}".encode()).digest()


def _fair_sequence(n: int, shares: tuple[float, float, float]) -> list[Split]:
    """Splits in an order in which every stretch holds nearly its shares: the next place goes to
    the split that is furthest behind. So each group is balanced although groups run on."""
    given = np.zeros(3)
    share = np.asarray(shares)
    order = list(Split)
    sequence = []
    for i in range(n):
        behind = np.where(share > 0, share * (i + 1) - given, -np.inf)
        k = int(behind.argmax())
        given[k] += 1
        sequence.append(order[k])
    return sequence
