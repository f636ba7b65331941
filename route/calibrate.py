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
from .figures import Calibration
from .generate import Execution
from .measured import Measured, Plan
from .pins import complete
from .plans import aligned_alone, random_plans, routed_plans
from .report import report
from .rounds import Progress, Rounds, Store
from .rules import Router
from .sampling import Pair
from .side import can_forget
from .signals import Signal, observe
from .study import Controls as Controls  # for callers
from .study import Study
from .thresholds import reachable
from .vocab import id_to_token, prove_identical, read_vocabulary, token_digest

COST_PROMPTS = 2
"""Prompts that block execution is timed on, in forwards."""

_STUDY, _STORE = Study(), Store()


def calibrate(
    base: Any,
    aligned: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    held_out: Sequence[str],
    base_pin: Pin | None = None,
    aligned_pin: Pin | None = None,
    base_tokenizer: Any = None,
    store: Store = _STORE,
    progress: Progress | None = None,
    study: Study = _STUDY,
    **changes: Any,
) -> RouterConfig:
    """The calibrated router with its figures. Same arguments, same router.

    `study`: what is measured; `changes` are to its fields. Pins default to what the models
    themselves tell; a `base_tokenizer`, if given, is proven to be the same. `store`: rounds
    measured before, and where new ones go.
    Raises ShareOutOfReach, VocabularyMismatch, and ValueError for an unknown preset and for prompts
    that are in both sets.
    """
    study = replace(study, **changes)
    if set(prompts) & set(held_out) or not prompts or not held_out:
        raise ValueError("calibration and held-out prompts must be given and share none")
    pins = (base_pin, aligned_pin, base_tokenizer)
    config = uncalibrated(base, aligned, tokenizer, study.router, *pins)
    pair = pair_of(study, base, aligned, tokenizer, config)
    allowed = formats.different(tokenizer, prompts, study.formats)
    rounds = Rounds(pair, study.ruler, store, progress, count_rounds(pair, study, len(allowed)))
    tuned = tune(rounds, prompts, allowed, study)
    figures = examine(rounds, held_out, tuned, study)
    calibration = tell(rounds, held_out, tuned, figures, study)
    return with_presets(replace(rounds.pair.config, calibration=calibration), tuned, study.preset)


def pair_of(study: Study, base: Any, aligned: Any, tokenizer: Any, config: RouterConfig) -> Pair:
    """The pair as the study lets it write."""
    rules = replace(config, aligned_prefix=study.aligned_prefix, content_reads=study.content_reads)
    return Pair(
        base=base,
        aligned=aligned,
        tokenizer=tokenizer,
        config=rules,
        samples=study.samples_per_prompt,
        max_new_tokens=study.max_new_tokens,
        seed=study.seed,
        batch_rows=study.batch_rows,
        execution=study.execution,
    )


@dataclass(frozen=True)
class Tuned:
    """What the calibration prompts gave."""

    seen: Resampler
    """Of these prompts."""
    tried: Mapping[PromptFormat, Measured]
    """The base alone under each prompt format."""
    signal: Signal
    """The router's, along the aligned model's own texts."""
    plans: Sequence[Plan]
    """The router at each share."""
    curve: Sequence[Measured]
    """The aligned model alone, the base alone, and the plans."""
    chosen: Mapping[str, float]
    """Preset to share; empty where the share is fixed."""

    def default(self, preset: str) -> Plan:
        """The plan of `preset`, or the only one there is."""
        return next(plan for plan in self.plans if plan.target == self.chosen.get(preset))


def tune(
    rounds: Rounds, prompts: Sequence[str], allowed: Sequence[PromptFormat], study: Study
) -> Tuned:
    """Steps 1 to 3; gives the pair of `rounds` the prompt format that was chosen."""
    seen = Resampler(len(prompts), study.seed)
    # 1. What texts are measured by, and what the base reads.
    first = rounds.run(prompts, aligned_alone())
    tried = formats.study(rounds, prompts, allowed)
    form = formats.choose(tried)
    rounds.pair = replace(rounds.pair, config=replace(rounds.pair.config, prompt_format=form))

    # 2. and 3. Thresholds, the curve, and presets on it.
    signal = observe(rounds.pair, study.router, prompts, first.written)
    plans = routed_plans(rounds, prompts, study.targets, signal)
    curve = [first, tried[form], *(rounds.run(prompts, plan) for plan in plans)]
    chosen = presets.choose(curve, seen) if study.targets else {}
    return Tuned(seen, tried, signal, plans, curve, chosen)


def examine(rounds: Rounds, held_out: Sequence[str], tuned: Tuned, study: Study) -> list[Measured]:
    """Step 4: what the figures are made from, on prompts that nothing before has seen."""
    routed = [one for one in tuned.curve if one.kind == "router"]
    random = [plan for one in routed for plan in random_plans(one, study.rivals)]
    plans = [*study.controls.plans(), formats.base_alone(), *tuned.plans, *random]
    return [rounds.run(held_out, plan) for plan in plans]


def tell(
    rounds: Rounds,
    held_out: Sequence[str],
    tuned: Tuned,
    figures: Sequence[Measured],
    study: Study,
) -> Calibration:
    """The figures as they are published, and what blocks cost at the default."""
    seen, unseen = tuned.seen, Resampler(len(held_out), study.seed + 1)
    default, chosen = tuned.default(study.preset), tuned.chosen
    return replace(
        report(rounds, tuned.curve, figures, chosen, seen, unseen, default.target, study.bounds),
        reach=round(reachable(tuned.signal.content), 6),
        forwards_in_blocks=forwards_in_blocks(rounds, held_out, default),
        formats=formats.trials(tuned.tried, seen),
        format_rule=formats.RULE if len(tuned.tried) > 1 else None,
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


def count_rounds(pair: Pair, study: Study, allowed: int) -> int:
    """How many rounds of writing it takes with so many prompt formats."""
    shares = len(study.targets)
    settings = max(1, shares)
    figures = len(study.controls.plans()) + 1 + settings * (1 + len(study.rivals))
    return 1 + allowed + shares + settings + figures + has_blocks(pair)


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


def with_presets(config: RouterConfig, tuned: Tuned, preset: str) -> RouterConfig:
    """`config` with the presets at the shares that were chosen, and the default set."""
    by_share = {plan.target: plan.way.threshold for plan in tuned.plans}
    named = {}
    for name, share in tuned.chosen.items():
        if (threshold := by_share[share]) is not None:
            named[name] = Preset(share, threshold)
    default = tuned.default(preset)
    return replace(
        config,
        threshold=default.way.threshold,
        share=default.target,
        presets=named,
        preset=preset if named else None,
    )
