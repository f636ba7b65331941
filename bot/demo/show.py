"""What the demo made, and what it prints of that at its end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Outcome:
    """What the demo made. Everything lies in `folder`."""

    folder: str
    hub: str
    database: str
    soup: dict[str, Any]
    router: dict[str, Any]
    refused: dict[str, str]
    verified: bool
    seconds: dict[str, float]


def print_summary(console: Console, outcome: Outcome, folder: Path) -> None:
    """Report-split scores, refusals, where the time went, where to look."""
    console.print(_scores(outcome))
    gate = outcome.soup["gate"]
    for one in gate["comparisons"]:
        low, high = 100 * one["low"], 100 * one["high"]
        text = f"{100 * one['value']:+.2f} points ({low:+.2f} to {high:+.2f})"
        console.print(f"soup minus {one['against']}: {text}", markup=False)
    for repo, reason in outcome.refused.items():
        console.print(f"refused: {repo:<22} {reason}", markup=False)
    total = sum(outcome.seconds.values())
    for what, seconds in outcome.seconds.items():
        console.print(f"{seconds:6.1f} s  {what}")
    console.print(f"{total:6.1f} s  in all")
    console.print(f"\nLook: bot status -c {folder}/bot.toml; sqlite3 {folder}/stockpot.db")
    console.print("or bot demo --serve, and open the pages in a browser.")


def _scores(outcome: Outcome) -> Table:
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for score in outcome.soup["scores"]:
        value, stderr = 100 * score["value"], 100 * score["stderr"]
        rows[score["model"]][score["category"]] = f"{value:.0f} ±{stderr:.0f}"
    table = Table(title="Version 2 on report items: percent right, ± one standard error")
    table.add_column("model", no_wrap=True)
    categories = list(next(iter(rows.values())))
    for category in categories:
        table.add_column(category, justify="right")
    for model, cells in rows.items():
        name = model.split("@")[0].rpartition("/")[2]
        table.add_row(name, *(cells[category] for category in categories))
    return table
