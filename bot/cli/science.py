"""Commands for researchers that need no settings: `bot select`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.app import JsonOption, app
from bot.cli.say import print_json, say
from bot.errors import Misconfigured
from merge.scores import BadTable, parse_names, read_csv
from merge.select import Selection, soce


@app.command()
def select(
    table: Annotated[Path, typer.Argument(help="CSV: first column the model, then scores.")],
    candidates: Annotated[str | None, typer.Option("--candidates", help="a,b,...")] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="c,d,...")] = None,
    tau: Annotated[float, typer.Option("--tau", help="The correlation threshold.")] = 0.1,
    absolute: Annotated[bool, typer.Option("--absolute", help="Compare |r| with tau.")] = False,
    json: JsonOption = False,
) -> None:
    """Category experts of a score table, as SoCE chooses them (arXiv 2511.13254)."""
    try:
        scores = read_csv(table, None if columns is None else parse_names(columns))
        pool = None if candidates is None else parse_names(candidates)
        found = soce(scores, candidates=pool, tau=tau, absolute=absolute)
    except (BadTable, OSError) as error:
        raise Misconfigured(f"{table}: {error}") from error
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: Selection) -> None:
    for left, right, r in found.weak_pairs:
        say(f"weak pair: {left} and {right}, r = {r:+.3f}")
    for category, model in found.experts.items():
        say(f"expert for {category}: {model}")
    say(f"members: {', '.join(found.members) or 'none'}")
    for note in found.notes:
        say(f"note: {note}")
