"""A world of toys: a Hub that is a dict, handlers of a few lines, a clock that is set by hand.

What is real is what is under test: the loop, the plan and the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from bot.config import Settings
from bot.loop import LEASE, Loop
from bot.sections import BaseSection
from bot.steps import Step
from bot.suites import Category, Item, Kind, Suite
from bot.world import Base, Benchmark, Handler, World
from db import outcomes as o
from db.lease import Lease
from db.reader import Reader
from db.store import Store

SHA = "a" * 40
VERBS = [
    "watch",
    "admit",
    "evaluate",
    "select",
    "search",
    "build",
    "judge",
    "calibrate",
    "draft",
    "publish",
]
CATEGORIES = ("add", "sort", "spell")
WEIGHTS = ("1 0", "0 1", "1/2 1/2", "7/10 3/10")
SUITE = Suite(
    "toy",
    "1",
    "mit",
    "",
    tuple(
        Category(c, Kind.EXACT, tuple(Item(f"{c}-{n}", f"{c}-{n}", "?", "!") for n in range(20)))
        for c in CATEGORIES
    ),
)
FILES = {"model.safetensors": {"sha256": "0" * 64, "size": 10}}


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Toys:
    """The outside: what lies on the Hub, and what was published there."""

    repos: dict[str, str] = field(default_factory=dict)  # name -> sha
    published: list[tuple[str, str]] = field(default_factory=list)  # target, digest; in order
    disturb: Callable[[Step], None] = lambda step: None  # called between any two outcomes

    def handlers(self) -> Mapping[str, Handler]:
        return {name: self._disturbed(getattr(self, f"_{name}")) for name in VERBS}

    def _disturbed(self, handler: Handler) -> Handler:
        def run(step: Step, world: World) -> Iterator[o.Outcome]:
            self.disturb(step)
            for outcome in handler(step, world):
                yield outcome
                self.disturb(step)

        return run

    def _watch(self, step: Step, world: World) -> Iterator[o.Outcome]:
        for name, sha in self.repos.items():
            author = name.partition("/")[0]
            yield o.Sighted(step.base_id, name, sha, author, world.now(), world.now())
        yield o.Watched(step.base_id, SHA, None, swept=True)

    def _admit(self, step: Step, world: World) -> Iterator[o.Outcome]:
        candidate = world.reader.candidate(step.subject)
        if "bad" in candidate.repo:
            yield o.Rejected(candidate.id, "no-safetensors", "only pickles")
        elif "gone" in candidate.repo:
            yield o.Withdrawn(candidate.id, "not found")
        else:
            yield o.Admitted(candidate.id, "mit", 10, candidate.repo, True, ())

    def _evaluate(self, step: Step, world: World) -> Iterator[o.Outcome]:
        candidate = world.reader.candidate(step.subject)
        yield o.Spent(step.base_id, step.verb, seconds=1.0)
        if "poison" in candidate.repo:
            yield o.Rejected(candidate.id, "non-finite", "NaN")
            return
        yield o.Examined(candidate.id, candidate.repo, (1.0,), {})
        known = world.reader.scores(step.base_id, "select", candidates=[candidate.id])
        for category in CATEGORIES:
            if category not in {row.category for row in known}:
                yield scored(step, category, candidate.repo, candidate_id=candidate.id)

    def _select(self, step: Step, world: World) -> Iterator[o.Outcome]:
        found = world.reader.facts(step.base_id, step.base_id, len(CATEGORIES), world.now())
        pool = [c.id for c in world.reader.candidates(found.scored) if c.role == "finetune"]
        rows = world.reader.scores(step.base_id, "select", candidates=pool)
        experts = {
            category: max((r for r in rows if r.category == category), key=rank).candidate_id
            for category in CATEGORIES
        }
        members = tuple(sorted(set(experts.values())))
        yield o.Selected(step.base_id, step.base_id, "toy", found.scored, experts, members, {})

    def _search(self, step: Step, world: World) -> Iterator[o.Outcome]:
        selection = world.reader.selection(step.subject)
        ids = (step.base_id, selection.id, step.base_id)
        yield o.SearchOpened(*ids, "toy", selection.members)
        search = world.reader.search_of(selection.id)
        told = {trial.weights for trial in world.reader.trials(search.id)}
        for weights in WEIGHTS:
            if weights not in told:
                yield o.Tried(search.id, weights, {c: bits(weights, c) for c in CATEGORIES})
        repos = [c.repo for c in world.reader.candidates(selection.members)]
        digest = hashlib.sha256(" ".join(repos).encode()).hexdigest()
        members = tuple((i, 1, len(repos)) for i in selection.members)
        yield o.SoupPlanned(step.base_id, search.id, step.base_id, digest, "{}", members)
        yield o.Searched(search.id, {"trials": len(WEIGHTS), "weights": WEIGHTS[-1]})

    def _build(self, step: Step, world: World) -> Iterator[o.Outcome]:
        yield o.SoupBuilt(step.subject, FILES)

    def _judge(self, step: Step, world: World) -> Iterator[o.Outcome]:
        if world.reader.look_of(step.subject, "splits") is None:
            k = world.reader.looks_taken(step.base_id, step.base_id) + 1
            yield o.LookTaken(step.base_id, step.subject, "splits", k, 0.05 / k)
        for category in CATEGORIES:
            yield scored(step, category, "soup", split="report", soup_id=step.subject)
        yield o.Judged(step.subject, True, {"reasons": []}, "passed")

    def _calibrate(self, step: Step, world: World) -> Iterator[o.Outcome]:
        pair = step.key.partition(":")[2]
        yield o.Calibrated(step.base_id, pair, "b", "a", f"config of {pair}", "{}")

    def _draft(self, step: Step, world: World) -> Iterator[o.Outcome]:
        section = world.bases[step.base].section
        soup = step.key.split(":")[1] == "soup"
        target = f"{section.target}{'' if soup else '-router'}"
        row: Any = (world.reader.soup if soup else world.reader.router)(step.subject)
        digest = row.recipe_digest if soup else row.config_digest
        version = len(world.reader.publications(target)) + 1
        subject = {"soup_id": row.id} if soup else {"router_id": row.id}
        kind = "soup" if soup else "router"
        args = (step.base_id, kind, target, digest, version, "/d", FILES, "approved")
        yield o.Drafted(*args, **subject)

    def _publish(self, step: Step, world: World) -> Iterator[o.Outcome]:
        row = world.reader.publication(step.subject)
        this = (row.target, row.digest)
        if this not in self.published:  # look before you act
            yield o.Moved(row.id, "unknown", parent=SHA)
            world.fence()
            self.published.append(this)
            self.disturb(step)  # sent, and nothing heard
        yield o.Moved(row.id, "committed", commit_sha=SHA, tag=f"v{row.version}")
        yield o.Moved(row.id, "verified")


def bits(*what: str) -> str:
    """Twenty outcomes that are the same whenever they are asked for."""
    return f"{int(hashlib.sha256(repr(what).encode()).hexdigest()[:5], 16):020b}"


def rank(row: Any) -> tuple[float, int]:
    return row.value, -row.candidate_id


def scored(step: Step, category: str, name: str, *, split: str = "select", **subject) -> o.Scored:
    found = bits(name, category, split)
    value = found.count("1") / len(found)
    return o.Scored(step.base_id, split, category, value, len(found), 0.1, found, **subject)


@dataclass
class Stage:
    """Everything that a coordinator needs; `loop` makes a new one, as a new process would."""

    engine: Engine
    clock: Clock = field(default_factory=Clock)
    toys: Toys = field(default_factory=Toys)
    handlers: dict[str, Handler] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ("org/base",)
    pair: str | None = None
    make_store: Callable[..., Store] = Store

    def __post_init__(self) -> None:
        self.store = self.make_store(self.engine)
        self.handlers = {**self.toys.handlers(), **self.handlers}
        self.reader = Reader(self.store.engine)

    def lease(self) -> Lease:
        lease = self.store.take_lease("toy", self.clock(), LEASE, lambda holder: True)
        assert lease is not None
        return lease

    def loop(self, *, limit: int = 3) -> Loop:
        lease = self.lease()
        self.store.settle_interrupted(lease, self.clock(), limit)
        sections = tuple(
            BaseSection(repo=repo, sha=SHA, target=f"us/{repo.partition('/')[2]}-soup")
            for repo in self.bases
        )
        world = World(
            settings=Settings(bases=sections, **self.settings),
            reader=self.reader,
            hub=None,
            executor=None,
            bases={section.repo: self._register(section) for section in sections},
            fence=lambda: self.store.check_lease(lease),
            now=self.clock,
        )
        return Loop(self.store, lease, world, self.handlers, lambda world, base: self.pair)

    def _register(self, section: BaseSection) -> Base:
        splits = SUITE.splits(0)
        items = {c: {"select": 20} for c in CATEGORIES}
        key = self.store.register_benchmark(
            name="toy",
            digest=section.repo,  # one for each base, so that both have the same row id
            splits_digest="splits",
            seed=0,
            shares=(0.4, 0.3, 0.3),
            items=items,
            now=self.clock(),
        )
        base = self.store.register_base(section.repo, section.sha, self.clock())
        assert base == key
        return Base(base, section, Benchmark(key, SUITE, splits, "toy"))

    def ask(self, verb: str, **more: Any) -> int:
        given = {"base": None, "model": None, "force": False, **more}
        return self.store.ask(verb, now=self.clock(), **given)


def next_due(loop: Loop, now: datetime) -> datetime | None:
    """When the next step may run; a listing counts only while it fails."""
    views = [loop.view(base, now) for base in loop.world.bases.values()]
    steps = [(step, step.key in view.facts.attempts) for view in views for step in view.steps]
    return min((s.due for s, failed in steps if failed or s.verb != "watch"), default=None)


def play(stage: Stage, loop: Loop) -> None:
    """Run, and let time pass to where something is due, until nothing is left but listings."""
    for _ in range(500):
        loop.run_until_quiet()
        due = next_due(loop, stage.clock())
        if due is None:
            return
        stage.clock.now = max(due, stage.clock.now)
    raise AssertionError("it never comes to rest")
