"""`bot hub serve` and `bot demo`: a Hub on this machine, and the main job on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.app import JsonOption, app
from bot.cli.say import print_json
from bot.errors import Misconfigured

hub_app = typer.Typer(no_args_is_help=True, help="A Hub on this machine.")
app.add_typer(hub_app, name="hub")


@hub_app.callback()
def _hub() -> None:
    """A Hub on this machine."""


@hub_app.command()
def serve(
    dir: Annotated[Path, typer.Option("--dir", help="Where everything is kept.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")
    ] = 7860,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; 0.0.0.0 is all of them.")
    ] = "127.0.0.1",
    user: Annotated[
        list[str] | None,
        typer.Option("--user", help="NAME or NAME=ORG,ORG: an account; its token is in DIR."),
    ] = None,
) -> None:
    """Serve the Hub's protocol to the unmodified client (HF_ENDPOINT) and pages to a browser."""
    from bot.localhub import serve as serve_hub

    accounts = (one.partition("=") for one in user or ())
    users = {name: tuple(filter(None, orgs.split(","))) for name, _, orgs in accounts}
    try:
        serve_hub(dir, host, port, users)
    except ValueError as error:  # no name for an account
        raise Misconfigured(f"--user: {error}") from error
    except OSError as error:
        raise Misconfigured(f"{host}:{port} or {dir}: {error}") from error


@app.command()
def demo(
    dir: Annotated[Path, typer.Option("--dir", help="Everything it makes lies here.")] = Path(
        "demo"
    ),
    serve: Annotated[bool, typer.Option("--serve", help="Leave the Hub running.")] = False,
    json: JsonOption = False,
) -> None:
    """The main job, twice: a soup and a router are published; a new expert comes; version 2."""
    from bot.demo import run_demo

    result = run_demo(dir, serve=serve, quiet=json)
    if json:
        print_json(result)
