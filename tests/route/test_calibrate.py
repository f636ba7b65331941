"""From base share to a router with figures, on the tiny pair."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from route.calibrate import Controls, calibrate
from route.config import PromptFormat, RouterConfig
from route.figures import Bounds
from route.generate import generate
from route.measured import beats
from route.policy import doubts
from route.rounds import Ruler
from route.rules import Policy, Router, Side, cutoff
from route.thresholds import ShareOutOfReach, reachable, threshold_for
from route.yardstick import GROUPS

NAMES = ["fox", "river", "barn", "hid", "ran", "a", "the", "and"]
PROMPTS = [f" {one} {other}" for one in NAMES for other in NAMES]

signals = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=60, unique=True)


@given(signals, st.data())
def test_the_threshold_gives_the_share_at_the_positions_observed(values, data):
    doubt = torch.tensor(values, dtype=torch.double)
    flags = st.lists(st.booleans(), min_size=len(values), max_size=len(values))
    content = torch.tensor(data.draw(flags))
    wanted = data.draw(st.integers(0, int((~content).sum())))
    for router in (Router.P_PUNC, Router.H_PUNC):
        threshold = threshold_for(router, wanted / len(values), doubt, content)
        written = doubts(Policy(router, threshold), doubt) & ~content
        gaps = doubt.sort().values.diff().abs()
        if len(values) < 2 or gaps.min() > 1e-5:  # thresholds are rounded to six digits
            assert int(written.sum()) == wanted


def test_ends_and_random_routing():
    doubt, content = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.tensor([False, False, True, False])
    assert reachable(content) == 0.75
    assert threshold_for(Router.P_PUNC, 0.0, doubt, content) == "never"
    assert threshold_for(Router.P_PUNC, 0.75, doubt, content) == "always"
    assert threshold_for(Router.P_PUNC, 0.5, doubt, content) == pytest.approx(0.6)
    assert threshold_for(Router.H_PUNC, 0.25, doubt, content) == pytest.approx(0.6)
    assert threshold_for(Router.RAND, 0.3, doubt, torch.zeros(4, dtype=torch.bool)) == 0.3
    assert threshold_for(Router.RAND_PUNC, 0.3, doubt, content) == pytest.approx(0.4)
    assert math.isinf(cutoff(Router.P_PUNC, "always"))


def test_a_share_out_of_reach_names_the_range():
    doubt, content = torch.rand(10), torch.tensor([True] * 4 + [False] * 6)
    with pytest.raises(ShareOutOfReach, match=r"base share 0\.7 .* share in \[0, 0\.6\]"):
        threshold_for(Router.P_PUNC, 0.7, doubt, content)
    with pytest.raises(ValueError, match="fixed share"):
        threshold_for(Router.PUNC, 0.5, doubt, content)


@pytest.fixture(scope="module")
def run(base, aligned, tokenizer):
    def go(router, shares=(0.15, 0.4), **changes):
        settings = {
            "held_out": PROMPTS[24:40],
            "router": router,
            "shares": shares,
            "samples_per_prompt": 3,
            "max_new_tokens": 12,
            "prompt_format": PromptFormat.PLAIN,
            "controls": Controls((1.0, 1.3), (2.0,)),
            **changes,
        }
        return calibrate(base, aligned, tokenizer, PROMPTS[:24], **settings)

    return go


@pytest.fixture(scope="module")
def calibrated(run):
    rounds = []
    config = run(Router.P_PUNC, progress=lambda *step: rounds.append(step))
    return config, rounds


def test_it_reaches_the_shares_on_new_prompts(calibrated):
    config, _ = calibrated
    routed = [one for one in config.calibration.held_out if one.kind == "router"]
    assert [one.target for one in routed] == [0.15, 0.4]
    for one in routed:
        assert one.share.value == pytest.approx(one.target, abs=0.1)
    thresholds = [one.threshold for one in routed]
    assert thresholds == sorted(thresholds)


def test_controls_stand_beside_at_matched_share(calibrated):
    figures = calibrated[0].calibration
    kinds = [one.kind for one in figures.held_out]
    assert kinds.count("aligned") == 3
    assert [one.min_p for one in figures.held_out if one.kind == "aligned"] == [None, None, 0.1]
    assert kinds.count("base") == 1
    assert next(one for one in figures.held_out if one.kind == "base").share.value == 1.0
    assert all(one.share.value == 0 for one in figures.held_out if one.kind == "aligned")
    assert {one.control for one in figures.against_random} == {Router.RAND, Router.RAND_PUNC}
    for one in figures.against_random:
        assert one.control_share.value == pytest.approx(one.share.value, abs=0.1)
    assert figures.beats_random in (True, False)


def test_presets_name_measured_shares(calibrated):
    config, _ = calibrated
    assert set(config.presets) == {"safe", "balanced", "wild"}
    assert config.preset == "balanced"
    assert config.threshold == config.presets["balanced"].threshold
    measured = {one.target: one.threshold for one in config.calibration.curve}
    for preset in config.presets.values():
        assert measured[preset.share] == preset.threshold
    assert config.presets["safe"].share <= config.presets["wild"].share


def test_the_default_is_one_of_the_presets(calibrated, run):
    config = run(Router.P_PUNC, preset="wild")
    assert (config.preset, config.threshold) == ("wild", config.presets["wild"].threshold)
    assert config.presets == calibrated[0].presets
    at_default = [d for d in config.calibration.against_random if d.target == config.share]
    assert config.calibration.beats_random is beats(at_default)
    with pytest.raises(ValueError, match="no preset 'mild'; there are safe, balanced, wild"):
        run(Router.P_PUNC, preset="mild")


def test_every_method_is_on_the_plane(calibrated, run):
    figures = calibrated[0].calibration
    settings = {one.method: one.settings for one in figures.indicators}
    assert settings == {
        "aligned": 2, "min-p": 1, "base": 1, "p-punc": 2, "rand": 2, "rand-punc": 2,
    }  # fmt: skip
    assert sum(one.dominance.value for one in figures.indicators) == pytest.approx(1, abs=1e-5)
    assert [gain.control for gain in figures.gains] == ["rand", "rand-punc"]
    measured = {name for names in GROUPS.values() for name in names} | {"quality"}
    assert set(figures.bounds) == measured
    assert measured - {"quality", figures.diversity} <= set(figures.held_out[0].more)
    wide = {name: Bounds(one.low - 1, one.high + 1) for name, one in figures.bounds.items()}
    again = run(Router.P_PUNC, bounds=wide).calibration
    assert again.bounds == wide
    assert again.held_out == figures.held_out
    assert again.indicators != figures.indicators


def test_reach_and_cost_are_told(calibrated, run):
    figures = calibrated[0].calibration
    assert 0.4 < figures.reach < 1
    assert 1 < figures.forwards_in_blocks < 4
    assert run(Router.P, shares=(0.3,)).calibration.reach == 1.0
    with pytest.raises(ShareOutOfReach, match=f"ask for a share in .0, {figures.reach:.3g}.$"):
        run(Router.P_PUNC, shares=(0.15, 0.99))


def test_it_is_a_file_and_it_runs(calibrated, base, aligned, tokenizer, batch):
    config = RouterConfig.from_json(calibrated[0].to_json())
    assert config == calibrated[0]
    ours = {"base_model": base, "tokenizer": tokenizer, "config": config, "prompts": ["a"] * 3}
    assert generate(aligned, **batch, **ours, max_new_tokens=4).shape[0] == 3


def test_progress_counts_up_to_its_total(calibrated):
    _, rounds = calibrated
    done, totals, names = zip(*rounds, strict=True)
    assert list(done) == list(range(1, len(done) + 1))
    assert set(totals) == {len(done)}
    assert "p-punc at share 0.4" in names


def test_the_same_arguments_give_the_same_router(calibrated, run):
    assert run(Router.P_PUNC).digest == calibrated[0].digest
    assert run(Router.P_PUNC, seed=1).digest != calibrated[0].digest


def test_a_router_without_threshold_has_one_fixed_share(run):
    config = run(Router.FC)
    assert (config.threshold, config.presets, config.preset) == (None, {}, None)
    routed = [one for one in config.calibration.held_out if one.kind == "router"]
    assert len(routed) == 1
    assert 0 < routed[0].share.value < 1
    assert [one.control for one in config.calibration.against_random] == [Router.RAND]


def test_random_routing_is_not_compared_with_itself(run):
    assert run(Router.RAND, shares=(0.3,)).calibration.beats_random is None


def test_a_scorer_replaces_the_likelihood(run):
    def length(prompts, texts):
        return [[float(len(text)) for text in group] for group in texts]

    config = run(Router.P, shares=(0.3,), ruler=Ruler(length, "characters"))
    assert config.calibration.quality == "characters"
    assert all(one.quality.value > 0 for one in config.calibration.held_out)


def test_its_other_rules_are_calibrated_with(run):
    options = {"aligned_prefix": 4, "content_reads": Side.ALIGNED}
    config = run(Router.P_PUNC, shares=(0.2,), **options)
    assert {name: getattr(config, name) for name in options} == options
    figures = {one.kind: one for one in config.calibration.held_out}
    assert figures["base"].token_share == 1.0  # the base alone is alone
    assert figures["router"].token_share < 8 / 12
    assert figures["router"].share.value == pytest.approx(0.2, abs=0.1)


def test_prompts_may_not_be_in_both_sets(run):
    with pytest.raises(ValueError, match="share none"):
        run(Router.P, held_out=PROMPTS[20:30])
