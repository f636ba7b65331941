"""The demo's two acts, told as they happen, and the figures at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bot.demo.refused import REFUSED
from bot.demo.settings import write_settings
from bot.demo.show import Outcome, print_summary
from bot.demo.strangers import BASE, ORG, Strangers
from bot.errors import Misconfigured
from bot.localhub import LocalHub
from bot.zoo.members import FIRST_DAY, SECOND_ACT
from db import report
from db.engine import migrate, open_engine

SOUP, ROUTER = "stockpot/tiny-soup", "stockpot/tiny-router"
PATIENCE = 600.0  # seconds for one act
MADE = ("hub", "data", "bot.toml", "token", "prompts.jsonl", "daemon.log")


def run_demo(folder: Path, *, serve: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Play both acts in `folder`; what an earlier demo left there is replaced.

    Raises:
        Misconfigured: the folder holds something else.
        TimeoutError: an act did not come to its end; the daemon's log says why.
    """
    folder = folder.resolve()
    console = Console(quiet=quiet, stderr=quiet)
    _clear(folder)
    clock = Clock()
    users = {"someone": (ORG,), "stockpot": ()}
    with LocalHub(folder / "hub", users=users) as hub:
        strangers = Strangers.on(hub)
        base_sha = strangers.push("base")
        pinned = {name: strangers.push(name) for name in (*FIRST_DAY, "storybase", "aligned")}
        strangers.push_refused()
        pair = [f"{ORG}/{name}@{pinned[name]}" for name in ("storybase", "aligned")]
        config = write_settings(folder, hub, BASE, base_sha, *pair)
        console.print(f"A Hub at {hub.url} with {1 + len(pinned) + len(REFUSED)} repositories.")
        clock.lap("fill the Hub")
        engine = open_engine(f"sqlite:///{folder / 'stockpot.db'}")
        migrate(engine)
        tell = Teller(console, engine)
        with daemon(config, folder / "daemon.log") as process:
            wait = Waiter(process, folder / "daemon.log", tell)
            wait.until(lambda: _published(engine, SOUP, 1), "version 1 of the soup")
            clock.lap("act one: the soup")
            wait.until(lambda: _published(engine, ROUTER, 1), "the router")
            clock.lap("act one: the router")
            console.print(f"\n[bold]A new fine-tune is pushed: {ORG}/{SECOND_ACT}[/]")
            strangers.push(SECOND_ACT)
            wait.until(lambda: _published(engine, SOUP, 2), "version 2 of the soup")
            clock.lap("act two: version 2")
        verified = _verify(config, console)
        clock.lap("verify")
        outcome = _outcome(folder, hub.url, engine, verified, clock)
        engine.dispose()
        print_summary(console, outcome, folder)
        if serve:
            console.print(f"\nThe Hub stays at {hub.url}/{SOUP} until Ctrl-C.")
            _wait_for_signal()
    return asdict(outcome)


class Clock:
    """Where the time went."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._since, 1)
        self._since = now


class Teller:
    """Prints what the database records, as it comes."""

    def __init__(self, console: Console, engine: Any) -> None:
        self.console, self.engine = console, engine
        self.last = 0
        self.hopeless = False  # what is waited for will not come by itself

    def tell(self) -> None:
        for event in report.events_after(self.engine, self.last):
            self.last = event.id
            self.hopeless = self.hopeless or event.kind in ("step-parked", "no-soup")
            self.hopeless |= event.kind == "judged" and "not published" in event.text
            text = f"  {event.kind:<22} {event.subject}: {event.text}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Waiter:
    """Waits for the daemon to bring something about."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, teller: Teller) -> None:
        self.process, self.log, self.teller = process, log, teller

    def until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            self.teller.tell()
            ended = self.process.poll() is not None
            if ended or self.teller.hopeless or time.monotonic() > deadline:
                raise TimeoutError(f"no {what}; see {self.log}")
            time.sleep(0.1)
        self.teller.tell()


@contextmanager
def daemon(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`bot run` in a process of its own, ended by SIGTERM."""
    command = [sys.executable, "-m", "bot", "run", "--config", str(config), "--allow-root"]
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()


def _clear(folder: Path) -> None:
    """Only what a demo makes is removed; a folder of anything else is left alone."""
    found = folder.iterdir() if folder.exists() else ()
    strange = [p.name for p in found if p.name not in MADE and "stockpot.db" not in p.name]
    if strange:
        raise Misconfigured(f"{folder} holds {strange[0]}: name an empty folder with --dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _published(engine: Any, target: str, version: int) -> bool:
    lines = report.publication_list(engine, "verified")
    return any(line.target == target and line.version == version for line in lines)


def _verify(config: Path, console: Console) -> bool:
    command = [sys.executable, "-m", "bot", "verify", SOUP, "--config", str(config), "--allow-root"]
    done = subprocess.run(command, capture_output=True, text=True, env=_quiet_environment())
    console.print(f"\nbot verify {SOUP}\n{done.stdout}{done.stderr}", markup=False)
    return done.returncode == 0


def _quiet_environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "160"}


def _outcome(folder: Path, url: str, engine: Any, verified: bool, clock: Clock) -> Outcome:
    lines = report.publication_list(engine, "verified")
    shas = {(line.target, line.tag): line.commit_sha for line in lines}
    provenance = json.loads(
        (
            Path(next(p.folder for p in reversed(lines) if p.kind == "soup")) / "provenance.json"
        ).read_text()
    )
    refused = report.rejections(engine)
    return Outcome(
        folder=str(folder),
        hub=url,
        database=f"sqlite:///{folder / 'stockpot.db'}",
        soup={
            "repo": SOUP,
            "versions": {tag: sha for (target, tag), sha in shas.items() if target == SOUP},
            "gate": provenance["gate"],
            "scores": provenance["scores"],
        },
        router={
            "repo": ROUTER,
            "versions": {tag: sha for (target, tag), sha in shas.items() if target == ROUTER},
        },
        refused=refused,
        verified=verified,
        seconds=clock.seconds,
    )


def _wait_for_signal() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
