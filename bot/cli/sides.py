"""The models of `bot generate` and the router's file, from this machine or from the Hub.

From the Hub come tensors, config.json and the tokenizer's files of one commit, hash-checked;
nothing that could run. An existing folder wins over a repository of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bot.errors import Gone, Misconfigured
from bot.hub import Hub
from bot.hub.facts import is_repo_id
from bot.layouts import read_weight_map, weight_files, with_index
from bot.shelf import TRUSTED
from merge.errors import Refused

ROUTER = "router.json"
MAX_ROUTER = 16 * 2**20  # bytes; a published curve is a few hundred thousand


@dataclass(frozen=True)
class Side:
    """A model as a folder; sha: the commit it was fetched at, None for a folder of the user's."""

    folder: Path
    sha: str | None = None


def find_model(name: str, hub: Hub, cache: Path) -> Side:
    """The folder `name`, or the repository ORG/NAME[@REVISION] fetched into `cache`.

    Raises Misconfigured, Gone, Transient, Refused (no safetensors).
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise Misconfigured(f"{name}: the folder has no config.json, so it is no model")
        return Side(folder.absolute())
    repo, revision = _repo(name, "a model folder")
    try:
        facts = hub.info(repo, revision)
    except Gone as error:
        raise Gone(repo, f"{error.why} on the Hub, and no folder of that name here") from error
    held = cache / "pairs" / f"{facts.repo.replace('/', '--')}@{facts.sha}"
    if not held.is_dir():
        held.parent.mkdir(parents=True, exist_ok=True)
        try:
            weights = weight_files(facts, read_weight_map(hub, facts))
        except Refused as refused:
            raise refused.about(facts.repo) from refused
        texts = [file for file in facts.files if file.path in TRUSTED]
        hub.fetch(facts.repo, facts.sha, [*with_index(facts, weights), *texts], held)
    return Side(held.absolute(), facts.sha)


def read_router(name: str, hub: Hub) -> str:
    """The text of a router.json: a file, a folder that holds one, or a repository's.

    Raises Misconfigured, Gone, Transient.
    """
    path = Path(name) / ROUTER if Path(name).is_dir() else Path(name)
    if path.is_file():
        with path.open("rb") as stream:
            raw = stream.read(MAX_ROUTER + 1)
    elif Path(name).is_dir():
        raise Misconfigured(f"{name}: the folder has no {ROUTER}")
    else:
        repo, revision = _repo(name, "a router's file")
        facts = hub.info(repo, revision)
        raw = hub.read_bytes(facts.repo, facts.sha, ROUTER, MAX_ROUTER)
    try:
        if len(raw) > MAX_ROUTER:
            raise ValueError(f"longer than {MAX_ROUTER:,} bytes")
        return raw.decode()
    except ValueError as error:
        raise Misconfigured(f"{name}: not the text of a router: {error}") from error


def _repo(name: str, what: str) -> tuple[str, str]:
    repo, _, revision = name.partition("@")
    if not ("/" in repo and is_repo_id(repo)):
        raise Misconfigured(f"{name!r} is neither {what} on this machine nor ORG/NAME on the Hub")
    return repo, revision or "main"
