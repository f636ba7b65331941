"""Facts by hand: a base that was watched just now and where nothing is left to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bot.config import Settings
from bot.plan import plan
from bot.sections import BaseSection
from bot.steps import Context, Step
from db.facts import Attempt, BaseFacts, Candidate, Publication, Request, Search, Selection, Soup

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BASE = "org/base"
QUIET = BaseFacts(
    id=1,
    repo=BASE,
    sha="a" * 40,
    watched_at=NOW,
    open=(),
    scored=(1, 2, 3),
    base_scored=True,
    first_unselected_at=None,
    last_scored_at=NOW - DAY,
    selection=Selection(1, (1, 2, 3), (2, 3), NOW - DAY),
    search=Search(1, 1, "done", (2, 3)),
    soup=Soup(1, 1, "failed", "r1"),
    passed=None,
    soup_drafted=False,
    router=None,
    router_drafted=False,
    publications=(),
    published_today=0,
    spent_seconds=0.0,
    spent_bytes=0,
    attempts={},
)


def facts(**more: Any) -> BaseFacts:
    return BaseFacts(**{**vars(QUIET), **more})


def context(
    *requests: Request,
    paused: tuple[str, ...] = (),
    now: datetime = NOW,
    pair: str | None = None,
    **settings: Any,
) -> Context:
    """`settings` may be fields of the bot or of the base's section."""
    mine = {name: settings.pop(name) for name in list(settings) if name in BaseSection.model_fields}
    section = BaseSection(repo=BASE, sha="a" * 40, target="us/soup", **mine)
    made = Settings(bases=(section,), **settings)
    return Context(made, section, pair, requests, frozenset(paused), now)


def candidate(key: int, state: str = "admitted", **more: Any) -> Candidate:
    fields = {
        "repo": f"author{key % 3}/model{key}",
        "sha": "b" * 40,
        "role": "finetune",
        "author": f"author{key % 3}",
        "created_at": NOW - key * HOUR,
        "likes": 0,
        "downloads": 0,
        "seen_at": NOW - HOUR,
    }
    return Candidate(id=key, state=state, **{**fields, **more})


def request(verb: str, *, model: str | None = None, force: bool = False, at=NOW) -> Request:
    return Request(1, verb, BASE, model, force, at)


def attempt(state: str = "waiting", failures: int = 1, not_before=None) -> Attempt:
    return Attempt(state, failures, not_before)


def publication(version: int, state: str, target: str = "us/soup") -> Publication:
    return Publication(version, "soup", target, version, state)


def due(found: list[Step], now: datetime = NOW) -> list[str]:
    """Keys of the steps that may run now, in order of precedence."""
    return [step.key for step in found if step.due <= now]


def verbs(found: list[Step], now: datetime = NOW) -> list[str]:
    return [key.partition(":")[0] for key in due(found, now)]


def when(found: list[Step], verb: str) -> datetime:
    (step,) = [step for step in found if step.verb == verb]
    return step.due


def planned(made: BaseFacts, *requests: Request, **settings: Any) -> list[Step]:
    return plan(made, context(*requests, **settings))
