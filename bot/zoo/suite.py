"""The benchmark `tiny_skills` and the routing prompts, as files; re-making them changes no byte."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from random import Random

from bot.zoo import quality, stories
from bot.zoo.skills import SKILLS, Item, held_out

ITEMS = 600
CALIBRATION, HELD_OUT = 80, 40
_SEED = "tiny-skills-1"

DESCRIPTIONS = {
    "add": "A three-digit number plus one digit.",
    "sub": "A three-digit number minus one digit.",
    "rev": "A word of four or five letters backwards.",
    "sort": "The letters of a word in order.",
    "close": "Close the open brackets, innermost first.",
    "depth": "How deep balanced brackets nest.",
    "args": "Arguments written as keywords.",
    "call": "A call as JSON: letters quoted, digits not.",
}


def evaluation_items(skill: str, number: int = ITEMS) -> Iterator[Item]:
    """Items of held-out clusters, no cluster twice.

    The k-th draw of every skill has the same seed, so skills about the same thing (a word to
    reverse, a word to sort) meet the same clusters.
    """
    seen: set[str] = set()
    for draw in count():
        item = SKILLS[skill](Random(f"{_SEED}/{draw}"))
        if held_out(item.cluster) and item.cluster not in seen:
            seen.add(item.cluster)
            yield item
            if len(seen) == number:
                return


def write_suite(folder: Path) -> None:
    """Write `suite.json` and one JSON-lines file per skill."""
    folder.mkdir(parents=True, exist_ok=True)
    for skill in SKILLS:
        lines = [
            {"id": f"{skill}-{i:04}", "cluster": x.cluster, "prompt": x.prompt, "answer": x.answer}
            for i, x in enumerate(evaluation_items(skill))
        ]
        _write_lines(folder / f"{skill}.jsonl", lines)
    categories = [
        {"name": skill, "kind": "exact", "items": f"{skill}.jsonl", "description": text}
        for skill, text in DESCRIPTIONS.items()
    ]
    head = {"name": "tiny_skills", "version": "1", "licence": "apache-2.0", "source": "bot.zoo"}
    text = json.dumps({**head, "categories": categories}, indent=2) + "\n"
    (folder / "suite.json").write_text(text)


def write_prompts(path: Path) -> None:
    """Write the routing prompts: no training text has shown them, and none is in both splits."""
    found: dict[str, None] = {}
    for asked in stories.prompts(Random(_SEED), evaluation=True):
        found.setdefault(asked.text)
        if len(found) == CALIBRATION + HELD_OUT:
            break
    lines = [
        {
            "id": f"prompt-{i:03}",
            "prompt": text,
            "split": "calibrate" if i < CALIBRATION else "held-out",
            "topic": quality.topic(text),
        }
        for i, text in enumerate(found)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_lines(path, lines)


def _write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
