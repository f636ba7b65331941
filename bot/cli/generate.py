"""`bot generate`: let a base and an aligned model write together. Needs no settings.

A child process opens both (`bot.worker.generate`); this one fetches what is on the Hub and prints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.text import Text

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
from bot.cli.rooms import working_room
from bot.cli.say import console, errors, print_failure, print_json, say, visible
from bot.cli.sides import find_model, read_router
from bot.errors import Misconfigured, Rejected
from bot.executors import ChildError, ChildFailed, LocalExecutor
from bot.worker.jobs import Generate
from merge.errors import Refused
from merge.threads import cores
from route.config import PromptFormat, RouterConfig
from route.curve import ShareBeyondCurve, check_adjustable, from_curve
from route.rules import Router

BASE = "bold cyan"  # how the base's words are shown


@app.command()
def generate(
    base: Annotated[str, typer.Option("--base", help="A folder, or ORG/NAME[@SHA].")],
    aligned: Annotated[str, typer.Option("--aligned", help="A folder, or ORG/NAME[@SHA].")],
    prompt: Annotated[str, typer.Option("--prompt", help="What to answer.")],
    router: Annotated[
        Router | None, typer.Option("--router", help="p-punc if no --config is given.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="router.json: a file, a folder, or ORG/NAME.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="One of the --config's presets.")
    ] = None,
    base_share: Annotated[
        float | None,
        typer.Option(
            "--base-share",
            min=0,
            max=1,
            help="Of the places where the router is asked; 0.3, or less where out of reach.",
        ),
    ] = None,
    execution: Annotated[
        Literal["eager", "lazy", "block"] | None,
        typer.Option("--execution", help="The same law; block is fastest, taken where possible."),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, max=4096, help="How many texts.")] = 1,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most probable token.")
    ] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same texts.")] = 0,
    prompt_format: Annotated[
        PromptFormat | None,
        typer.Option("--prompt-format", help="What the base reads; same if no --config is given."),
    ] = None,
    threads: ThreadsOption = None,
    cache: CacheOption = None,
    json: JsonOption = False,
) -> None:
    """Texts by two models: token by token the router says which one writes (arXiv 2511.05650)."""
    if not prompt.strip():
        raise Misconfigured("--prompt is empty: there is nothing to answer")
    folder = cache_folder(cache)
    hub = hub_without_settings(folder)
    text = None
    if config is None:
        if preset is not None:
            raise Misconfigured("--preset is one of a --config's presets; give --config too")
        router = router or Router.P_PUNC
        _check_share(router, base_share)
    else:
        if router is not None or prompt_format is not None:
            raise Misconfigured("--config sets the router and the prompt format; leave them out")
        text = read_router(config, hub)
        _check_config(text, preset, base_share)
    try:
        one, other = find_model(base, hub, folder), find_model(aligned, hub, folder)
    except (Refused, Rejected) as refused:
        _decline(str(refused.code), str(refused), json)
    job = Generate(
        base=one.folder, aligned=other.folder, prompt=prompt, samples=count,
        temperature=temperature, max_new_tokens=max_new_tokens, seed=seed,
        prompt_format=(prompt_format or PromptFormat.SAME).value,
        router=router and router.value, config=text, preset=preset, base_share=base_share,
        execution=execution, base_sha=one.sha, aligned_sha=other.sha,
    )  # fmt: skip
    with working_room(folder) as room:
        found = _run(job, room, threads or cores(), json)
    _show(found, json)


def _check_share(router: Router, share: float | None) -> None:
    """Raise Misconfigured where the router has a fixed share and one is asked for."""
    try:
        if share is not None:
            check_adjustable(router)
    except ValueError as error:
        raise Misconfigured(f"--base-share: {error}") from error


def _check_config(text: str, preset: str | None, share: float | None) -> None:
    """Raise Misconfigured before anything is fetched."""
    if preset is not None and share is not None:
        raise Misconfigured("--preset and --base-share both set the threshold; give one of them")
    try:
        config = RouterConfig.from_json(text)
        config.policy(preset)
        if share is not None:
            from_curve(config, share)
    except ValueError as error:
        option = "--base-share" if isinstance(error, ShareBeyondCurve) else "--config"
        raise Misconfigured(f"{option}: {error}") from error


def _run(job: Generate, room: Path, threads: int, json: bool) -> dict[str, Any]:
    """Everything that the child tells: samples, notes, and what the summary holds."""
    found: dict[str, Any] = {"samples": [], "notes": []}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    executor = LocalExecutor(room, deadline=FOREVER, memory_limit=memory, threads=threads)
    try:
        with executor, executor.start(job) as child:
            for line in child.lines():
                if "note" in line:
                    found["notes"].append(line["note"])
                    say(str(line["note"]), errors)
                elif "sample" in line:
                    found["samples"].append(line["sample"])
                else:
                    found |= dict(line["summary"])  # type: ignore[call-overload]
    except ChildFailed as error:
        _decline(error.code, error.message, json)
    except ChildError as error:
        _decline("child", str(error), json)
    return found


def _decline(code: str, message: str, json: bool) -> NoReturn:
    print_failure(code, message, as_json=json)
    raise typer.Exit(Exit.NO)


def _show(found: dict[str, Any], json: bool) -> None:
    if json:
        print_json(found)
        return
    for number, sample in enumerate(found["samples"], start=1):
        title = Text(f"{number}: {sample['base_share']:.0%} of the tokens by the base")
        console.rule(title, style="dim")
        shown = Text()
        for token in sample["tokens"]:
            shown.append(visible(token["text"]), style=BASE if token["by"] == "base" else None)
        console.print(shown, soft_wrap=True)
    forwards = found["forwards"]
    tokens = sum(len(sample["tokens"]) for sample in found["samples"])
    console.rule(style="dim")
    console.print(Text.assemble(("the base's words", BASE), ", the aligned model's words"))
    threshold = "" if found["threshold"] is None else f", threshold {found['threshold']}"
    say(
        f"router {found['router']}{threshold}; {found['execution']}: {tokens} tokens in "
        f"{forwards['base']} forwards of the base and {forwards['aligned']} of the aligned model"
    )
