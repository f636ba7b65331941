"""Commands that make the bot do something: init, run, trigger, pause, approve, retry."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from bot.cli.app import (
    DEFAULT,
    BaseOption,
    ConfigOption,
    JsonOption,
    RootOption,
    app,
    settings,
)
from bot.cli.exits import Exit
from bot.cli.say import print_json, say
from bot.config import Settings
from bot.daemon import coordinator, harden, open_store, ringing
from bot.daemon import run as run_daemon
from bot.errors import Misconfigured
from bot.hub.facts import is_repo_id
from bot.template import settings_template
from bot.world import utc_now
from db import report
from db.store import Store


class Verb(StrEnum):
    """What can be triggered."""

    WATCH = "watch"
    EVALUATE = "evaluate"
    SELECT = "select"
    SOUP = "soup"
    ROUTE = "route"
    PUBLISH = "publish"
    CYCLE = "cycle"


class Pausable(StrEnum):
    ALL = "all"
    PUBLISH = "publish"


@app.command()
def init(config: ConfigOption = DEFAULT) -> None:
    """Write a commented settings file."""
    if config.exists():
        raise Misconfigured(f"{config} exists; it is not overwritten")
    try:
        config.write_text(settings_template(), encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{config} cannot be written: {error.strerror}") from error
    say(f"wrote {config}: name a base in it, set BOT_TOKEN, then `bot doctor`")


@app.command()
def run(
    config: ConfigOption = DEFAULT,
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing is due.")] = False,
    allow_root: RootOption = False,
) -> None:
    """Run the daemon: watch, score, search, publish, until told to stop."""
    run_daemon(settings(config, allow_root=allow_root), once=once)


@app.command()
def trigger(
    verb: Annotated[Verb, typer.Argument(help="What is to be done now.")],
    base: BaseOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Only this model, ORG/NAME; listed by the Hub or not."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Past budgets, quiet time and caps; never past a gate.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is done.")] = False,
    config: ConfigOption = DEFAULT,
    json: JsonOption = False,
    allow_root: RootOption = False,
) -> None:
    """Ask for one verb of the cycle now; the same loop and the same gates as ever."""
    chosen = settings(config, allow_root=allow_root)
    if base is not None:
        chosen.base(base)
    if model is not None and not is_repo_id(model):
        raise Misconfigured(f"{model!r} is not the name of a repository")
    store = open_store(chosen)
    if report.status(store.engine, utc_now()).coordinator is None:
        harden(chosen)  # before anything is asked for that nobody here may do
    request_id = store.ask(str(verb), base, model, force, utc_now())
    while not _closed(store, request_id):
        if report.status(store.engine, utc_now()).coordinator is None:
            _serve(chosen, store, request_id)
            break  # answered, or a person stopped it
        if not wait:
            break
        time.sleep(0.2)
    line = report.request_line(store.engine, request_id)
    if json:
        print_json(line)
    else:
        say(f"request {line.id} ({line.verb}): {line.state} {line.answer or ''}")
    raise typer.Exit(Exit.NO if line.state == "refused" else Exit.OK)


def _serve(chosen: Settings, store: Store, request_id: int) -> None:
    """Nobody is at work, or whoever was has gone: do it here, by the same loop."""
    harden(chosen)
    with coordinator(chosen) as loop, ringing(loop):
        loop.run(until=lambda: _closed(store, request_id))


def _closed(store: Store, request_id: int) -> bool:
    return report.request_line(store.engine, request_id).state != "open"


@app.command()
def pause(
    what: Annotated[Pausable, typer.Argument(help="Every step, or what leaves us.")] = Pausable.ALL,
    why: Annotated[str, typer.Option("--why", help="What `bot status` will say.")] = (
        "an operator asked"
    ),
    config: ConfigOption = DEFAULT,
) -> None:
    """Stop starting steps, or only stop publishing."""
    open_store(settings(config)).pause(str(what), why, utc_now())
    say(f"paused: {what}")


@app.command()
def resume(
    what: Annotated[Pausable, typer.Argument(help="What was paused.")] = Pausable.ALL,
    config: ConfigOption = DEFAULT,
) -> None:
    """Go on after `bot pause`, or after the Hub refused our token."""
    was = open_store(settings(config)).resume(str(what))
    say(f"resumed: {what}" if was else f"{what} was not paused")


@app.command()
def retry(
    step: Annotated[
        str | None, typer.Argument(help="Part of a step's key; all if left out.")
    ] = None,
    config: ConfigOption = DEFAULT,
) -> None:
    """Try failed and parked steps again now, and blocked publications too."""
    count = open_store(settings(config)).retry(step)
    if step is not None and not count:
        say(f"no failed or parked step has {step} in its key")
        raise typer.Exit(Exit.NO)
    say(f"{count} steps will be tried again")


@app.command()
def approve(
    draft: Annotated[int, typer.Argument(help="Its number in `bot drafts`.")],
    decline: Annotated[bool, typer.Option("--decline", help="Drop it instead.")] = False,
    config: ConfigOption = DEFAULT,
) -> None:
    """Let a waiting draft be published (or drop it)."""
    store = open_store(settings(config))
    if not store.approve(draft, not decline):
        say(f"there is no waiting draft {draft}; `bot drafts` lists them")
        raise typer.Exit(Exit.NO)
    say(f"draft {draft} {'dropped' if decline else 'approved'}")


@app.command()
def drafts(config: ConfigOption = DEFAULT, json: JsonOption = False) -> None:
    """Drafts that wait for approval, with the folder to look at."""
    found = report.publication_list(open_store(settings(config)).engine, "draft")
    if json:
        print_json(found)
        return
    for line in found:
        say(f"{line.id}  {line.kind} {line.target} v{line.version}\n   {line.folder}")
    if not found:
        say("no draft waits")
