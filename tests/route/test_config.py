"""The router as a file: same value, same bytes, and errors that name the place."""

import json

import pytest

from route.config import ConfigError, Preset, PromptFormat, RouterConfig
from route.figures import Calibration, Estimate, Setting
from route.rules import Policy, Router

ESTIMATE = Estimate(0.5, 0.25, 0.75)
SETTING = Setting(
    name="p at share 0.2",
    kind="router",
    temperature=1.0,
    diversity=ESTIMATE,
    quality=ESTIMATE,
    length=ESTIMATE,
    share=ESTIMATE,
    token_share=0.2,
    forwards_per_token=2.0,
    more={"distinct-1": ESTIMATE},
    router=Router.P,
    threshold="never",
)
CALIBRATION = Calibration(
    prompts=2,
    held_out_prompts=2,
    samples_per_prompt=2,
    max_new_tokens=8,
    seed=0,
    diversity="d",
    quality="q",
    rule="r",
    curve=(SETTING,),
    held_out=(SETTING,),
    against_random=(),
    beats_random=None,
)


@pytest.fixture
def config(make_config):
    presets = {"safe": Preset(0.1, "never"), "wild": Preset(0.4, 0.25)}
    return make_config(
        Router.P_PUNC,
        0.25,
        share=0.4,
        presets=presets,
        preset="wild",
        prompt_format=PromptFormat.QA,
        veto=0.01,
        calibration=CALIBRATION,
    )


def test_a_router_survives_its_file(config):
    again = RouterConfig.from_json(config.to_json())
    assert again == config
    assert again.digest == config.digest
    assert RouterConfig.from_json(config.canonical()) == config
    assert json.loads(config.to_json()) == json.loads(config.canonical())


def test_presets_name_policies(config):
    assert config.policy() == Policy(Router.P_PUNC, 0.25, veto=0.01)
    assert config.policy("safe").threshold == "never"
    with pytest.raises(ConfigError, match="no preset 'bold'; this router has: safe, wild"):
        config.policy("bold")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 2}, "schema 2"),
        ({"router": "q"}, r"router: expected one of \['rand'"),
        ({"threshold": "often"}, "threshold: .*'often'"),
        ({"threshold": 7}, r"needs a threshold in \[0, 1\]"),
        ({"colour": "red"}, r"unknown keys \['colour'\]"),
        ({"base": {"sha": "a"}}, r"base: missing keys \['repo'\]"),
        ({"vocabulary": {"size": "9", "digest": "a"}}, "vocabulary.size: expected int, got '9'"),
        ({"presets": {"safe": {"share": 0.1, "threshold": -1}}}, "threshold"),
        ({"presets": [1]}, "presets: expected dict"),
        ({"preset": "safe"}, "the threshold is not the one of preset 'safe'"),
        ({"share": 1.5}, "share 1.5"),
        ({"veto": True}, "veto: expected float, got True"),
    ],
)
def test_errors_name_the_place(config, change, problem):
    value = json.loads(config.to_json()) | change
    with pytest.raises(ConfigError, match=problem):
        RouterConfig.from_json(json.dumps(value))


def test_no_json_at_all():
    with pytest.raises(ConfigError, match="no JSON"):
        RouterConfig.from_json("{")
    with pytest.raises(ConfigError, match="schema None"):
        RouterConfig.from_json("[]")


def test_a_threshold_is_required_exactly_where_the_router_has_one(make_config):
    assert make_config(Router.PUNC).threshold is None
    with pytest.raises(ValueError, match="needs a threshold"):
        make_config(Router.P)
