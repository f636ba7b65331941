"""Commands that only look: status, scores, explain, soups, verify, doctor."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table

from bot.cli.app import (
    DEFAULT,
    BaseOption,
    ConfigOption,
    JsonOption,
    RootOption,
    app,
    settings,
    without_file,
)
from bot.cli.exits import Exit
from bot.cli.say import console, points, print_json, say
from bot.config import Settings
from bot.daemon import open_hub, open_store
from bot.doctor import examine as examine_installation
from bot.executors import LocalExecutor
from bot.provenance import ProvenanceError
from bot.reasons import Reason
from bot.reasons import explain as explain_reason
from bot.rounds import Progress, read_progress
from bot.verify import State
from bot.verify import verify as verify_publication
from bot.world import utc_now
from db import report


@app.command()
def status(config: ConfigOption = DEFAULT, json: JsonOption = False) -> None:
    """Who is at work, what waits and for how long, what failed."""
    chosen = settings(config)
    found = report.status(open_store(chosen).engine, utc_now())
    progress = dict(_progress(chosen.data / "rounds", found.running))
    if json:
        print_json({**vars(found), "progress": progress})
        return
    say(f"coordinator: {found.coordinator or 'none is running'}")
    for name, why in found.paused.items():
        say(f"paused: {name} ({why})", style="yellow")
    for base in found.bases:
        _print_base(base)
    for step in found.running:
        told = progress.get(step)
        far = "" if told is None else f", {told.done} of {told.total} rounds ({told.what})"
        say(f"running: {step}{far}")
    for trouble in found.troubles:
        waits = trouble.not_before is not None and trouble.state == "waiting"
        when = f", again at {trouble.not_before:%Y-%m-%d %H:%M} UTC" if waits else ""
        say(f"{trouble.state}: {trouble.step}, failed {trouble.failures} times{when}")
        say(f"   {trouble.error}")


def _progress(folder: Path, running: Iterable[str]) -> Iterator[tuple[str, Progress]]:
    """How far the steps are that say so: calibrations at work on this machine."""
    for step in running:
        verb, _, name = step.partition(":")
        if verb == "calibrate" and (told := read_progress(folder, name)) is not None:
            yield step, told


def _print_base(base: report.BaseLine) -> None:
    say(f"\n{base.repo} at {base.sha[:12]}", style="bold")
    if base.head not in (None, base.sha):
        say(f"   the Hub has {base.head}; the pin stays", style="yellow")
    states = ", ".join(f"{count} {state}" for state, count in sorted(base.states.items()))
    say(f"   candidates: {states}; {base.scored} scored")
    for reason, count in sorted(base.reasons.items()):
        say(f"   rejected: {count} {reason} ({explain_reason(Reason(reason)).meaning})")
    left = base.backlog * base.mean_seconds / 3600 if base.mean_seconds else None
    hours = "unknown" if left is None else f"{left:.1f} h of computing"
    say(f"   backlog: {base.backlog} candidates, time left: {hours}")


@app.command()
def scores(
    base: BaseOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    config: ConfigOption = DEFAULT,
    json: JsonOption = False,
) -> None:
    """The category table: one row a model, one column a category, on select items."""
    chosen = settings(config)
    found = report.category_scores(open_store(chosen).engine, base)
    _check_known(chosen, base, found)
    if json:
        print_json(found)
    elif csv:
        _write_csv(found)
    elif found:
        _print_scores(found)
    else:
        say("no scores yet")


def _check_known(chosen: Settings, base: str | None, found: Sequence[object]) -> None:
    """A base of which there is nothing is one of the settings, or a mistake in writing."""
    if base is not None and not found:
        chosen.base(base)


def _rows(found: Iterable[report.Score]) -> dict[tuple[str, str], dict[str, report.Score]]:
    rows: dict[tuple[str, str], dict[str, report.Score]] = {}
    for score in found:
        rows.setdefault((score.model, score.sha), {})[score.category] = score
    return rows


def _write_csv(found: list[report.Score]) -> None:
    categories = list(dict.fromkeys(score.category for score in found))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["model", "sha", *categories])
    for (model, sha), row in _rows(found).items():
        cells = [f"{100 * row[c].value:.2f}" if c in row else "" for c in categories]
        writer.writerow([model, sha, *cells])


def _print_scores(found: list[report.Score]) -> None:
    for name in dict.fromkeys(score.base for score in found):
        mine = [score for score in found if score.base == name]
        table = Table(title=f"{name}: percent right on select items, ± one standard error")
        table.add_column("model")
        categories = list(dict.fromkeys(score.category for score in mine))
        for category in categories:
            table.add_column(category, justify="right")
        for (model, sha), row in _rows(mine).items():
            cells = [_cell(row.get(category)) for category in categories]
            table.add_row(f"{model}@{sha[:7]}", *cells)
        console.print(table)


def _cell(score: report.Score | None) -> str:
    return "" if score is None else f"{100 * score.value:.1f} ± {100 * score.stderr:.1f}"


@app.command()
def explain(
    repo: Annotated[str, typer.Argument(help="A candidate, a base or something published.")],
    config: ConfigOption = DEFAULT,
    json: JsonOption = False,
) -> None:
    """Everything that was decided about a repository, and why."""
    chosen = settings(config)
    base, kind = _published_for(chosen, repo)
    found = report.events_of(open_store(chosen).engine, repo, base=base, kind=kind)
    if json:
        print_json(found)
    for event in found if not json else ():
        sha = f" @{event.sha[:12]}" if event.sha else ""
        say(f"{event.at:%Y-%m-%d %H:%M:%S}  {event.kind}{sha}")
        say(f"    {event.text}")
    if not found:
        if not json:
            say(f"nothing is known about {repo}")
        raise typer.Exit(Exit.NO)


def _published_for(chosen: Settings, repo: str) -> tuple[str | None, str]:
    """The base whose soup or router goes to `repo`, if any does, and which of the two."""
    for section in chosen.bases:
        if repo == section.target:
            return section.repo, "soup"
        if section.router is not None and repo == section.router.target:
            return section.repo, "router"
    return None, "soup"


@app.command()
def soups(
    base: BaseOption = None, config: ConfigOption = DEFAULT, json: JsonOption = False
) -> None:
    """Every soup that was found, how it fared, and where it was published."""
    chosen = settings(config)
    found = report.soup_list(open_store(chosen).engine, base)
    _check_known(chosen, base, found)
    if json:
        print_json(found)
        return
    for soup in found:
        where = f" -> {soup.published}" if soup.published else ""
        say(f"{soup.recipe_digest[:12]} {soup.base}: {soup.state}{where}", style="bold")
        for one in soup.ingredients:
            say(f"   {one.weight:>6}  {one.model}@{one.sha[:12]}")
        _print_gate(soup)
    if not found:
        say("no soup yet")


def _print_gate(soup: report.Soup) -> None:
    spent = f" for {soup.evaluations:.1f} complete evaluations" if soup.evaluations else ""
    grid = f" (the paper's grid: {soup.grid})" if spent and soup.grid else ""
    look = f"look {soup.look} at the report split" if soup.look else "not judged"
    say(f"   {soup.trials} soups tried{spent}{grid}; {look}")
    for found in soup.comparisons:
        rounds = "both rounds: " if found.both_rounds else ""
        say(
            f"   {rounds}{points(found.gain)} points against {found.against} ({points(found.low)} "
            f"to {points(found.high)}; {found.items} items, {found.gained} gained, "
            f"{found.lost} lost)",
        )
    if soup.optimism is not None:
        say(f"   tune minus report score: {points(soup.optimism)} points")
    for reason in soup.reasons:
        say(f"   {reason}")


@app.command()
def verify(
    repo: Annotated[str, typer.Argument(help="ORG/NAME, or ORG/NAME@REVISION.")],
    config: ConfigOption = DEFAULT,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="The Hub, if not the one in the settings.")
    ] = None,
    json: JsonOption = False,
    allow_root: RootOption = False,
) -> None:
    """Make a published soup again from its provenance and compare every sha256.

    Needs no settings file.
    """
    with (
        _verifying(config, endpoint, allow_root) as chosen,
        LocalExecutor(chosen.data, token_file=chosen.token_file) as executor,
    ):
        try:
            found = verify_publication(open_hub(chosen), executor, chosen.data, repo)
        except ProvenanceError as error:
            say(f"{repo}: {error}")
            raise typer.Exit(Exit.NO) from error
    if json:
        print_json({**found.__dict__, "state": found.state})
    else:
        say(f"{found.repo}@{found.sha}: {found.kind} {found.digest[:12]}")
        for check in found.checks:
            say(f"  {check.state:<13} {check.what}: {check.how}")
        say(str(found.state), style="bold")
    codes = {State.SAME: Exit.OK, State.DIFFERS: Exit.NO, State.UNVERIFIABLE: Exit.UNKNOWN}
    raise typer.Exit(codes[found.state])


@contextmanager
def _verifying(config: Path, endpoint: str | None, allow_root: bool) -> Iterator[Settings]:
    """The settings, or where there are none, those of anybody: what is fetched is not kept."""
    given = {} if endpoint is None else {"endpoint": endpoint}
    if config.is_file() or config != DEFAULT:
        yield settings(config, allow_root=allow_root, **given)
        return
    with TemporaryDirectory(prefix="stockpot-") as folder:
        yield without_file(data=Path(folder), **given)


@app.command()
def doctor(
    config: ConfigOption = DEFAULT, json: JsonOption = False, allow_root: RootOption = False
) -> None:
    """Check settings, database, disk, token, Hub, sandbox, and what the report split can show."""
    found = examine_installation(settings(config, allow_root=allow_root))
    if json:
        print_json(found)
    for check in found if not json else ():
        mark = "ok" if check.ok else "no"
        say(f"{mark}   {check.what}: {check.finding}", style=None if check.ok else "red")
    raise typer.Exit(Exit.OK if all(check.ok for check in found) else Exit.NO)
