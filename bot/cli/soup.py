"""`bot soup`: one soup by hand, from folders and repositories. Needs no settings.

The tensors are strangers', so a child process opens them (`bot.worker.soup`); this process fetches
what is on the Hub, shows how far the child is, and prints what it says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from bot.cli.app import (
    FOREVER,
    CacheOption,
    JsonOption,
    ThreadsOption,
    app,
    cache_folder,
    hub_without_settings,
)
from bot.cli.exits import Exit
from bot.cli.ingredients import Pantry, Supply, is_folder, parse_members, read_recipe
from bot.cli.rooms import working_room
from bot.cli.say import errors, print_failure, print_json, say
from bot.errors import Misconfigured, Rejected
from bot.executors import ChildError, LocalExecutor
from bot.reasons import explain
from bot.shelf import TEXTS, TRUSTED
from bot.worker.jobs import Soup
from merge.errors import Refused
from merge.threads import cores

SHOWN, OF_EACH = 20, 3
Facts = Mapping[str, Any]


@app.command()
def soup(
    members: Annotated[
        list[str] | None,
        typer.Argument(help="MEMBER=WEIGHT: a folder, ORG/NAME or ORG/NAME@SHA; 0.4 or 2/5."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A new or empty folder.")] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="recipe.json, or a linear merge of mergekit's.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Gives names, dtypes, configuration, tokenizer.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16, float16 or float32; else the base's.")
    ] = None,
    threads: ThreadsOption = None,
    no_hash: Annotated[
        bool, typer.Option("--no-hash", help="No SHA-256, hence no recipe.json.")
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not recompute 1,000 pieces of the result.")
    ] = False,
    allow_negative: Annotated[
        bool, typer.Option("--allow-negative", help="Weights below 0; they still sum to one.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done.")] = False,
    cache: CacheOption = None,
    json: JsonOption = False,
) -> None:
    """Average checkpoints into one, exactly; refuse what cannot be averaged truthfully."""
    if bool(members) == (recipe is not None):
        raise Misconfigured("give either MEMBER=WEIGHT arguments or --recipe FILE")
    if out is None and not plan:
        raise Misconfigured("give a folder to write to: --out DIR")
    if out is not None:
        _check_place(out)
    workers = threads or cores()

    def job(supply: Supply, *, write: bool) -> Soup:
        return Soup(
            supply.members, (*TRUSTED, *TEXTS), write=write, hash=not no_hash,
            verify=not no_verify, negative=allow_negative, threads=workers,
            out=out and out.absolute(), base=supply.base, donor=supply.donor, dtype=request.dtype,
        )  # fmt: skip

    folder = cache_folder(cache)
    with _refusals(json), working_room(folder) as room:
        request = (
            parse_members(members or (), base, dtype)
            if recipe is None
            else read_recipe(recipe, base, dtype)
        )
        if no_hash and any(member.digest for member in request.members):
            raise Misconfigured("--no-hash: the recipe's digests are to be compared; leave it out")
        pantry = Pantry(hub_without_settings(folder), folder, request)
        with LocalExecutor(room, deadline=FOREVER, threads=workers) as executor:
            if plan or pantry.missing:
                found = _run(executor, job(pantry.outlined(room), write=False), json)
            if plan:
                _print_plan(found, named=request.base is not None, json=json)
                return
            for facts in pantry.missing:
                say(f"fetching {facts.repo}@{facts.sha}", errors)
            try:
                found = _run(executor, job(pantry.fetched(), write=True), json)
            except KeyboardInterrupt:
                _say_where(out)
                raise
    assert out is not None
    _print_soup(found, out, named=request.base is not None, json=json)


def _check_place(out: Path) -> None:
    """Raises Misconfigured where no folder can be made."""
    above = (is_folder(folder, f"--out {out}") for folder in out.absolute().parents)
    if not next((found for found in above if found is not None), True):
        raise Misconfigured(f"--out {out}: lies in a file, not in a folder")


def _say_where(out: Path | None) -> None:
    """What an interrupted run leaves (`merge.soup`)."""
    partial = out and out.absolute().parent / f".{out.name}.partial"
    if partial and os.path.exists(partial):
        say(f"{partial} keeps what is written; the same command goes on there", errors)


def _run(executor: LocalExecutor, job: Soup, json: bool) -> Facts:
    """Everything that the child tells, by the keys of `bot.worker.soup`."""
    found: dict[str, Any] = {"tensors": []}
    with _progress(json) as bar, executor.start(job) as child:
        tasks = {}
        for line in child.lines():
            if "refusals" in line:
                raise _Refusals(line["refusals"])
            if "progress" in line:
                what = str(line["what"])
                if what not in tasks:
                    tasks[what] = bar.add_task(what)
                bar.update(tasks[what], completed=line["progress"], total=line["total"])  # type: ignore[arg-type]
            elif "tensors" in line:
                found["tensors"] += line["tensors"]
            else:
                found |= line
    return found


def _progress(json: bool) -> Progress:
    """Bytes and rate, on standard error, for eyes alone."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), DownloadColumn())
    quiet = json or not errors.is_terminal
    return Progress(*columns, TransferSpeedColumn(), console=errors, disable=quiet)


