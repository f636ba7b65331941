"""From the facts of one base to the steps that are due. Pure: no clock, no database, no network.

There is no queue. After any crash the same facts give the same steps, and a step that was done
leaves facts under which it is no longer due. The rules below read in the order of the cycle.

Requests (`bot trigger`) are facts too: they make a verb due now, past intervals, order, budget and
quiet time (with `force`), never past a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.config import BaseSection, Order, Publish, Settings
from db.facts import BaseFacts, Candidate, Request

HUB, COMPUTE, SEND = "hub", "compute", "publish"  # slots: one step at a time runs in each

VERBS = ("watch", "evaluate", "select", "soup", "route", "publish", "cycle")
"""What can be asked for. `cycle` is all of it."""


@dataclass(frozen=True)
class Step:
    """One thing to do. `key` names it by content: the same key is never run twice at once."""

    verb: str
    key: str
    base: str  # repo of the base
    base_id: int
    subject: int | None  # row id of what the verb works on
    slot: str
    due: datetime  # not before


@dataclass(frozen=True)
class Context:
    """What a rule reads besides the facts."""

    settings: Settings
    section: BaseSection
    pair_digest: str | None  # of the router pair as configured now; None without a router section
    requests: tuple[Request, ...]  # open ones that concern this base
    paused: frozenset[str]
    now: datetime

    def asked(self, *verbs: str, model: str | None = None) -> Request | None:
        """The first open request for one of `verbs` (or the whole cycle); with `model`, one that
        names it or names none."""
        for request in self.requests:
            fits = model is None or request.model in (None, model)
            if fits and request.verb in (*verbs, "cycle"):
                return request
        return None

    def forced(self, *verbs: str, model: str | None = None) -> bool:
        request = self.asked(*verbs, model=model)
        return request is not None and request.force


def plan(facts: BaseFacts, context: Context) -> list[Step]:
    """All steps of one base, due now or later, each with its time; the loop takes the due ones."""
    if "all" in context.paused:
        return []
    rules: Sequence[Callable[[BaseFacts, Context], Iterator[Step]]] = (
        _watch,
        _admit,
        _evaluate,
        _select,
        _search,
        _build,
        _judge,
        _draft,
        _calibrate,
        _publish,
    )
    steps = [step for rule in rules for step in rule(facts, context)]
    return [
        _after_failures(step, facts, context) for step in steps if not _is_parked(step.key, facts)
    ]


def scope(verb: str) -> frozenset[str]:
    """The verbs of steps that a request of `verb` waits for."""
    return {
        "watch": frozenset({"watch", "admit"}),
        "evaluate": frozenset({"admit", "evaluate"}),
        "select": frozenset({"select"}),
        "soup": frozenset({"select", "search", "build", "judge", "draft"}),
        "route": frozenset({"calibrate", "draft"}),
        "publish": frozenset({"publish"}),
    }.get(verb, frozenset({"*"}))


# -- candidates --------------------------------------------------------------------------------


def _watch(facts: BaseFacts, context: Context) -> Iterator[Step]:
    due = context.now
    if facts.watched_at is not None:
        due = facts.watched_at + timedelta(seconds=context.settings.poll_seconds)
    request = context.asked("watch") or next((r for r in context.requests if r.model), None)
    if request and (facts.watched_at is None or facts.watched_at < request.created_at):
        due = context.now
    yield _step("watch", facts, None, HUB, due)


def _admit(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Oldest first, so that of two equal uploads the original is known before its copy."""
    for candidate in sorted(facts.open, key=_age):
        if candidate.state == "sighted" and _wanted(candidate, context):
            yield _step("admit", facts, candidate.id, HUB, context.now)


def _age(candidate: Candidate) -> tuple[bool, datetime, int]:
    return candidate.role != "base", candidate.created_at or candidate.seen_at, candidate.id


def _evaluate(facts: BaseFacts, context: Context) -> Iterator[Step]:
    for candidate in in_order(waiting(facts, context), context.section.order):
        due = context.now
        if over_budget(facts, context.section) and not context.forced(
            "evaluate", model=candidate.repo
        ):
            due = context.now + timedelta(hours=1)  # the 24-hour window slides; look again then
        yield _step("evaluate", facts, candidate.id, COMPUTE, due)


def waiting(facts: BaseFacts, context: Context) -> list[Candidate]:
    """Admitted candidates without a full row of scores: the backlog."""
    return [c for c in facts.open if c.state == "admitted" and _wanted(c, context)]


def _wanted(candidate: Candidate, context: Context) -> bool:
    if candidate.role == "base" or any(r.model == candidate.repo for r in context.requests):
        return True
    allowed = not context.section.allow or candidate.author in context.section.allow
    return allowed and candidate.author not in context.section.deny


def over_budget(facts: BaseFacts, section: BaseSection) -> bool:
    return (
        facts.spent_seconds >= section.compute_hours_per_day * 3600
        or facts.spent_bytes >= section.download_gb_per_day * 1e9
    )


def in_order(candidates: Sequence[Candidate], order: Order) -> list[Candidate]:
    """The base first, then by `order`; ties by id, so that the same facts give the same order."""
    keys: dict[Order, Callable[[Candidate], tuple[float, int]]] = {
        Order.NEWEST: lambda c: (-(c.created_at or c.seen_at).timestamp(), c.id),
        Order.LIKES: lambda c: (-c.likes, c.id),
        Order.DOWNLOADS: lambda c: (-c.downloads, c.id),
        Order.AUTHORS: lambda c: (_turn(c, candidates), c.id),
    }
    return sorted(candidates, key=lambda c: (c.role != "base", *keys[order](c)))


