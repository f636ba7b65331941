"""Select, search and judge on real rows in a real database; models and soups are simulated.

An item is solved where a latent margin is above 0: the mixture of the members' margins, plus what
mixing adds. The executor answers the jobs of `bot.worker` from that, and keeps every question.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bot.config import Settings
from bot.daemon import register
from bot.errors import Gone, Rejected
from bot.plan import plan
from bot.sections import BaseSection
from bot.steps import Context, Step
from bot.suites import items, load_suite
from bot.worker.jobs import Evaluate, Trials
from bot.world import World
from db import outcomes as o
from db.reader import Reader
from db.schema import metadata
from db.store import Store
from merge.splits import Split
from tests.db.story import NOW, TTL

SHA = "0" * 40
CATEGORIES = ("add", "rev", "sort", "nest")
ITEMS = 120


class Disk:
    """A Hub whose files are there already, but for repositories that it lost or closed."""

    def __init__(self) -> None:
        self.lost: dict[str, Gone | Rejected] = {}

    def fetch(self, repo: str, sha: str, files: Any, folder: Path) -> None:
        if repo in self.lost:
            raise self.lost[repo]
        folder.mkdir(parents=True, exist_ok=True)

    def info(self, repo: str, sha: str) -> Any:
        return type("Facts", (), {"files": ()})


def write_suite(folder: Path, items: int = ITEMS) -> Path:
    folder.mkdir()
    categories = [
        {"name": c, "kind": "exact", "items": f"{c}.jsonl", "description": c} for c in CATEGORIES
    ]
    head = {"name": "toy", "version": "1", "licence": "mit", "source": "made here"}
    (folder / "suite.json").write_text(json.dumps({**head, "categories": categories}))
    for c in CATEGORIES:
        lines = [
            json.dumps({"id": f"{c}-{i}", "cluster": f"{c}-{i}", "prompt": f"{i}", "answer": "x"})
            for i in range(items)
        ]
        (folder / f"{c}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Family:
    """The base and n specialists, each good at one category and weak at the others."""

    def __init__(self, n: int, seed: int = 0, *, mixing: float = 0.6, items: int = ITEMS) -> None:
        rng = np.random.default_rng(seed)
        skill = np.where(np.arange(4)[:, None] == np.arange(n) % 4, 1.4, -0.7)  # [C, n]
        difficulty = rng.normal(0, 1, (4, items, 1))
        self.margins = skill[:, None, :] + difficulty + rng.normal(0, 0.6, (4, items, n))
        self.mixing = mixing + rng.normal(0, 0.4, (4, items))
        self.names = [f"org/m{i}" for i in range(n)]

    def solves(self, weights: Mapping[str, float]) -> np.ndarray:
        """[C, items] for a mixture by name; the base solves what its easiest member half does."""
        if not weights:
            return np.asarray(self.margins.min(axis=2) > 0)
        w = np.array([weights.get(name, 0.0) for name in self.names])
        return np.asarray(self.margins @ w + self.mixing * (1 - w @ w) > 0)


class Oven:
    """The executor: what a child would answer, from the family's latent margins."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.asked: list[tuple[str, str, int]] = []  # soup of names, category, item
        self.folders: dict[str, dict[str, float]] = {}  # a soup's folder -> its recipe
        self.lie: dict[str, str] = {}  # category -> what is answered instead

    def start(self, job: Trials | Evaluate) -> Server:
        return Server(self, job)

    def close(self) -> None:
        pass


class Server:
    def __init__(self, oven: Oven, job: Trials | Evaluate) -> None:
        self.oven, self.job = oven, job
        loaded = load_suite(job.suite)
        chosen = items(loaded, loaded.splits(job.seed, tuple(job.shares)), Split(job.split))
        self.positions = {
            c: [int(item.id.partition("-")[2]) for item in found] for c, found in chosen.items()
        }

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def receive(self) -> dict[str, Any]:
        return {"ready": True, "items": {c: len(p) for c, p in self.positions.items()}}

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert isinstance(self.job, Trials)
        names = [name_of(folder) for folder in self.job.members]
        weights = {n: float(Fraction(w)) for n, w in zip(names, message["weights"], strict=True)}
        return {"trial": message["trial"], "outcomes": self._bits(weights, message.get("items"))}

    def lines(self) -> Iterator[dict[str, Any]]:
        assert isinstance(self.job, Evaluate)
        folder = self.job.weights
        name = name_of(folder)
        weights = self.oven.folders.get(folder.name, {} if name == "org/base" else {name: 1.0})
        for category, bits in self._bits(weights, None).items():
            if category in (self.job.categories or CATEGORIES):
                yield {"category": category, "outcomes": bits}

    def _bits(self, weights: Mapping[str, float], items: Any) -> dict[str, str]:
        used = {name: w for name, w in weights.items() if w}
        solved = self.oven.family.solves(used)
        answers = {}
        for k, category in enumerate(CATEGORIES):
            places = self.positions[category]
            wanted = range(len(places)) if items is None else items.get(category, ())
            marks = ["-"] * len(places)
            for i in wanted:
                marks[i] = str(int(solved[k, places[i]]))
                soup = " ".join(f"{name}={Fraction(w).limit_denominator()}" for name, w in
                                sorted(used.items()))  # fmt: skip
                self.oven.asked.append((f"{self.job.split}: {soup}", category, places[i]))
            answers[category] = self.oven.lie.get(category, "".join(marks))
        return answers


