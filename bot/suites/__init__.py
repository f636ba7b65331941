"""Benchmarks as plain files: a folder with ``suite.json`` and one JSON-lines file per category.

``suite.json``::

    {"name": "...", "version": "1", "licence": "...", "source": "...",
     "categories": [{"name": "add", "kind": "exact", "items": "add.jsonl", "description": "..."}]}

One item per line; ``cluster`` names what must never be divided between two splits (the same
question asked twice, the same word in two forms)::

    {"id": "add-0001", "cluster": "add-12+7", "prompt": "12+7=", "answer": "19"}

Kinds: ``exact`` (the greedy continuation must be the answer), ``choice`` (``choices`` and the index
``gold`` in place of ``answer``; the likeliest choice wins), ``generate`` (free greedy text up to
``until``, at most ``max_tokens`` tokens, must equal the answer; both keys belong to the category).

Not promised: that the questions are good, or that no model was trained on them.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import cast

from merge.splits import Split, Splits, split_clusters

BUILTIN = Path(__file__).parent
SHARES = (0.4, 0.3, 0.3)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SUITE_KEYS = {"name", "version", "licence", "source", "categories"}
_CATEGORY_KEYS = {"name", "kind", "items", "description", "until", "max_tokens"}
_ITEM_KEYS = {"id", "cluster", "prompt", "answer", "choices", "gold"}


class SuiteError(ValueError):
    """A benchmark folder is wrong; says in which file, on which line, and why."""

    def __init__(self, file: Path, reason: str, line: int | None = None) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}{'' if line is None else f', line {line}'}: {reason}")


class Kind(StrEnum):
    """How an item is answered and marked."""

    EXACT = "exact"
    CHOICE = "choice"
    GENERATE = "generate"


@dataclass(frozen=True)
class Item:
    """One question. ``answer`` is the text that is right; a choice item has it at ``gold``."""

    id: str
    cluster: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    gold: int | None = None


@dataclass(frozen=True)
class Category:
    """Questions that are marked alike and counted together."""

    name: str
    kind: Kind
    items: tuple[Item, ...]
    description: str = ""
    until: tuple[str, ...] = ("\n",)
    max_tokens: int = 64


@dataclass(frozen=True)
class Suite:
    """One benchmark; ``digest`` names exactly what is measured."""

    name: str
    version: str
    licence: str
    source: str
    categories: tuple[Category, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of names, marking rules and items; free of file layout and descriptions."""
        measured = [self.name, self.version, [_measured(c) for c in self.categories]]
        text = json.dumps(measured, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def splits(self, seed: int, shares: Sequence[float] = SHARES) -> Splits:
        """Divide the clusters of all categories; the same seed and items give the same splits."""
        clusters = {c.name: [item.cluster for item in c.items] for c in self.categories}
        return split_clusters(clusters, seed=seed, shares=_three(shares))


def load_suite(source: Path | str) -> Suite:
    """Read a benchmark from its folder, or one that ships with the package by its name.

    Raises SuiteError, naming file, line and reason, on the first fault found.
    """
    folder = _folder(source)
    file = folder / "suite.json"
    raw = _object(file, _read(file), _SUITE_KEYS)
    listed = raw.get("categories")
    if not isinstance(listed, list) or not listed:
        raise SuiteError(file, "'categories' must be a list with at least one entry")
    categories = tuple(_category(folder, file, entry) for entry in listed)
    _refuse_twice(file, "category", [c.name for c in categories])
    _refuse_twice(file, "item id", [item.id for c in categories for item in c.items])
    name, version, licence, origin = (
        _text(file, raw, key) for key in ("name", "version", "licence", "source")
    )
    return Suite(name, version, licence, origin, categories)


def items(suite: Suite, splits: Splits, split: Split) -> Mapping[str, tuple[Item, ...]]:
    """The items of one split by category, in file order; a category may come out empty."""
    return {
        category.name: tuple(i for i in category.items if splits.assignment[i.cluster] == split)
        for category in suite.categories
    }


def _folder(source: Path | str) -> Path:
    name = str(source)
    shipped = BUILTIN / name.replace("-", "_")
    return shipped if _NAME.fullmatch(name) and shipped.is_dir() else Path(source)


def _category(folder: Path, file: Path, entry: object) -> Category:
    raw = _object(file, entry, _CATEGORY_KEYS)
    name = _text(file, raw, "name")
    if not _NAME.fullmatch(name):
        raise SuiteError(file, f"category name {name!r} must be letters, digits, '_', '.', '-'")
    if raw.get("kind") not in {*Kind}:
        raise SuiteError(file, f"category {name}: 'kind' must be one of {', '.join(Kind)}")
    kind = Kind(cast(str, raw["kind"]))
    data = _text(file, raw, "items")
    if Path(data).name != data:
        raise SuiteError(file, f"category {name}: 'items' must be a file name in the same folder")
    until, max_tokens = _stopping(file, name, kind, raw)
    found = tuple(_items(folder / data, kind))
    if not found:
        raise SuiteError(folder / data, "no items")
    return Category(name, kind, found, str(raw.get("description", "")), until, max_tokens)


def _stopping(
    file: Path, name: str, kind: Kind, raw: Mapping[str, object]
) -> tuple[tuple[str, ...], int]:
    if kind is not Kind.GENERATE and raw.keys() & {"until", "max_tokens"}:
        raise SuiteError(file, f"category {name}: 'until' and 'max_tokens' are for kind generate")
    until, max_tokens = raw.get("until", ["\n"]), raw.get("max_tokens", 64)
    if not isinstance(until, list) or not all(isinstance(u, str) and u for u in until):
        raise SuiteError(file, f"category {name}: 'until' must be a list of texts")
    if type(max_tokens) is not int or max_tokens < 1:
        raise SuiteError(file, f"category {name}: 'max_tokens' must be a positive whole number")
    return tuple(until), max_tokens


def _items(file: Path, kind: Kind) -> Iterator[Item]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(file, f"cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _item(file, number, kind, line)


def _item(file: Path, line: int, kind: Kind, text: str) -> Item:
    try:
        raw = _object(file, json.loads(text), _ITEM_KEYS, line)
    except json.JSONDecodeError as error:
        raise SuiteError(file, f"not JSON: {error.msg}", line) from error
    ident, cluster, prompt = (_text(file, raw, key, line) for key in ("id", "cluster", "prompt"))
    if prompt != prompt.rstrip():
        # The harness moves such spaces into the answer, so the item would not mean what it says.
        raise SuiteError(
            file, "'prompt' must not end in white space; begin the answer with it", line
        )
    if kind is Kind.CHOICE:
        choices, gold = _choices(file, raw, line)
        return Item(ident, cluster, prompt, choices[gold], choices, gold)
    if raw.keys() & {"choices", "gold"}:
        raise SuiteError(file, f"'choices' and 'gold' do not belong to kind {kind}", line)
    return Item(ident, cluster, prompt, _text(file, raw, "answer", line))


def _choices(file: Path, raw: Mapping[str, object], line: int) -> tuple[tuple[str, ...], int]:
    choices, gold = raw.get("choices"), raw.get("gold")
    if not isinstance(choices, list) or len(choices) < 2:
        raise SuiteError(file, "'choices' must list at least two texts", line)
    if not all(isinstance(c, str) and c for c in choices) or len(set(choices)) < len(choices):
        raise SuiteError(file, "'choices' must be different, non-empty texts", line)
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise SuiteError(file, f"'gold' must be an index below {len(choices)}", line)
    if raw.get("answer", choices[gold]) != choices[gold]:
        raise SuiteError(file, "'answer' is not the choice at 'gold'", line)
    return tuple(choices), gold


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(file, f"cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise SuiteError(file, f"not JSON: {error.msg}", error.lineno) from error


def _object(
    file: Path, raw: object, known: set[str], line: int | None = None
) -> Mapping[str, object]:
    if not isinstance(raw, dict):
        raise SuiteError(file, "must be a JSON object", line)
    if unknown := sorted(raw.keys() - known):
        raise SuiteError(file, f"unknown key {unknown[0]!r}", line)
    return raw


def _text(file: Path, raw: Mapping[str, object], key: str, line: int | None = None) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise SuiteError(file, f"{key!r} must be a non-empty text", line)
    return value


def _refuse_twice(file: Path, what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SuiteError(file, f"{what} {name!r} appears twice")
        seen.add(name)


def _measured(category: Category) -> list[object]:
    rows = [[i.id, i.cluster, i.prompt, i.answer, i.choices, i.gold] for i in category.items]
    stopping = [category.until, category.max_tokens] if category.kind is Kind.GENERATE else []
    return [category.name, category.kind, stopping, rows]


def _three(shares: Sequence[float]) -> tuple[float, float, float]:
    select, tune, report = shares
    return select, tune, report
