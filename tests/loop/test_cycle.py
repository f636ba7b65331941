"""A whole tiny cycle, undisturbed and disturbed: it ends with the same facts."""

from __future__ import annotations

import random

import pytest

from bot.errors import Busy, Transient, Unknown
from bot.steps import Step
from db import report
from db.store import Store

from .toy import SHA, Stage, Toys, play

FIRST = {"a/one": SHA, "a/two": SHA, "b/three": SHA, "b/bad": SHA, "c/gone": SHA, "c/poison": SHA}


def facts(stage: Stage) -> dict[str, object]:
    """What must be the same however a cycle was disturbed. Row ids and times are not."""
    engine = stage.store.engine
    with engine.connect() as connection:
        last = connection.exec_driver_sql(
            "SELECT members FROM selections ORDER BY id DESC"
        ).scalar()
        states = connection.exec_driver_sql("SELECT repo, sha, state, reason FROM candidates").all()
    return {
        "candidates": sorted(map(tuple, states), key=str),
        "scores": sorted((s.model, s.category, s.value) for s in report.category_scores(engine)),
        "members": last,
        "published": stage.toys.published[-1:],
        "versions": {
            (line.target, line.state) for line in report.publication_list(engine)[-1:]
        },
        "running": report.status(engine, stage.clock()).running,
    }  # fmt: skip


def calm(stage) -> Stage:
    made = stage(toys=Toys(dict(FIRST)))
    play(made, made.loop())
    return made


def test_a_cycle_ends_with_a_publication_and_then_rests(stage):
    made = calm(stage)
    (line,) = report.publication_list(made.store.engine)
    assert (line.target, line.version, line.state, line.tag) == (
        "us/base-soup",
        1,
        "verified",
        "v1",
    )
    assert len(made.toys.published) == 1
    assert report.status(made.store.engine, made.clock()).troubles == ()
    before = facts(made)
    made.clock.pass_by(days=2)
    play(made, made.loop())
    assert facts(made) == before


def test_the_second_act(stage):
    """A new fine-tune changes the experts: version 2 of the same repository."""
    made = calm(stage)
    loop = made.loop()
    for n in range(12):  # one of them is an expert, whatever the toy scores are
        made.toys.repos[f"new/best{n}"] = SHA
    made.clock.pass_by(hours=1)
    play(made, loop)
    lines = report.publication_list(made.store.engine)
    assert [(line.version, line.state) for line in lines] == [(1, "verified"), (2, "verified")]
    assert len(made.toys.published) == 2


class Killed(BaseException):
    """The process ends here."""


class Mortal(Store):
    """A store whose process may die right before or right after a commit."""

    die: staticmethod = staticmethod(lambda: None)

    def keep(self, *args, **kwargs) -> None:
        self.die()
        super().keep(*args, **kwargs)
        self.die()

    def end_attempt(self, *args, **kwargs) -> None:
        self.die()
        super().end_attempt(*args, **kwargs)


@pytest.mark.parametrize("seed", range(5))
def test_killed_and_disturbed_it_ends_the_same(stage, seed):
    """Threads take turns as they like, so a seed does not fix all that happens."""
    expected = facts(calm(stage))
    rng = random.Random(seed)
    made = stage(toys=Toys(dict(FIRST)), make_store=Mortal)
    made.store.die = lambda: kill(rng)
    made.toys.disturb = lambda step: trouble(rng, step)
    lives = 1
    while True:
        loop = made.loop(limit=1000)
        try:
            play(made, loop)
            break
        except Killed:
            lives += 1
            made.clock.pass_by(seconds=rng.uniform(0, 100))
    assert lives > 1, "nothing was killed"
    assert facts(made) == expected
    digests = [digest for _, digest in made.toys.published]
    assert len(digests) == len(set(digests)), "published twice"


def kill(rng: random.Random) -> None:
    if rng.random() < 0.04:
        raise Killed


def trouble(rng: random.Random, step: Step) -> None:
    faults = [Transient("the Hub is away"), Busy("us/soup"), Unknown("commit", "timeout")]
    if rng.random() < 0.08:
        raise rng.choice(faults)
