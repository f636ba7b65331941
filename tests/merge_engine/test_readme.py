"""The README's tables of entry points and codes are those of the code."""

import inspect
import re
from pathlib import Path

import merge
from merge.errors import Code

README = (Path(__file__).parents[2] / "README.md").read_text()
LIBRARY = README.split("| from `merge` |", 1)[1].split("Failures of the disk", 1)[0]


def test_every_code_is_listed_once():
    table = LIBRARY.split("| | codes |", 1)[1]
    assert sorted(re.findall(r"`([a-z-]+)`", table)) == sorted(map(str, Code))


def test_every_entry_point_is_public_and_takes_what_the_table_says():
    cells = re.findall(r"^\| (`.+?) \|", LIBRARY, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"(?:^|[ `])([A-Za-z_]+)(?=[`(])", cell)}
    assert {"plan_soup", "LiveSoup", "Recipe", "compare_tokenizers"} <= named
    assert named <= set(merge.__all__)
    for name, given in re.findall(r"`(\w+)\(([^)]*\*[^)]*)\)", LIBRARY):
        keywords = set(re.findall(r"(\w+)=", given))
        taken = inspect.signature(getattr(merge, name)).parameters
        assert keywords <= set(taken), name
        internal = {"window", "block", "every"}
        assert {p for p in taken if taken[p].kind == inspect.Parameter.KEYWORD_ONLY} - internal == (
            keywords
        ), name
