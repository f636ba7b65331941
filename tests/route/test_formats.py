"""The choice of what the base reads."""

import numpy as np

from route.calibrate import Controls, calibrate
from route.config import PromptFormat
from route.formats import RULE, choose, different
from route.measured import Measured
from route.rounds import Ruler
from route.rules import Router
from route.yardstick import QUALITY

SAME, PLAIN, QA, CHAT = (PromptFormat(name) for name in ("same", "plain", "qa", "chat"))


def measured(quality):
    return Measured(None, None, {QUALITY: np.full(4, quality)})


def test_the_best_quality_wins_and_of_equals_the_first():
    assert choose({SAME: measured(0.3), PLAIN: measured(0.72), QA: measured(0.5)}) is PLAIN
    assert choose({SAME: measured(0.3), QA: measured(0.5), PLAIN: measured(0.5)}) is QA


def test_formats_that_read_the_same_are_tried_once(tokenizer):
    formats = [SAME, CHAT, PLAIN, PLAIN]
    assert different(tokenizer, ["a fox"], formats) == [SAME, PLAIN]
    assert different(tokenizer, ["a fox"], [CHAT, SAME]) == [CHAT]


def test_a_calibration_goes_on_with_the_format_it_chose(base, aligned, tokenizer):
    prompts = ["the fox", "a river", "the barn", "a fox ran"]

    def scorer(asked, texts):
        return [[float(len(text)) for text in group] for group in texts]

    config = calibrate(
        *(base, aligned, tokenizer, prompts[:2]),
        held_out=prompts[2:],
        router=Router.P,
        shares=(0.2,),
        prompt_format=(SAME, PLAIN, QA),
        controls=Controls((1.0,), ()),
        samples_per_prompt=2,
        max_new_tokens=6,
        ruler=Ruler(scorer, "characters"),
    )
    tried = config.calibration.formats
    assert [one.prompt_format for one in tried] == ["same", "plain", "qa"]
    assert config.prompt_format in (SAME, PLAIN, QA)
    assert config.calibration.format_rule == RULE
    curve_base = next(one for one in config.calibration.curve if one.kind == "base")
    chosen = next(one for one in tried if one.prompt_format == config.prompt_format)
    assert (curve_base.quality, curve_base.diversity) == (chosen.quality, chosen.diversity)


def test_without_a_choice_there_is_no_rule(base, aligned, tokenizer):
    config = calibrate(
        *(base, aligned, tokenizer, ["the fox"]),
        held_out=["a river"],
        router=Router.PUNC,
        prompt_format=QA,
        controls=Controls((1.0,), ()),
        samples_per_prompt=2,
        max_new_tokens=4,
    )
    assert (config.prompt_format, config.calibration.format_rule) == (QA, None)
    assert len(config.calibration.formats) == 1