def name_of(folder: Path) -> str:
    return folder.name.partition("@")[0].replace("--", "/")


class Kitchen:
    """A database with scored candidates, and handlers run as the loop runs them."""

    def __init__(self, store: Store, folder: Path, family: Family, **section: Any) -> None:
        self.store, self.family = store, family
        self.lease = store.take_lease("test", NOW, TTL)
        if not (folder / "suite").exists():
            write_suite(folder / "suite", family.margins.shape[1])
        options = {"repo": "org/base", "sha": SHA, "target": "us/soup", **section}
        options["benchmark"] = str(folder / "suite")
        self.section = BaseSection(**options)
        self.oven = Oven(family)
        self.world = World(
            settings=Settings(data=folder / "data", bases=(self.section,)),
            reader=Reader(store.engine),
            hub=Disk(),
            executor=self.oven,
            bases={"org/base": register(store, self.section)},
            fence=lambda: None,
            now=lambda: NOW,
        )

    @property
    def base(self):
        return self.world.bases["org/base"]

    def keep(self, outcome: o.Outcome) -> None:
        self.store.keep(self.lease, outcome, NOW)

    def score(
        self,
        *names: str,
        places: Mapping[str, tuple[Any, float]] | None = None,
        author: str = "org",
    ) -> None:
        """Sight, admit, examine and score on select items, the base first."""
        base = self.base
        splits, suite = base.benchmark.splits, base.benchmark.suite
        for number, name in enumerate(names, 2):
            if name != "org/base":
                self.keep(o.Sighted(base.id, name, SHA, author, NOW, NOW))
            row = next(c for c in self.candidates() if c.repo == name)
            self.keep(o.Admitted(row.id, "mit", 10, f"weights-{name}", True, ()))
            sketch, norm = (places or {}).get(name, (np.eye(128)[number], 0.1))
            health = {"delta_norm": norm}
            self.keep(o.Examined(row.id, f"{abs(hash(name)):064x}"[:64], tuple(sketch), health))
            solved = self.family.solves({} if name == "org/base" else {name: 1.0})
            for k, category in enumerate(suite.categories):
                where = splits.positions([i.cluster for i in category.items], Split.SELECT)
                bits = "".join(str(int(v)) for v in solved[k, where])
                value = bits.count("1") / len(bits)
                self.keep(o.Scored(base.benchmark.id, "select", category.name, value, len(bits),
                                   0.1, bits, candidate_id=row.id))  # fmt: skip

    def candidates(self):
        with self.store.engine.connect() as connection:
            rows = connection.execute(metadata.tables["candidates"].select())
            return list(rows)

    def due(self, verb: str) -> list[Step]:
        """What the planner wants of this verb, a day after everything became quiet."""
        base, now = self.base, NOW + timedelta(days=1)
        categories = len(base.benchmark.categories)
        facts = self.world.reader.facts(base.id, base.benchmark.id, categories, now)
        context = Context(self.world.settings, self.section, None, (), frozenset(), now)
        return [step for step in plan(facts, context) if step.verb == verb and step.due <= now]

    def run(self, handler: Any, subject: int | None = None, stop_after: int | None = None) -> list:
        """Every outcome is kept before the handler goes on; a kill after so many."""
        step = Step(handler.__name__, handler.__name__, "org/base", 1, subject, "compute", NOW)
        kept = []
        for outcome in handler(step, self.world):
            self.keep(outcome)
            kept.append(outcome)
            if len(kept) == stop_after:
                break
        return kept
