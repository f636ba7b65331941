"""A calibration that was killed goes on, and ends as if it had never stopped."""

import json

import pytest

from route.calibrate import Controls, aligned_alone, calibrate, uncalibrated
from route.config import PromptFormat
from route.formats import base_alone
from route.rounds import Rounds, Ruler, Store
from route.rules import Router
from route.sampling import Pair
from route.semantic import HiddenStates

PROMPTS = ["the fox", "a river", "the barn", "a fox ran", "and hid", "in the barn"]


class Killed(Exception):
    pass


class Disk:
    """Rounds as JSON text, as a folder would hold them; "killed" when `room` is used up."""

    def __init__(self, room=1000):
        self.files, self.room, self.fresh = {}, room, []

    def store(self):
        def known(name):
            return json.loads(self.files[name]) if name in self.files else None

        def keep(name, record):
            if len(self.fresh) == self.room:
                raise Killed
            self.files[name] = json.dumps(record)
            self.fresh.append(name)

        return Store(known, keep)


@pytest.fixture
def go(base, aligned, tokenizer):
    def run(disk, progress=None, **changes):
        disk.fresh = []
        settings = {
            "held_out": PROMPTS[3:],
            "router": Router.P_PUNC,
            "shares": (0.15, 0.4),
            "prompt_format": (PromptFormat.SAME, PromptFormat.PLAIN),
            "controls": Controls((1.0,), ()),
            "samples_per_prompt": 2,
            "max_new_tokens": 8,
            **changes,
        }
        prompts, store = settings.pop("prompts", PROMPTS[:3]), disk.store()
        return calibrate(
            base, aligned, tokenizer, prompts, **settings, store=store, progress=progress
        )

    return run


@pytest.mark.parametrize("room", [0, 1, 4, 9])
def test_nothing_is_written_twice_and_the_end_is_the_same(go, room):
    whole = Disk()
    expected = go(whole)
    killed = Disk(room)
    with pytest.raises(Killed):
        go(killed)
    assert len(killed.files) == room
    killed.room = 1000
    told = []
    assert go(killed, progress=lambda *step: told.append(step)) == expected
    assert killed.files == whole.files
    assert len(killed.fresh) == len(whole.files) - room
    done, totals, _ = zip(*told, strict=True)
    assert list(done) == list(range(1, totals[0] + 1))


def test_what_changes_the_result_changes_the_name(go):
    disk = Disk()
    go(disk)
    known = len(disk.files)
    go(disk)
    assert disk.fresh == []
    for change in (
        {"seed": 1},
        {"max_new_tokens": 9},
        {"samples_per_prompt": 3},
        {"ruler": Ruler(lambda prompts, texts: [[0.0] * len(t) for t in texts], "zero")},
        {"held_out": PROMPTS[4:]},
    ):
        go(disk, **change)
        assert disk.fresh, change
    assert len(disk.files) > known


@pytest.fixture
def forwards(base, aligned):
    """How many forwards either model has made."""
    counts = {"base": 0, "aligned": 0}

    def counting(side):
        def count(*_):
            counts[side] += 1

        return count

    hooks = [
        model.register_forward_hook(counting(side))
        for side, model in {"base": base, "aligned": aligned}.items()
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def test_rounds_of_other_calibration_prompts_are_measured_by_the_new_yardstick(go, forwards):
    """Held-out controls are shared by both calibrations; what measures them is not."""
    alone = {"held_out": PROMPTS[4:], "controls": Controls((1.0, 1.3), (2.0,))}
    alone["prompt_format"] = PromptFormat.SAME
    shared = Disk()
    before = go(shared, prompts=PROMPTS[:2], **alone)
    known = {name: json.loads(text)["written"] for name, text in shared.files.items()}
    forwards.update(base=0, aligned=0)
    expected, fresh = go(Disk(), prompts=PROMPTS[2:4], **alone), dict(forwards)
    forwards.update(base=0, aligned=0)
    assert expected.calibration.words != before.calibration.words
    assert go(shared, prompts=PROMPTS[2:4], **alone) == expected
    assert forwards["base"] < fresh["base"] and forwards["aligned"] < fresh["aligned"]
    assert {name: json.loads(shared.files[name])["written"] for name in known} == known
    again = [name for name in shared.fresh if name in known]
    assert len(again) == 4  # the aligned model, hot and with min-p too, and the base


def test_another_ruler_measures_the_same_texts(base, aligned, tokenizer, forwards):
    def run(disk, ruler):
        config = uncalibrated(base, aligned, tokenizer, Router.P)
        pair = Pair(base, aligned, tokenizer, config, samples=2, max_new_tokens=8, seed=0)
        rounds = Rounds(pair, ruler, disk.store(), None, 2)
        rounds.run(PROMPTS, aligned_alone())
        return rounds.run(PROMPTS, base_alone())

    def zero(prompts, texts):
        return [[0.0] * len(group) for group in texts]

    disk = Disk()
    by_likelihood = run(disk, Ruler())
    written = forwards["base"]
    by_zero = run(disk, Ruler(zero, "zero"))
    assert forwards["base"] == written
    assert by_zero.written.texts == by_likelihood.written.texts
    assert by_zero.values["quality"].tolist() == [0.0] * len(PROMPTS)
    assert by_likelihood.values["quality"].max() < 0


def test_only_new_settings_are_measured(go):
    disk = Disk()
    go(disk)
    go(disk, controls=Controls((1.0, 1.3), (2.0,)))
    assert len(disk.fresh) == 2
    go(disk, shares=(0.15, 0.4, 0.25))
    assert len(disk.fresh) == 5  # first threshold, the curve, held-out, and two random controls


@pytest.mark.parametrize("wreck", [{}, {"written": {}}, {"written": {"ids": 3}, "values": {}}])
def test_a_record_that_cannot_be_read_is_measured_again(go, wreck):
    disk = Disk()
    expected = go(disk)
    names = list(disk.files)
    disk.files[names[0]] = disk.files[names[-1]] = json.dumps(wreck)
    assert go(disk) == expected
    assert disk.fresh == [names[0], names[-1]]


def test_the_first_round_sets_the_yardstick(base, aligned, tokenizer):
    config = uncalibrated(base, aligned, tokenizer, Router.P)
    pair = Pair(base, aligned, tokenizer, config, samples=2, max_new_tokens=8, seed=0)
    rounds = Rounds(pair, Ruler(), Store(), None, 1)
    with pytest.raises(ValueError, match="nothing was written"):
        _ = rounds.yardstick
    first = rounds.run(PROMPTS, aligned_alone())
    lengths = [len(text.split()) for texts in first.written.texts for text in texts]
    assert rounds.yardstick.words == max(1, round(sum(lengths) / len(lengths)))
    assert isinstance(rounds.yardstick.encoder, HiddenStates)
    set_once = rounds.yardstick
    rounds.run(PROMPTS, aligned_alone(1.3))
    assert rounds.yardstick is set_once
