"""From the facts of one base to the steps that are due. Pure: no clock, no database, no network.

There is no queue. After any crash the same facts give the same steps, and a step that was done
leaves facts under which it is no longer due. The rules read in the order of the cycle, and run in
the opposite one: what was begun is finished before new work starts.

Requests (`bot trigger`) are facts too: they make a verb due now, past intervals, order and quiet
time, and with `force` past budgets and caps; never past a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bot.order import in_order, is_welcome, over_budget
from bot.sections import Publish
from bot.steps import COMPUTE, HUB, SEND, Context, Step
from db.facts import BaseFacts, Candidate, Publication, Request
from db.schema import REQUEST_VERBS, SENDING

LOOK_AGAIN = timedelta(hours=1)  # a budget is a sliding window

SCOPE = {
    "watch": {"admit"},
    "evaluate": {"admit", "evaluate"},
    "select": {"select"},
    "soup": {"select", "search", "build", "judge", "draft"},
    "route": {"calibrate", "draft"},
    "publish": {"publish"},
}
"""The verbs of the steps that a request waits for, besides one listing; `cycle` is all of them."""
SCOPE["cycle"] = set().union(*SCOPE.values())
assert SCOPE.keys() == set(REQUEST_VERBS)


def plan(facts: BaseFacts, context: Context) -> list[Step]:
    """All steps of one base, due now or later, in order of precedence."""
    if "all" in context.paused:
        return []
    rules: list[Callable[[BaseFacts, Context], Iterator[Step]]] = [_watch, _admit, _evaluate]
    if context.settings.publish_mode(context.section) is not Publish.OFF:
        rules += [_calibrate, _select, _search, _build, _judge, _draft, _publish]
    steps = [step for rule in reversed(rules) for step in rule(facts, context)]
    return [_after_failures(step, facts) for step in steps if not _is_parked(step.key, facts)]


def waits_for(request: Request, facts: BaseFacts, steps: Collection[Step]) -> bool:
    """Whether `request` waits for one of `steps`, which are due or running."""
    verbs = set(SCOPE[request.verb])
    if request.verb == "select" and not _chosen_since(request, facts):
        verbs |= SCOPE["soup"]  # there is one search at a time
    if _listed_for(request) and not _watched_since(request, facts):
        verbs.add("watch")
    return any(
        step.verb in verbs and (request.model is None or step.model in (None, request.model))
        for step in steps
    )


def _listed_for(request: Request) -> bool:
    return request.verb in ("watch", "cycle") or request.model is not None


def _watched_since(request: Request, facts: BaseFacts) -> bool:
    return facts.watched_at is not None and facts.watched_at >= request.created_at


def _chosen_since(request: Request, facts: BaseFacts) -> bool:
    return facts.selection is not None and facts.selection.created_at >= request.created_at


# -- candidates --------------------------------------------------------------------------------


def _watch(facts: BaseFacts, context: Context) -> Iterator[Step]:
    due = context.now
    asked = any(_listed_for(r) and not _watched_since(r, facts) for r in context.requests)
    # A listing in the future means that the clock was set back: read it again.
    if facts.watched_at is not None and facts.watched_at <= context.now and not asked:
        due = facts.watched_at + timedelta(seconds=context.settings.poll_seconds)
    yield _step("watch", facts, None, HUB, due)


def _admit(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Oldest first, so that of two equal uploads the original is known before its copy.

    Everybody is admitted or refused, denied authors too: `bot explain` then has an answer.
    """
    for candidate in sorted(facts.open, key=_age):
        if candidate.state == "sighted":
            yield _about(candidate, _step("admit", facts, candidate.id, HUB, context.now))


def _age(candidate: Candidate) -> tuple[bool, datetime, int]:
    return candidate.role != "base", candidate.created_at or candidate.seen_at, candidate.id