class _Refusals(Exception):
    """What the engine declined; each with code, subject, detail, remedy."""

    def __init__(self, found: Any) -> None:
        self.found: list[Facts] = found
        super().__init__(f"{len(self.found)} refusals")


@contextmanager
def _refusals(json: bool) -> Iterator[None]:
    """Refusals of any origin are printed, and end the command with 1."""
    try:
        yield
    except _Refusals as refusals:
        _decline(refusals.found, json)
    except Refused as one:
        facts = {"code": str(one.code), "subject": one.subject, "detail": one.detail}
        _decline([{**facts, "remedy": one.remedy}], json)
    except Rejected as verdict:
        facts = {"code": str(verdict.code), **verdict.facts}
        _decline([{**facts, "remedy": explain(verdict.code).remedy}], json)
    except ChildError as error:  # not the input's fault: a full disk, a folder not ours to write
        code, message = getattr(error, "code", "child"), getattr(error, "message", str(error))
        print_failure(code, message, as_json=json)
        raise typer.Exit(Exit.NO) from error


def _decline(found: list[Facts], json: bool) -> NoReturn:
    if json:
        print_json({"refusals": found})
        raise typer.Exit(Exit.NO)
    shown = _a_few_of_each(found)
    for one in shown:
        say(f"refused: {one['code']}: {one['subject']}: {one['detail']}")
        if one["remedy"]:
            say(f"    {one['remedy']}")
    if len(found) > len(shown):
        say(f"and {len(found) - len(shown)} more; --json lists them all")
    raise typer.Exit(Exit.NO)


def _a_few_of_each(found: list[Facts]) -> list[Facts]:
    """The first of each member and code, so that one long list does not hide the others."""
    shown, seen = list[Facts](), Counter[tuple[str, str]]()
    for one in found:
        kind = one["code"], one["subject"].partition(": ")[0]
        seen[kind] += 1
        if seen[kind] <= OF_EACH and len(shown) < SHOWN:
            shown.append(one)
    return shown


def _print_plan(found: Facts, *, named: bool, json: bool) -> None:
    if json:
        print_json({"plan": {**found["plan"], "tensors": found["tensors"]}})
        return
    for tensor in found["tensors"]:
        say(f"{tensor['dtype']:5} {tensor['how']:5} {tensor['name']} {tensor['shape']}")
    _print_facts(found["plan"], named)


def _print_facts(plan: Facts, named: bool) -> None:
    counts = ", ".join(f"{count} {dtype}" for dtype, count in plan["dtypes"].items())
    say(f"tensors   {plan['tensors']} ({counts})")
    for head, embedding in plan["ties"].items():
        say(f"tied      {head} is {embedding}")
    choice = "" if named else ", the first full checkpoint; --base names another"
    say(f"base      {plan['base']}{choice}: names, dtypes, configuration, tokenizer")
    for remark in plan["remarks"]:
        say(f"note      {remark}")
    say(f"reads     {plan['input_bytes']:,} bytes")
    free = "" if plan["free_bytes"] is None else f"; {plan['free_bytes']:,} are free"
    say(f"writes    {plan['output_bytes']:,} bytes{free}")


def _print_soup(found: Facts, out: Path, *, named: bool, json: bool) -> None:
    if json:
        shown = ("recipe_digest", "recipe", "files", "seconds")
        plan = {key: found["plan"][key] for key in ("base", "remarks")}
        print_json({"out": str(out), **{key: found[key] for key in shown}, **plan})
        return
    _print_facts(found["plan"], named)
    say(f"recipe    {found['recipe_digest'] or 'none: hashing is off'}")
    for name, file in found["files"].items():
        say(f"{file['sha256'] or '-':64}  {file['size']:>15,}  {name}")
    spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["seconds"].items())
    say(f"seconds   {spent}")
    say(f"wrote     {out}")
