"""What `bot soup` is asked to mix, and the folders that hold it on this machine.

A member is a folder or `ORG/NAME[@REVISION]` on the Hub. From the Hub come the tensors, pinned by
commit and hash-checked, and small files that are compared and never loaded; the base also gives the
texts that the soup is shipped with.

Not promised: that a folder of that name means what was meant. An existing folder wins over a
repository of the same name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bot.errors import Gone, Misconfigured
from bot.hub import FileFact, Hub, RepoFacts
from bot.hub.facts import is_repo_id
from bot.layouts import read_weight_map, root_files, weight_files, with_index
from bot.shelf import TEXTS, TRUSTED
from bot.worker.jobs import Ingredient
from merge.checkpoint import MAX_TOKENIZER
from merge.errors import Code, Refused, printable
from merge.lora import CONFIG as ADAPTER_CONFIG
from merge.lora import WEIGHTS as ADAPTER_WEIGHTS
from merge.lora import is_adapter, lists_adapter
from merge.mergekit import from_mergekit_yaml
from merge.recipe import MAX_RECIPE, Recipe, parse_weight
from merge.vocabulary import VOCABULARIES

COMPARED = ("config.json", "tokenizer.json", *VOCABULARIES)


@dataclass(frozen=True)
class Wanted:
    """One member. name: a folder's path, or a repository; revision: of a repository, None for a
    folder; digest: what its content must be."""

    name: str
    revision: str | None
    weight: Fraction
    digest: str | None = None


@dataclass(frozen=True)
class Request:
    """A soup as it was asked for. Weights are checked where it is planned."""

    members: tuple[Wanted, ...]
    base: Wanted | None = None
    dtype: str | None = None


def parse_members(texts: Sequence[str], base: str | None, dtype: str | None) -> Request:
    """From `MEMBER=WEIGHT` arguments. Raises Misconfigured; Refused: `weights`."""
    members = []
    for text in texts:
        name, equals, weight = text.rpartition("=")
        if not equals or not name:
            raise Misconfigured(f"{text!r} is not MEMBER=WEIGHT, such as ORG/NAME=0.4")
        members.append(_wanted(name, parse_weight(weight)))
    return Request(tuple(members), _base(base), dtype)


def read_recipe(path: Path, base: str | None, dtype: str | None) -> Request:
    """From a recipe (JSON) or a linear merge of mergekit's (YAML), told apart by content.

    base, dtype: where a merge of mergekit's does not say, or says the same; a recipe says both.
    Raises Misconfigured; Refused: `bad-recipe`, `weights`, `duplicate-member`.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_RECIPE + 1)
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    if raw.lstrip().startswith(b"{"):
        if base is not None or dtype is not None:
            raise Misconfigured("a recipe names its base and dtype; leave --base and --dtype out")
        return _from_recipe(Recipe.from_json(raw))
    try:
        blend = from_mergekit_yaml(raw.decode(), allow_negative=True)
    except UnicodeDecodeError as error:
        raise Refused(Code.BAD_RECIPE, str(path), "is not text", "give JSON or YAML") from error
    for option, given, said in (("--base", base, blend.base), ("--dtype", dtype, blend.dtype)):
        if given is not None and said not in (None, given):
            raise Misconfigured(f"{path} says {said}: leave out {option}, or change the file")
    members = tuple(_wanted(name, weight) for name, weight in blend.members)
    return Request(members, _base(base or blend.base), dtype or blend.dtype)


def _from_recipe(recipe: Recipe) -> Request:
    members = tuple(Wanted(m.repo, m.sha or None, m.weight, m.digest) for m in recipe.members)
    base = Wanted(recipe.base_repo, recipe.base_sha or None, Fraction(0), recipe.base_digest)
    return Request(members, base, recipe.dtype)


def _base(name: str | None) -> Wanted | None:
    return None if name is None else _wanted(name, Fraction(0))


def _wanted(name: str, weight: Fraction) -> Wanted:
    repo, _, revision = name.partition("@")
    folder = is_folder(Path(name), name)
    if folder is False:
        raise Misconfigured(f"{name} is a file: give the folder that it lies in")
    if folder is None and "/" in repo and is_repo_id(repo):
        return Wanted(repo, revision or "main", weight)
    return Wanted(str(Path(name)), None, weight)


