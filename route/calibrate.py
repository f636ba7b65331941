"""A router for a pair: thresholds by share, presets by a stated rule, figures from new prompts.

1. The aligned model writes; the router's signal at every position where it is asked gives a first
   threshold per share. Routed text differs, so the pair writes once with each and the thresholds
   are taken again from that.
2. Each setting writes on the calibration prompts, beside the aligned and the base model alone.
   Presets are chosen there.
3. On held-out prompts, which took no part so far, everything is measured with its controls: the
   aligned model alone at several temperatures, and random routing at the same base share, without
   and (at the presets) with the same content rule. These are the figures to quote.

All of it is ours; the paper gives neither a way to choose thresholds nor presets.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from . import measured, presets
from .bootstrap import Resampler
from .config import Pin, Preset, PromptFormat, RouterConfig, VocabularyPin
from .figures import Calibration
from .measured import Measured, Plan
from .pins import complete
from .rules import Router, Threshold
from .sampling import Pair, Scorer, Texts, Way, write
from .thresholds import reachable, threshold_for
from .vocab import id_to_token, prove_identical, read_vocabulary, token_digest

#: (rounds done, rounds in all, what was done)
Progress = Callable[[int, int, str], None]

LIKELIHOOD = "mean log-probability per token under the aligned model, nats"


def calibrate(
    base: Any,
    aligned: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    held_out: Sequence[str],
    router: Router = Router.P_PUNC,
    shares: Sequence[float] = (0.1, 0.2, 0.35),
    prompt_format: PromptFormat = PromptFormat.SAME,
    seed: int = 0,
    samples_per_prompt: int = 4,
    max_new_tokens: int = 64,
    temperatures: Sequence[float] = (1.0, 1.3),
    quality: Scorer | None = None,
    quality_name: str | None = None,
    base_pin: Pin | None = None,
    aligned_pin: Pin | None = None,
    base_tokenizer: Any = None,
    batch_rows: int = 128,
    progress: Progress | None = None,
) -> RouterConfig:
    """The calibrated router with its figures. Same arguments, same router.

    `shares`: base shares over the positions where the router is asked; ignored by -PUNC and -FC,
    whose share is fixed. `quality`: scores [P][N] for prompts and texts, larger is better; without
    it the aligned model's log-likelihood. Pins default to what the models themselves tell.
    Raises ShareOutOfReach, VocabularyMismatch, and ValueError for prompts that are in both sets.
    """
    if set(prompts) & set(held_out) or not prompts or not held_out:
        raise ValueError("calibration and held-out prompts must be given and share none")
    pair = Pair(
        base=base,
        aligned=aligned,
        tokenizer=tokenizer,
        config=replace(
            uncalibrated(base, aligned, tokenizer, router, base_pin, aligned_pin, base_tokenizer),
            prompt_format=prompt_format,
        ),
        samples=samples_per_prompt,
        max_new_tokens=max_new_tokens,
        seed=seed,
        quality=quality,
        batch_rows=batch_rows,
    )
    shares = sorted(set(shares)) if router.doubt is not None else []
    rounds = Rounds(pair, progress, count_rounds(router, len(shares), len(temperatures)))

    first = rounds.run(prompts, alone("aligned", router=router))
    plans = routed_plans(rounds, prompts, shares, first.texts)
    curve = [first, *(rounds.run(prompts, plan) for plan in [alone("base"), *plans])]
    chosen = presets.choose(curve, Resampler(len(prompts), seed)) if shares else {}

    tested = [alone("aligned", temperature) for temperature in temperatures]
    tested += [alone("base"), *plans]
    for one in curve:
        if one.kind == "router":
            tested += controls(one, one.target in chosen.values() or not shares)
    figures = [rounds.run(held_out, plan) for plan in tested]
    config = _calibrated(pair.config, curve, chosen)
    name = quality_name or (LIKELIHOOD if quality is None else "the given scorer")
    return replace(config, calibration=_report(pair, curve, figures, chosen, name))


class Rounds:
    """Writes and measures plan after plan, telling whoever shows progress."""

    def __init__(self, pair: Pair, progress: Progress | None, total: int) -> None:
        self.pair, self._progress, self._total, self._done = pair, progress, total, 0

    def run(self, prompts: Sequence[str], plan: Plan, samples: int | None = None) -> Measured:
        pair = replace(self.pair, samples=samples or self.pair.samples)
        result = Measured(plan, write(pair, prompts, plan.way))
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done), plan.name)
        return result


def count_rounds(router: Router, shares: int, temperatures: int) -> int:
    """At most this many rounds of writing: fewer where presets coincide."""
    settings = max(1, shares)
    with_content = min(3, settings) if router.control is not Router.RAND else 0
    random = 0 if router is router.control else settings + with_content
    return 1 + shares + 1 + settings + temperatures + 1 + settings + random


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


def alone(side: str, temperature: float = 1.0, router: Router = Router.RAND) -> Plan:
    """One model without the other. `router`: whose signal is noted meanwhile."""
    router = router if router.doubt is not None else Router.RAND
    threshold: Threshold = "never" if side == "aligned" else "always"
    name = f"{side} alone at temperature {temperature:g}"
    return Plan(name, side, Way(router, threshold, temperature))


def routed_plans(
    rounds: Rounds, prompts: Sequence[str], shares: Sequence[float], aligned: Texts
) -> list[Plan]:
    """The router at each share, its threshold estimated on aligned text, then on its own text.

    The second estimate is made from half the samples: it needs positions, not texts.
    """
    router = rounds.pair.config.router
    if router.doubt is None:
        return [Plan(f"{router} (fixed share)", "router", Way(router, None))]
    plans = []
    for share in shares:
        rough = Way(router, threshold_for(router, share, aligned.doubt, aligned.content))
        name = f"{router} at share {share:g}"
        trial = Plan(f"{name}, first threshold", "router", rough, share)
        own = rounds.run(prompts, trial, max(2, rounds.pair.samples // 2)).texts
        threshold = threshold_for(router, share, own.doubt, own.content)
        plans.append(Plan(name, "router", Way(router, threshold), share))
    return plans


def controls(routed: Measured, with_content: bool) -> list[Plan]:
    """Random routing at the share that the router had on the calibration prompts.

    `with_content`: also with the router's own content rule, which is the harder comparison.
    """
    router = routed.plan.way.router
    share = round(float(routed.base_asked.sum() / routed.asked.sum()), 6)
    if router is router.control:
        return []
    plans = [Plan(f"rand at share {share:.3g}", "control", Way(Router.RAND, share), routed.target)]
    if with_content and router.doubt is not None and router.content is not None:
        most = reachable(routed.texts.content)
        way = Way(router.control, min(1.0, round(share / most, 6)) if most else "never")
        name = f"{router.control} at share {share:.3g}"
        plans.append(Plan(name, "control", way, routed.target))
    return plans


def _calibrated(
    config: RouterConfig, curve: Sequence[Measured], chosen: dict[str, float]
) -> RouterConfig:
    """`config` with thresholds and presets."""
    by_share = {one.target: one.plan.way.threshold for one in curve if one.kind == "router"}
    named = {}
    for name, share in chosen.items():
        if (threshold := by_share[share]) is not None:
            named[name] = Preset(share, threshold)
    default = chosen.get(presets.DEFAULT)
    return replace(
        config,
        threshold=by_share[default],
        share=default,
        presets=named,
        preset=presets.DEFAULT if named else None,
    )


def _report(
    pair: Pair,
    curve: Sequence[Measured],
    figures: Sequence[Measured],
    chosen: dict[str, float],
    quality_name: str,
) -> Calibration:
    prompts, held_out = len(curve[0].texts.texts), len(figures[0].texts.texts)
    seen, unseen = Resampler(prompts, pair.seed), Resampler(held_out, pair.seed + 1)
    default = chosen.get(presets.DEFAULT)
    targets: Sequence[float | None] = sorted(set(chosen.values())) or [None]
    differences = [one for target in targets for one in measured.compare(figures, target, unseen)]
    return Calibration(
        prompts=prompts,
        held_out_prompts=held_out,
        samples_per_prompt=pair.samples,
        max_new_tokens=pair.max_new_tokens,
        seed=pair.seed,
        diversity=measured.DIVERSITY,
        quality=quality_name,
        rule=presets.RULE if chosen else "One setting: the router has no threshold.",
        curve=tuple(measured.setting(one, seen) for one in curve),
        held_out=tuple(measured.setting(one, unseen) for one in figures),
        against_random=tuple(differences),
        beats_random=measured.beats([one for one in differences if one.target == default]),
        notes=presets.notes(curve),
    )
