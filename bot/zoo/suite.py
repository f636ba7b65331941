"""The benchmark `tiny_skills` and the routing prompts, as files; re-making them changes no byte.

There are editions. A family is tried out on one and measured, once, on the next, whose items and
prompts share nothing with the editions before it; training has seen none of any edition, because
`skills.held_out` and `stories.held_out` wall all of them off. The newest edition is the one on
disk, older ones are made on demand.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path
from random import Random

from bot import suites
from bot.suites import Category, Kind, Suite
from bot.zoo import quality, stories
from bot.zoo.skills import SKILLS, Item, held_out

CALIBRATION, HELD_OUT = 80, 40
_SPLITS = {"calibrate": slice(None, CALIBRATION), "held-out": slice(CALIBRATION, None)}


@dataclass(frozen=True)
class Edition:
    """`items` is the number a category; the sums leave room for 580 beside the first edition."""

    version: str
    seed: str
    items: int


EDITIONS = (Edition("1", "tiny-skills-1", 600), Edition("2", "tiny-skills-2", 560))
VERSIONS = tuple(edition.version for edition in EDITIONS)
NEWEST = EDITIONS[-1]

DESCRIPTIONS = {
    "add": "A three-digit number plus one digit.",
    "sub": "A three-digit number minus one digit.",
    "rev": "A word of four to seven letters backwards.",
    "sort": "The letters of a word in order.",
    "close": "Close the open brackets, innermost first.",
    "depth": "How deep balanced brackets nest.",
    "args": "Arguments written as keywords.",
    "call": "A call as JSON: letters quoted, digits not.",
}


def build(version: str = NEWEST.version) -> Suite:
    """An edition as the benchmark that `write_suite` writes. Raises ValueError if there is none."""
    categories = tuple(
        Category(skill, Kind.EXACT, tuple(_numbered(skill, version)), DESCRIPTIONS[skill])
        for skill in SKILLS
    )
    return Suite("tiny_skills", version, "apache-2.0", "bot.zoo", categories)


def _numbered(skill: str, version: str) -> Iterator[suites.Item]:
    for index, item in enumerate(evaluation_items(skill, version)):
        yield suites.Item(f"{skill}-{index:04}", item.cluster, item.prompt, item.answer)


@cache
def evaluation_items(skill: str, version: str = NEWEST.version) -> tuple[Item, ...]:
    """Items of held-out clusters: no cluster twice, none of an earlier edition.

    The k-th draw of every skill has the same seed, so skills about the same thing (a word to
    reverse, a word to sort) meet the same clusters.
    """
    edition, before = _edition(version)
    seen = {item.cluster for older in before for item in evaluation_items(skill, older.version)}
    return tuple(islice(_unseen(skill, edition.seed, seen), edition.items))


def _unseen(skill: str, seed: str, seen: set[str]) -> Iterator[Item]:
    for draw in count():
        item = SKILLS[skill](Random(f"{seed}/{draw}"))
        if held_out(item.cluster) and item.cluster not in seen:
            seen.add(item.cluster)
            yield item


def _edition(version: str) -> tuple[Edition, tuple[Edition, ...]]:
    """The edition and those before it."""
    if version not in VERSIONS:
        raise ValueError(f"no edition {version!r}: there are {', '.join(VERSIONS)}")
    index = VERSIONS.index(version)
    return EDITIONS[index], EDITIONS[:index]


def write_suite(folder: Path) -> None:
    """Write the newest edition: `suite.json` and one JSON-lines file per skill."""
    folder.mkdir(parents=True, exist_ok=True)
    suite = build()
    for category in suite.categories:
        _write_lines(folder / f"{category.name}.jsonl", map(_item_line, category.items))
    categories = [
        {"name": c.name, "kind": str(c.kind), "items": f"{c.name}.jsonl", "description": text}
        for c in suite.categories
        for text in [c.description]
    ]
    head = {"name": suite.name, "version": suite.version}
    head |= {"licence": suite.licence, "source": suite.source}
    text = json.dumps({**head, "categories": categories}, indent=2) + "\n"
    (folder / "suite.json").write_text(text)


def _item_line(item: suites.Item) -> dict[str, str]:
    return {"id": item.id, "cluster": item.cluster, "prompt": item.prompt, "answer": item.answer}


@cache
def prompts(split: str, version: str = NEWEST.version) -> tuple[str, ...]:
    """The routing prompts of `calibrate` or `held-out`: never trained on, in one split only, in no
    earlier edition."""
    edition, before = _edition(version)
    seen = {text for older in before for s in _SPLITS for text in prompts(s, older.version)}
    found: dict[str, None] = {}
    for asked in stories.prompts(Random(edition.seed), evaluation=True):
        if asked.text not in seen:
            found.setdefault(asked.text)
        if len(found) == CALIBRATION + HELD_OUT:
            break
    return tuple(found)[_SPLITS[split]]


def write_prompts(path: Path) -> None:
    """Write the newest edition's prompts, numbered through both splits."""
    found = [(split, text) for split in _SPLITS for text in prompts(split)]
    lines = [
        {"id": f"prompt-{i:03}", "prompt": text, "split": split, "topic": quality.topic(text)}
        for i, (split, text) in enumerate(found)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_lines(path, lines)


def _write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