def is_folder(path: Path, argument: str) -> bool | None:
    """Whether it is one; None where nothing is there.

    Raises Misconfigured, which names the argument, where that cannot be told: in a folder that may
    not be entered, under too long a name.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"{printable(argument)}: {os.strerror(error.errno or 0)}"
        raise Misconfigured(f"{why}; give a folder that can be opened") from error


@dataclass(frozen=True)
class Supply:
    """Folders for a request. donor: of the texts, where they do not lie beside the base."""

    members: tuple[Ingredient, ...]
    base: Ingredient | None
    donor: Path | None


class Pantry:
    """Members of a request, from the Hub where they are not folders.

    cache: everything that was fetched, named by repository and commit; safe to delete.
    """

    def __init__(self, hub: Hub, cache: Path, request: Request) -> None:
        self._hub, self._cache, self._request = hub, cache, request
        names = (*request.members, *([] if request.base is None else [request.base]))
        self._facts = {one: self._ask(one) for one in names if one.revision is not None}

    def _ask(self, one: Wanted) -> RepoFacts:
        assert one.revision is not None
        try:
            return self._hub.info(one.name, one.revision)
        except Gone as error:
            why = f"{error.why} on the Hub, and no folder of that name here"
            raise Gone(f"{one.name}@{one.revision}", why) from error

    @property
    def missing(self) -> tuple[RepoFacts, ...]:
        """Repositories that are not on this machine."""
        return tuple(f for f in self._facts.values() if not self._folder("models", f).is_dir())

    def outlined(self, room: Path) -> Supply:
        """The request with stand-ins for what is not here: real headers, sparse files behind.

        room: a folder for these stand-ins, which the caller removes.
        """
        return self._supply(lambda facts: self._outline(facts, room))

    def fetched(self) -> Supply:
        """The request with everything downloaded. Raises Transient, Gone, Rejected, Refused."""
        return self._supply(self._fetch)

    def _supply(self, folder_of: Callable[[RepoFacts], Path]) -> Supply:
        def ingredient(one: Wanted) -> Ingredient:
            weight = str(one.weight)
            if one not in self._facts:
                folder = Path(one.name).absolute()
                return Ingredient(folder, weight, one.name, "", one.digest)
            facts = self._facts[one]
            return Ingredient(folder_of(facts), weight, facts.repo, facts.sha, one.digest)

        base = None if self._request.base is None else ingredient(self._request.base)
        members = tuple(ingredient(one) for one in self._request.members)
        return Supply(members, base, self._donor())

    def _donor(self) -> Path | None:
        """Texts of a base on the Hub, or of the first full checkpoint in its place."""
        for one in [self._request.base] if self._request.base else self._request.members:
            if one not in self._facts:
                if not is_adapter(Path(one.name)):
                    return None
            elif not lists_adapter(root_files(self._facts[one])):
                facts = self._facts[one]
                files = [file for file in facts.files if file.path in (*TRUSTED, *TEXTS)]
                if not files:
                    return None
                folder = self._folder("texts", facts)
                folder.parent.mkdir(parents=True, exist_ok=True)
                self._hub.fetch(facts.repo, facts.sha, files, folder)
                return folder
        return None

    def _fetch(self, facts: RepoFacts) -> Path:
        folder = self._folder("models", facts)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            self._hub.fetch(facts.repo, facts.sha, self._files(facts), folder)
        return folder

    def _outline(self, facts: RepoFacts, room: Path) -> Path:
        here = self._folder("models", facts)
        if here.is_dir():
            return here
        folder = room / here.name
        if folder.is_dir():
            return folder
        folder.mkdir()
        for file in self._files(facts):
            tensors = file.path.endswith(".safetensors")
            source = self._hub.read_header if tensors else self._hub.read_bytes
            limit = file.size if tensors else MAX_TOKENIZER
            with (folder / file.path).open("xb") as stream:
                stream.write(source(facts.repo, facts.sha, file.path, limit))
                stream.truncate(file.size)
        return folder

    def _files(self, facts: RepoFacts) -> list[FileFact]:
        """Tensors, their index, and what is compared. Raises Refused."""
        names = root_files(facts)
        if lists_adapter(names):
            wanted = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
            return [names[name] for name in wanted if name in names]
        try:
            weight_map = read_weight_map(self._hub, facts)
        except Refused as refused:
            raise refused.about(facts.repo) from refused
        weights = with_index(facts, weight_files(facts, weight_map))
        return [*weights, *(names[name] for name in COMPARED if name in names)]

    def _folder(self, kind: str, facts: RepoFacts) -> Path:
        return self._cache / kind / f"{facts.repo.replace('/', '--')}@{facts.sha}"
