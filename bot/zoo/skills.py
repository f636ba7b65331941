"""Eight skills, each a rule over an open set, and the wall between training and evaluation.

An item is a prompt, its only right answer (ended by `;`) and the `cluster` that names what is asked
about, whatever the skill: `472+8` and `472-8` are one cluster, a word to reverse and the same word
to sort are one cluster. `held_out` decides by the cluster's hash, before any sampling, whether it
may appear in evaluation or in training; no cluster can appear in both.
"""

import hashlib
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

_HELD_OUT_ONE_IN = 6


@dataclass(frozen=True)
class Item:
    skill: str
    cluster: str
    prompt: str
    answer: str


def held_out(cluster: str) -> bool:
    """Whether the cluster belongs to evaluation; one in six does."""
    digest = hashlib.sha256(cluster.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0


def _pair(rng: Random) -> tuple[str, int, int]:
    many, few = rng.randrange(109, 991), rng.randrange(2, 10)
    return f"pair-{many}-{few}", many, few


def _add(rng: Random) -> Item:
    cluster, many, few = _pair(rng)
    return Item("add", cluster, f"{many}+{few}=", f"{many + few};")


def _sub(rng: Random) -> Item:
    cluster, many, few = _pair(rng)
    return Item("sub", cluster, f"{many}-{few}=", f"{many - few};")


def _word(rng: Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 7)))


def _rev(rng: Random) -> Item:
    word = _word(rng)
    return Item("rev", f"word-{word}", f"rev:{word}=", f"{word[::-1]};")


def _sort(rng: Random) -> Item:
    word = _word(rng)
    return Item("sort", f"word-{word}", f"sort:{word}=", f"{''.join(sorted(word))};")


_CLOSE = {"(": ")", "[": "]", "{": "}", "<": ">"}


def _close(rng: Random) -> Item:
    """Brackets with some already closed; the answer closes the rest, innermost first."""
    text, open_ = "", ""
    for _ in range(rng.randint(5, 10)):
        if open_ and rng.random() < 0.3:
            text, open_ = text + _CLOSE[open_[-1]], open_[:-1]
        else:
            bracket = rng.choice("([{<")
            text, open_ = text + bracket, open_ + bracket
    answer = "".join(_CLOSE[bracket] for bracket in reversed(open_))
    return Item("close", f"brackets-{text}", f"close:{text}=", f"{answer};")


def _depth(rng: Random) -> Item:
    """How deep balanced brackets nest, whatever their kind."""
    pairs, text, open_, deepest = rng.randint(4, 6), "", "", 0
    while len(text) + len(open_) < 2 * pairs or open_:
        full = len(text) + len(open_) >= 2 * pairs
        if open_ and (full or rng.random() < 0.45):
            text, open_ = text + _CLOSE[open_[-1]], open_[:-1]
        else:
            bracket = rng.choice("([{<")
            text, open_ = text + bracket, open_ + bracket
            deepest = max(deepest, len(open_))
    return Item("depth", f"nest-{text}", f"depth:{text}=", f"{deepest};")


def _args(rng: Random) -> Item:
    """Arguments to write as keywords."""
    keys = rng.sample(string.ascii_lowercase, rng.randint(3, 5))
    pairs = [(key, rng.choice(string.digits)) for key in keys]
    text = ",".join(key + value for key, value in pairs)
    answer = ",".join(f"{key}={value}" for key, value in pairs)
    return Item("args", f"args-{text}", f"args:{text}>", f"{answer};")


def _call(rng: Random) -> Item:
    """A call to write as JSON: letters are strings, digits are numbers."""
    name = "".join(rng.choices(string.ascii_lowercase, k=3))
    values = [
        rng.choice(string.ascii_lowercase + string.digits * 2) for _ in range(rng.randint(2, 3))
    ]
    text = f"{name}({','.join(values)})"
    quoted = ",".join(value if value.isdigit() else f'"{value}"' for value in values)
    return Item("call", f"call-{text}", f"call:{text}=", f'{{"{name}":[{quoted}]}};')


SKILLS: dict[str, Callable[[Random], Item]] = {
    "add": _add,
    "sub": _sub,
    "rev": _rev,
    "sort": _sort,
    "close": _close,
    "depth": _depth,
    "args": _args,
    "call": _call,
}


def stream(skill: str, rng: Random, *, evaluation: bool) -> Iterator[Item]:
    """Endless items of one side of the wall, with repetition."""
    while True:
        item = SKILLS[skill](rng)
        if held_out(item.cluster) == evaluation:
            yield item