def _evaluate(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Those that a request names, then by the configured order; fine-tunes once there is a base to
    look at them beside."""
    backlog = in_order(waiting(facts, context), context.section.order)
    if not _base_is_admitted(facts):
        return
    for candidate in sorted(backlog, key=lambda c: not context.named(c.repo)):
        due = context.now
        if over_budget(facts, context.section) and not context.forced(
            "evaluate", model=candidate.repo
        ):
            due += LOOK_AGAIN
        yield _about(candidate, _step("evaluate", facts, candidate.id, COMPUTE, due))


def _base_is_admitted(facts: BaseFacts) -> bool:
    admitted = (c.role == "base" and c.state == "admitted" for c in facts.open)
    return facts.base_scored or any(admitted)


def waiting(facts: BaseFacts, context: Context) -> list[Candidate]:
    """Admitted candidates without a full row of scores: the backlog."""
    return [c for c in facts.open if c.state == "admitted" and _wanted(c, context)]


def _wanted(candidate: Candidate, context: Context) -> bool:
    """The lists of authors may have changed since it was admitted."""
    chosen = candidate.role == "base" or context.named(candidate.repo)
    section = context.section
    return chosen or is_welcome(candidate.author, section.allow, section.deny)


# -- the soup ------------------------------------------------------------------------------------


def _select(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """One search at a time: what comes in meanwhile shares the next."""
    # Recipes name the base by content, and the gate needs it: nothing is chosen before its scores.
    if not facts.base_scored or len(facts.scored) < 2 or _under_way(facts):
        return
    asked = [r for r in context.asking("select", "soup") if not _chosen_since(r, facts)]
    known = facts.selection is not None and facts.selection.inputs == facts.scored
    if known and not any(request.force for request in asked):
        return
    yield _step("select", facts, None, COMPUTE, _select_due(facts, context, asked))


def _select_due(facts: BaseFacts, context: Context, asked: list[Request]) -> datetime:
    """A request skips the quiet time; one for the whole cycle still waits for what is coming."""
    coming = any(_on_its_way(candidate, facts, context) for candidate in facts.open)
    if any(request.verb != "cycle" or not coming for request in asked):
        return context.now
    return _settled(facts, context, coming)


def _settled(facts: BaseFacts, context: Context, coming: bool) -> datetime:
    """When the wave of new scores has gone quiet, or patience runs out."""
    settings = context.settings
    last = facts.last_scored_at or context.now
    quiet = last + timedelta(seconds=settings.settle_seconds)
    first = facts.first_unselected_at or last
    patience = first + timedelta(seconds=settings.patience_seconds)
    return patience if coming else min(quiet, patience)


def _on_its_way(candidate: Candidate, facts: BaseFacts, context: Context) -> bool:
    """It will be scored soon: nothing is known to stand in its way."""
    if candidate.state == "sighted":
        return _unspoilt(f"admit:{candidate.id}", facts)
    ready = _wanted(candidate, context) and not over_budget(facts, context.section)
    return ready and _unspoilt(f"evaluate:{candidate.id}", facts)


def _unspoilt(key: str, facts: BaseFacts) -> bool:
    attempt = facts.attempts.get(key)
    return attempt is None or (attempt.failures == 0 and attempt.state != "parked")


def _under_way(facts: BaseFacts) -> bool:
    """A search, or the soup that it found, is not at its end yet. A parked step does not count: a
    later choice may do better."""
    keys = []
    if facts.selection is not None and needs_search(facts):
        keys.append(f"search:{facts.selection.id}")
    elif facts.soup is not None and facts.soup.state in ("planned", "built"):
        keys.append(f"{'build' if facts.soup.state == 'planned' else 'judge'}:{facts.soup.id}")
    if facts.passed is not None and not facts.soup_drafted:
        keys.append(f"draft:soup:{facts.passed.id}")
    return any(not _is_parked(key, facts) for key in keys)


def needs_search(facts: BaseFacts) -> bool:
    """The selection names two or more members, all of which are still there, and no finished search
    was about them.

    A search that an older selection opened and never finished is not taken up again.
    """
    selection, search = facts.selection, facts.search
    if selection is None or len(selection.members) < 2 or not selection.whole:
        return False
    if search is None or search.state == "open":
        return True
    return search.selection_id != selection.id and search.members != selection.members


def _search(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if facts.selection is not None and needs_search(facts):
        yield _step("search", facts, facts.selection.id, COMPUTE, context.now)


def _build(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if facts.soup is not None and facts.soup.state == "planned":
        yield _step("build", facts, facts.soup.id, COMPUTE, context.now)


def _judge(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Compared with the version before: so what is on its way to the target gets there first."""
    if facts.soup is not None and facts.soup.state == "built" and not _sending(facts, context):
        yield _step("judge", facts, facts.soup.id, COMPUTE, context.now)


def _sending(facts: BaseFacts, context: Context) -> bool:
    """A version of the soup may become, or be already, what readers of the target get."""
    target = context.section.target
    return any(p.target == target and p.state in SENDING for p in facts.publications)


# -- the router, and what leaves us ------------------------------------------------------------


def _calibrate(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if context.pair_digest is None:
        return
    if facts.router is None or facts.router.pair_digest != context.pair_digest:
        yield _step("calibrate", facts, None, COMPUTE, context.now, context.pair_digest)


def _draft(facts: BaseFacts, context: Context) -> Iterator[Step]:
    """Render what passed its gate (or was calibrated) and was never drafted."""
    passed, router = facts.passed, facts.router
    if passed is not None and not facts.soup_drafted:
        yield _step("draft", facts, passed.id, COMPUTE, context.now, f"soup:{passed.id}")
    current = router is not None and router.pair_digest == context.pair_digest
    if router is not None and current and not facts.router_drafted:
        yield _step("draft", facts, router.id, COMPUTE, context.now, f"router:{router.id}")


def _publish(facts: BaseFacts, context: Context) -> Iterator[Step]:
    if "publish" in context.paused:
        return
    full = facts.published_today >= context.settings.publications_per_day
    for publication in _to_send(facts.publications):
        due = context.now
        if full and publication.state == "approved" and not context.forced("publish"):
            due += LOOK_AGAIN
        yield _step("publish", facts, publication.id, SEND, due)


def _to_send(publications: Sequence[Publication]) -> list[Publication]:
    """One for each target: what may be there already, else the newest approved version."""
    chosen: dict[str, Publication] = {}
    for publication in sorted(publications, key=lambda p: p.version):
        held = chosen.get(publication.target)
        in_doubt = held is not None and held.state in ("unknown", "committed")
        if publication.state in ("approved", "unknown", "committed") and not in_doubt:
            chosen[publication.target] = publication
    return list(chosen.values())


# -- shared --------------------------------------------------------------------------------------


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


def _about(candidate: Candidate, step: Step) -> Step:
    return replace(step, model=candidate.repo)


def _is_parked(key: str, facts: BaseFacts) -> bool:
    attempt = facts.attempts.get(key)
    return attempt is not None and attempt.state == "parked"


def _after_failures(step: Step, facts: BaseFacts) -> Step:
    attempt = facts.attempts.get(step.key)
    if attempt is None or attempt.not_before is None or attempt.not_before <= step.due:
        return step
    return replace(step, due=attempt.not_before)
