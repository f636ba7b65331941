"""How far a correlation between categories can be trusted, where item outcomes are known.

Two things blur r. Few models: its interval over n models is tanh(atanh r -+ 1.96 / sqrt(n - 3))
(Fisher 1921). Few items: each score is a noisy reading of a skill, which pulls r towards 0;
Spearman (1904) divides it by the root of both reliabilities,

    r' = r / sqrt(rel_i rel_j),       rel = k/(k-1) (1 - sum_k var(part_k) / var(sum of parts))

with Cronbach's alpha (1951) for rel, the mean of all split halves; parts are clusters, so that
variants of one question do not count as agreement. A small category has a low r with everything
because it is noisy: on the Berkeley leaderboard the 18 items of "relevance" drive the published
selection.

Not promised: that r' lies in [-1, 1]; it is an estimate and is clipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes
from merge.selection import Selection

Floats = NDArray[np.float64]

MOST = 5
"""Pairs that are explained one by one."""


def interval(r: float, n: int) -> tuple[float, float]:
    """95 % interval of a correlation over n models; (-1, 1) below four."""
    if n < 4:
        return -1.0, 1.0
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    half = 1.959964 / math.sqrt(n - 3)
    return math.tanh(z - half), math.tanh(z + half)


def reliability(parts: Floats) -> float:
    """Cronbach's alpha of scores that are sums over parts [models, parts]; 0 where models do not
    differ, or by less than their parts' noise."""
    k = parts.shape[1]
    total = float(parts.sum(axis=1).var())
    if k < 2 or total == 0:
        return 0.0
    alpha = k / (k - 1) * (1 - parts.var(axis=0).sum() / total)
    return max(0.0, float(alpha))


def reliabilities(
    outcomes: Mapping[str, Outcomes], clusters: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Category -> reliability of its scores over these models."""
    found = {}
    for category, ids in clusters.items():
        solved = np.stack([o.values[category] for o in outcomes.values()]).astype(np.float64)
        _, part = np.unique(np.array(ids), return_inverse=True)
        found[category] = reliability(solved @ np.eye(part.max() + 1)[part])
    return found


def explain(
    selection: Selection,
    outcomes: Mapping[str, Outcomes],
    *,
    clusters: Mapping[str, Sequence[str]],
    tau: float,
) -> tuple[str, ...]:
    """What noise does to a selection by signed correlations: a sentence for each weak pair in
    doubt, the most doubtful first and at most `MOST`; one for the strong pairs that may be weak.

    outcomes: every model that the correlations were taken over, complete. clusters: category ->
    cluster per item. In doubt: the interval, or r without item noise, reaches tau.
    """
    n, rel = len(outcomes), reliabilities(outcomes, clusters)
    doubtful = []
    for a, b, r in selection.weak_pairs:
        low, high = interval(r, n)
        root = math.sqrt(rel[a] * rel[b])
        corrected = min(max(r / root, -1.0), 1.0) if root > 0 else math.nan
        if high >= tau or corrected >= tau:
            known = "unknown" if math.isnan(corrected) else f"{corrected:+.2f}"
            sentence = (
                f"{a!r} and {b!r} may not be weak: r = {r:+.2f}, 95 % interval {low:+.2f} to"
                f" {high:+.2f} over {n} models, without item noise {known}"
                f" (reliabilities {rel[a]:.2f} and {rel[b]:.2f})"
            )
            doubtful.append((high, sentence))
    doubtful.sort(key=lambda pair: -pair[0])
    sentences = [sentence for _, sentence in doubtful[:MOST]]
    if len(doubtful) > MOST:
        sentences.append(f"{len(doubtful) - MOST} more weak pairs are in doubt")
    strong = sum(tau <= r and interval(r, n)[0] < tau for r in _pairs(selection))
    if strong:
        sentences.append(f"pairs that {n} models cannot tell from weak ones: {strong} more")
    return tuple(sentences)


def _pairs(selection: Selection) -> list[float]:
    """r of every pair that has one, each once."""
    names = list(selection.correlations)
    table = selection.correlations
    found = [table[a][b] for i, a in enumerate(names) for b in names[i + 1 :]]
    return [r for r in found if r is not None]