def _turn(candidate: Candidate, candidates: Sequence[Candidate]) -> int:
    """How many of the same author stand before it: round robin over authors."""
    return sum(c.author == candidate.author and c.id < candidate.id for c in candidates)


# -- the soup ------------------------------------------------------------------------------------


def _select(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if _score_only(context) or len(facts.scored) < 2:
        return
    request = context.asked("select", "soup")
    seen = facts.selection.inputs if facts.selection else ()
    asked = request is not None and (
        facts.selection is None or facts.selection.created_at < request.created_at
    )
    if facts.scored == seen and not (asked and request and request.force):
        return
    if _search_open(facts):  # one search at a time; what came in meanwhile shares the next
        return
    yield _step("select", facts, None, COMPUTE, context.now if asked else _settled(facts, context))


def _settled(facts: BaseFacts, context: Context) -> datetime:
    """When the wave of new scores has gone quiet, or patience runs out."""
    settings = context.settings
    last = facts.last_scored_at or context.now
    quiet = last + timedelta(seconds=settings.settle_seconds)
    first = facts.first_unselected_at or last
    patience = first + timedelta(seconds=settings.patience_seconds)
    arriving = any(c.state == "sighted" and _wanted(c, context) for c in facts.open)
    backlog = [
        c
        for c in waiting(facts, context)
        if f"evaluate:{c.id}" not in facts.attempts
        or facts.attempts[f"evaluate:{c.id}"].state == "running"
    ]
    if arriving or (backlog and not over_budget(facts, context.section)):
        return max(patience, quiet)
    return quiet


def _search_open(facts: BaseFacts) -> bool:
    """A search, or the soup that it found, is still on its way (a parked step is not)."""
    search, soup = facts.search, facts.soup
    if facts.selection is not None and (needs_search(facts) or (search and search.state == "open")):
        return not _is_parked(f"search:{facts.selection.id}", facts)
    if soup is None or soup.state not in ("planned", "built"):
        return False
    return not _is_parked(f"{'build' if soup.state == 'planned' else 'judge'}:{soup.id}", facts)


def needs_search(facts: BaseFacts) -> bool:
    """The selection names two or more members, and not those of the last search."""
    if facts.selection is None or len(facts.selection.members) < 2:
        return False
    return facts.search is None or facts.search.members != facts.selection.members


def _search(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if _score_only(context) or facts.selection is None:
        return
    unfinished = facts.search is not None and facts.search.state == "open"
    if unfinished or needs_search(facts):
        yield _step("search", facts, facts.selection.id, COMPUTE, context.now)


def _build(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if facts.soup is not None and facts.soup.state == "planned":
        yield _step("build", facts, facts.soup.id, COMPUTE, context.now)


def _judge(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if facts.soup is not None and facts.soup.state == "built":
        yield _step("judge", facts, facts.soup.id, COMPUTE, context.now)


# -- the router, and what leaves us ------------------------------------------------------------


def _calibrate(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if _score_only(context) or context.pair_digest is None:
        return
    if facts.router is None or facts.router.pair_digest != context.pair_digest:
        yield _step("calibrate", facts, None, COMPUTE, context.now, context.pair_digest)


def _draft(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Render what passed its gate (or was calibrated) and was never drafted."""
    if _score_only(context):
        return
    soup, router = facts.soup, facts.router
    if soup is not None and soup.state == "passed" and not facts.soup_drafted:
        yield _step("draft", facts, soup.id, COMPUTE, context.now, f"soup:{soup.id}")
    current = router is not None and router.pair_digest == context.pair_digest
    if router is not None and current and not facts.router_drafted:
        yield _step("draft", facts, router.id, COMPUTE, context.now, f"router:{router.id}")


def _publish(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if _score_only(context) or "publish" in context.paused:
        return
    full = facts.published_today >= context.settings.publications_per_day
    for publication in facts.publications:
        if publication.state not in ("approved", "unknown", "committed"):
            continue
        due = context.now
        if full and publication.state == "approved" and not context.forced("publish"):
            due = context.now + timedelta(hours=1)
        yield _step("publish", facts, publication.id, SEND, due)


# -- shared --------------------------------------------------------------------------------------


def _score_only(context: Context) -> bool:
    return context.settings.publish_mode(context.section) is Publish.OFF


def _step(
    verb: str,
    facts: BaseFacts,
    subject: int | None,
    slot: str,
    due: datetime,
    name: str | None = None,
) -> Step:
    label = name or (f"{subject}" if subject is not None else f"{facts.repo}@{facts.sha[:12]}")
    return Step(verb, f"{verb}:{label}", facts.repo, facts.id, subject, slot, due)


def _is_parked(key: str, facts: BaseFacts) -> bool:
    attempt = facts.attempts.get(key)
    return attempt is not None and attempt.state == "parked"


def _after_failures(step: Step, facts: BaseFacts, context: Context) -> Step:
    attempt = facts.attempts.get(step.key)
    if attempt is None or attempt.not_before is None or attempt.not_before <= step.due:
        return step
    return replace(step, due=attempt.not_before)
