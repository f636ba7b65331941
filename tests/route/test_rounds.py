"""A calibration that was killed goes on, and ends as if it had never stopped."""

import json

import pytest

from route.calibrate import Controls, aligned_alone, calibrate, uncalibrated
from route.config import PromptFormat
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
        store = disk.store()
        return calibrate(
            base, aligned, tokenizer, PROMPTS[:3], **settings, store=store, progress=progress
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
