"""Ways of writing that a calibration tries: the aligned model alone, the router, random routing."""

from collections.abc import Sequence

from .measured import Measured, Plan
from .rounds import Rounds
from .rules import Router, Threshold
from .sampling import Way
from .signals import Signal, while_writing
from .thresholds import reachable, threshold_for


def aligned_alone(temperature: float = 1.0, min_p: float | None = None) -> Plan:
    """The aligned model without the base."""
    name = f"aligned alone at temperature {temperature:g}"
    name += "" if min_p is None else f" with min-p {min_p:g}"
    way = Way(Router.RAND, "never", temperature, min_p)
    return Plan(name, "aligned", "aligned" if min_p is None else "min-p", way)


def routed_plans(
    rounds: Rounds, prompts: Sequence[str], shares: Sequence[float], aligned: Signal
) -> list[Plan]:
    """The router at each share, its threshold estimated on aligned text, then on its own text."""
    router = rounds.pair.config.router
    if router.doubt is None:
        return [Plan(f"{router} (fixed share)", "router", router, Way(router, None))]
    # Before anything is written: a share out of reach is told at once.
    rough = [threshold_for(router, share, aligned.doubt, aligned.content) for share in shares]
    return [
        routed_plan(rounds, prompts, share, first)
        for share, first in zip(shares, rough, strict=True)
    ]


def routed_plan(rounds: Rounds, prompts: Sequence[str], share: float, first: Threshold) -> Plan:
    """The router at `share`, by the signal of what it writes at the threshold `first`.

    It is estimated from half the samples: it needs positions, not texts.
    """
    router = rounds.pair.config.router
    name = f"{router} at share {share:g}"
    trial = Plan(f"{name}, first threshold", "trial", router, Way(router, first), share)
    half = max(2, rounds.pair.samples // 2)
    own = while_writing(rounds.run(prompts, trial, samples=half).written)
    threshold = threshold_for(router, share, own.doubt, own.content)
    return Plan(name, "router", router, Way(router, threshold), share)


def random_plans(routed: Measured, rivals: Sequence[Router]) -> list[Plan]:
    """Random routing at the share that the router had on the calibration prompts."""
    share = round(float(routed.base_asked.sum() / routed.asked.sum()), 6)
    plans = []
    for rival in rivals:
        most = 1.0 if rival.content is None else reachable(routed.written.content)
        way = Way(rival, min(1.0, round(share / most, 6)) if most else "never")
        name = f"{rival} at share {share:.3g}"
        plans.append(Plan(name, "control", rival, way, routed.target))
    return plans
