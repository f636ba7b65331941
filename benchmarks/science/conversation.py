"""Drive a search to its end, and see what the thinking costs."""

from __future__ import annotations

import time
from collections.abc import Callable

from merge.outcomes import Outcomes
from merge.simplex import Weights
from merge.trials import Found, Search, Wanted

Evaluate = Callable[[Weights, Wanted | None], Outcomes]


def converse(search: Search, evaluate: Evaluate) -> tuple[Found, float]:
    """Its answer, and the processor seconds per ask and tell."""
    spent, asks = 0.0, 0
    while True:
        begin = time.process_time()
        weights = search.ask()
        wanted = search.wanted(weights) if weights is not None else None
        spent += time.process_time() - begin
        if weights is None:
            return search.best(), spent / max(asks, 1)
        outcomes = evaluate(weights, wanted)
        begin = time.process_time()
        search.tell(weights, outcomes)
        spent += time.process_time() - begin
        asks += 1
