"""A router for a pair: thresholds by share, presets by a stated rule, figures from new prompts.

1. The aligned model writes alone; its texts fix the yardstick. Where several prompt formats are
   allowed, the base writes alone under each, and one is chosen.
2. The router's signal along those texts gives a first threshold per share. Routed text differs, so
   the pair writes once with each and the thresholds are taken again from that.
3. Each setting writes on the calibration prompts. Presets are chosen there.
4. On held-out prompts, which took no part so far, everything is measured with its controls: the
   aligned model alone at several temperatures and with min-p, the base alone, and random routing at
   the same base share, without and with the same content rule. These are the figures to quote.

Every setting that was measured can be kept, and a later call goes on from there. All of it is ours;
the paper gives neither a way to choose thresholds nor presets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import formats, presets
from .bootstrap import Resampler
from .config import Pin, Preset, PromptFormat, RouterConfig, VocabularyPin
from .figures import Bounds
from .generate import Execution
from .measured import Measured, Plan
from .pins import complete
from .report import report
from .rounds import Progress, Rounds, Ruler, Store
from .rules import Router, Side
from .sampling import Pair, Way
from .side import can_forget
from .signals import Signal, observe, while_writing
from .thresholds import reachable, threshold_for
from .vocab import id_to_token, prove_identical, read_vocabulary, token_digest

MIN_P = 0.1
"""Of the min-p control."""
COST_PROMPTS = 2
"""Prompts that block execution is timed on, in forwards."""


@dataclass(frozen=True)
class Controls:
    """The aligned model alone: at these temperatures, and with min-p at those; random routing.

    `plain_random`: off, a router with a content rule is compared only with random routing that has
    the same rule, which is the nearer rival; for pairs that are dear to run.
    """

    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3, 1.6)
    min_p_temperatures: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0)
    plain_random: bool = True

    def plans(self) -> list[Plan]:
        with_min_p = [aligned_alone(t, MIN_P) for t in self.min_p_temperatures]
        return [*(aligned_alone(t) for t in self.temperatures), *with_min_p]

    def rivals(self, router: Router) -> tuple[Router, ...]:
        """The random routers that `router` is compared with."""
        if router is router.control:
            return ()
        if router.doubt is None or router.content is None:
            return (Router.RAND,)
        return (Router.RAND, router.control) if self.plain_random else (router.control,)


_CONTROLS, _RULER, _STORE = Controls(), Ruler(), Store()


def calibrate(
    base: Any,
    aligned: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    held_out: Sequence[str],
    router: Router = Router.P_PUNC,
    shares: Sequence[float] = (0.1, 0.2, 0.35),
    preset: str = presets.DEFAULT,
    prompt_format: PromptFormat | Sequence[PromptFormat] = PromptFormat.SAME,
    controls: Controls = _CONTROLS,
    aligned_prefix: int = 0,
    content_reads: Side = Side.BASE,
    seed: int = 0,
    samples_per_prompt: int = 4,
    max_new_tokens: int = 64,
    ruler: Ruler = _RULER,
    bounds: Mapping[str, Bounds] | None = None,
    base_pin: Pin | None = None,
    aligned_pin: Pin | None = None,
    base_tokenizer: Any = None,
    batch_rows: int = 128,
    execution: Execution = Execution.EAGER,
    store: Store = _STORE,
    progress: Progress | None = None,
) -> RouterConfig:
    """The calibrated router with its figures. Same arguments, same router.

    `shares`: base shares over the positions where the router is asked; ignored by -PUNC and -FC,
    whose share is fixed. `preset`: the one that is the default. `prompt_format`: the base's, or
    those to choose among. `aligned_prefix`, `content_reads`: as in `route.rules.Policy`, for the
    router and its random controls; there is no veto, which would take from a share after it was
    set. `ruler`: how texts are judged. `bounds`: the scale of Coverage by measure, where another
    calibration has fixed it. `store`: rounds measured before, and where new ones go. Pins default
    to what the models themselves tell.
    Raises ShareOutOfReach, VocabularyMismatch, and ValueError for an unknown preset and for prompts
    that are in both sets.
    """
    if preset not in presets.FLOORS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(presets.FLOORS)}")
    if set(prompts) & set(held_out) or not prompts or not held_out:
        raise ValueError("calibration and held-out prompts must be given and share none")
    pins = (base_pin, aligned_pin, base_tokenizer)
    config = replace(
        uncalibrated(base, aligned, tokenizer, router, *pins),
        aligned_prefix=aligned_prefix,
        content_reads=content_reads,
    )
    pair = Pair(
        base=base,
        aligned=aligned,
        tokenizer=tokenizer,
        config=config,
        samples=samples_per_prompt,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_rows=batch_rows,
        execution=execution,
    )
    allowed = [prompt_format] if isinstance(prompt_format, PromptFormat) else prompt_format
    allowed = formats.different(tokenizer, prompts, allowed)
    shares = sorted(set(shares)) if router.doubt is not None else []
    seen, unseen = Resampler(len(prompts), seed), Resampler(len(held_out), seed + 1)
    rivals = controls.rivals(router)
    total = count_rounds(pair, len(shares), len(controls.plans()), len(allowed), len(rivals))
    rounds = Rounds(pair, ruler, store, progress, total)

    # 1. What texts are measured by, and what the base reads.
    first = rounds.run(prompts, aligned_alone())
    tried = formats.study(rounds, prompts, allowed)
    form = formats.choose(tried)
    rounds.pair = replace(pair, config=replace(config, prompt_format=form))

    # 2. and 3. Thresholds, the curve, and presets on it.
    signal = observe(rounds.pair, router, prompts, first.written)
    plans = routed_plans(rounds, prompts, shares, signal)
    curve = [first, tried[form], *(rounds.run(prompts, plan) for plan in plans)]
    chosen = presets.choose(curve, seen) if shares else {}

    # 4. Figures from prompts that nothing above has seen.
    random = [plan for one in curve if one.kind == "router" for plan in random_plans(one, rivals)]
    tested = [*controls.plans(), formats.base_alone(), *plans, *random]
    figures = [rounds.run(held_out, plan) for plan in tested]
    default = next(plan for plan in plans if plan.target == chosen.get(preset))

    calibration = replace(
        report(rounds, curve, figures, chosen, seen, unseen, default.target, bounds),
        reach=round(reachable(signal.content), 6),
        forwards_in_blocks=forwards_in_blocks(rounds, held_out, default),
        formats=formats.trials(tried, seen),
        format_rule=formats.RULE if len(tried) > 1 else None,
    )
    return with_presets(
        replace(rounds.pair.config, calibration=calibration), default, plans, chosen, preset
    )


def forwards_in_blocks(rounds: Rounds, prompts: Sequence[str], plan: Plan) -> float | None:
    """Forwards per token in blocks, the samples of one prompt in a batch; few prompts tell it."""
    pair = rounds.pair
    if not has_blocks(pair):
        return None
    trial = replace(plan, kind="trial", name=f"{plan.name}, in blocks")
    blocks = {"execution": Execution.BLOCK, "batch_rows": pair.samples}
    written = rounds.run(prompts[:COST_PROMPTS], trial, **blocks).written
    return round(written.forwards / written.steps, 6)


def has_blocks(pair: Pair) -> bool:
    return can_forget(pair.base) and can_forget(pair.aligned)


def count_rounds(pair: Pair, shares: int, controls: int, allowed: int, rivals: int) -> int:
    """How many rounds of writing it takes."""
    settings = max(1, shares)
    figures = controls + 1 + settings * (1 + rivals) + has_blocks(pair)
    return 1 + allowed + shares + settings + figures


def uncalibrated(
    base: Any,
    aligned: Any,
    tokenizer: Any,
    router: Router,
    base_pin: Pin | None = None,
    aligned_pin: Pin | None = None,
    base_tokenizer: Any = None,
) -> RouterConfig:
    """A router for this pair before calibration: "never", or no threshold where it has none.

    Raises VocabularyMismatch where a `base_tokenizer` is given and differs.
    """
    size = read_vocabulary(tokenizer).size
    if base_tokenizer is not None:
        size = prove_identical(base_tokenizer, tokenizer)
    return RouterConfig(
        router=router,
        threshold=None if router.doubt is None else "never",
        base=complete(base_pin or Pin("base"), base),
        aligned=complete(aligned_pin or Pin("aligned"), aligned),
        vocabulary=VocabularyPin(size, token_digest(id_to_token(tokenizer), size)),
    )


def aligned_alone(temperature: float = 1.0, min_p: float | None = None) -> Plan:
    """The aligned model without the base."""
    name = f"aligned alone at temperature {temperature:g}"
    name += "" if min_p is None else f" with min-p {min_p:g}"
    way = Way(Router.RAND, "never", temperature, min_p)
    return Plan(name, "aligned", "aligned" if min_p is None else "min-p", way)


def routed_plans(
    rounds: Rounds, prompts: Sequence[str], shares: Sequence[float], aligned: Signal
) -> list[Plan]:
    """The router at each share, its threshold estimated on aligned text, then on its own text.

    The second estimate is made from half the samples: it needs positions, not texts.
    """
    router = rounds.pair.config.router
    if router.doubt is None:
        return [Plan(f"{router} (fixed share)", "router", router, Way(router, None))]
    rough = {
        share: threshold_for(router, share, aligned.doubt, aligned.content) for share in shares
    }
    half = max(2, rounds.pair.samples // 2)
    plans = []
    for share in shares:
        name = f"{router} at share {share:g}"
        trial = Plan(f"{name}, first threshold", "trial", router, Way(router, rough[share]), share)
        written = rounds.run(prompts, trial, samples=half).written
        own = while_writing(written)
        threshold = threshold_for(router, share, own.doubt, own.content)
        plans.append(Plan(name, "router", router, Way(router, threshold), share))
    return plans


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


def with_presets(
    config: RouterConfig,
    default: Plan,
    plans: Sequence[Plan],
    chosen: Mapping[str, float],
    preset: str,
) -> RouterConfig:
    """`config` with the presets at the shares `chosen` of `plans`, and the default set."""
    by_share = {plan.target: plan.way.threshold for plan in plans}
    named = {}
    for name, share in chosen.items():
        if (threshold := by_share[share]) is not None:
            named[name] = Preset(share, threshold)
    return replace(
        config,
        threshold=default.way.threshold,
        share=default.target,
        presets=named,
        preset=preset if named else None,
    )
