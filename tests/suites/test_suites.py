"""A benchmark folder is read exactly, or refused with file, line and reason."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.suites import Item, Kind, Suite, SuiteError, items, load_suite
from merge.splits import Split

ITEM = {"id": "add-1", "cluster": "1+1", "prompt": "1+1=", "answer": "2"}


def write(folder, categories=None, rows=None, **changes):
    """A folder with one exact category `add`, changed where the test says so."""
    folder.mkdir(exist_ok=True)
    entry = {"name": "add", "kind": "exact", "items": "add.jsonl"}
    suite = {"name": "demo", "version": "1", "licence": "CC0-1.0", "source": "made here"}
    suite |= {"categories": [entry] if categories is None else categories} | changes
    (folder / "suite.json").write_text(json.dumps(suite))
    lines = [json.dumps(row) for row in (rows or [ITEM])]
    (folder / "add.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_reads_all_three_kinds(tmp_path):
    folder = write(
        tmp_path,
        [
            {"name": "add", "kind": "exact", "items": "add.jsonl"},
            {"name": "pick", "kind": "choice", "items": "pick.jsonl", "description": "one of two"},
            {"name": "tell", "kind": "generate", "items": "tell.jsonl", "until": ["."]},
        ],
    )
    choice = {"id": "p", "cluster": "p", "prompt": "?", "choices": ["a", "b"], "gold": 1}
    (folder / "pick.jsonl").write_text(json.dumps(choice))
    (folder / "tell.jsonl").write_text(json.dumps(ITEM | {"id": "t"}) + "\n\n")
    suite = load_suite(folder)
    assert [c.kind for c in suite.categories] == [Kind.EXACT, Kind.CHOICE, Kind.GENERATE]
    add, pick, tell = suite.categories
    assert add.items == (Item("add-1", "1+1", "1+1=", "2"),)
    assert pick.items == (Item("p", "p", "?", "b", ("a", "b"), 1),)
    assert (tell.until, tell.max_tokens) == ((".",), 64)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answer": ""}, "'answer' must be a non-empty text"),
        ({"cluster": 3}, "'cluster' must be a non-empty text"),
        ({"prompt": "1+1= "}, "'prompt' must not end in white space"),
        ({"hint": "x"}, "unknown key 'hint'"),
        ({"gold": 0}, "do not belong to kind exact"),
    ],
)
def test_a_bad_item_is_named_by_file_and_line(tmp_path, row, reason):
    folder = write(tmp_path, rows=[ITEM, ITEM | {"id": "add-2"} | row])
    with pytest.raises(SuiteError, match=reason) as caught:
        load_suite(folder)
    assert (caught.value.file, caught.value.line) == (folder / "add.jsonl", 2)
    assert str(caught.value).startswith(f"{folder / 'add.jsonl'}, line 2: ")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": ["a"], "gold": 0}, "at least two"),
        ({"choices": ["a", "a"], "gold": 0}, "different"),
        ({"choices": ["a", "b"], "gold": 2}, "index below 2"),
        ({"choices": ["a", "b"], "gold": True}, "index below 2"),
        ({"choices": ["a", "b"], "gold": 0, "answer": "b"}, "not the choice"),
    ],
)
def test_a_bad_choice_item_is_refused(tmp_path, row, reason):
    entry = {"name": "add", "kind": "choice", "items": "add.jsonl"}
    folder = write(tmp_path, [entry], [{"id": "1", "cluster": "1", "prompt": "?"} | row])
    with pytest.raises(SuiteError, match=reason):
        load_suite(folder)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"kind": "guess"}, "'kind' must be one of exact, choice, generate"),
        ({"items": "../add.jsonl"}, "file name in the same folder"),
        ({"items": "gone.jsonl"}, "cannot be read"),
        ({"name": "a b"}, "category name"),
        ({"until": ["x"]}, "for kind generate"),
        ({"kind": "generate", "max_tokens": 0}, "positive"),
        ({"kind": "generate", "until": "x"}, "list of texts"),
        ({"weight": 1}, "unknown key 'weight'"),
    ],
)
def test_a_bad_category_is_refused(tmp_path, entry, reason):
    with pytest.raises(SuiteError, match=reason):
        load_suite(
            write(tmp_path, [{"name": "add", "kind": "exact", "items": "add.jsonl"} | entry])
        )


def test_other_faults(tmp_path):
    with pytest.raises(SuiteError, match="cannot be read"):
        load_suite(tmp_path / "nowhere")
    with pytest.raises(SuiteError, match="at least one entry"):
        load_suite(write(tmp_path, categories=[]))
    with pytest.raises(SuiteError, match="item id 'add-1' appears twice"):
        load_suite(write(tmp_path, rows=[ITEM, ITEM]))
    twice = [{"name": "add", "kind": "exact", "items": "add.jsonl"}] * 2
    with pytest.raises(SuiteError, match="category 'add' appears twice"):
        load_suite(write(tmp_path, twice))
    (tmp_path / "add.jsonl").write_text("")
    with pytest.raises(SuiteError, match="no items"):
        load_suite(tmp_path)
    (tmp_path / "add.jsonl").write_text("{")
    with pytest.raises(SuiteError, match="line 1: not JSON"):
        load_suite(tmp_path)
    (tmp_path / "suite.json").write_text("[]")
    with pytest.raises(SuiteError, match="must be a JSON object"):
        load_suite(tmp_path)


def test_digest_follows_what_is_measured_and_nothing_else(tmp_path):
    plain = load_suite(write(tmp_path / "a")).digest
    described = [{"name": "add", "kind": "exact", "items": "add.jsonl", "description": "sums"}]
    assert load_suite(write(tmp_path / "b", described, source="elsewhere")).digest == plain
    changed = [
        write(tmp_path / "c", rows=[ITEM | {"answer": "3"}]),
        write(tmp_path / "d", rows=[ITEM | {"cluster": "other"}]),
        write(tmp_path / "e", version="2"),
        write(tmp_path / "f", [described[0] | {"kind": "generate"}]),
        write(tmp_path / "g", [described[0] | {"kind": "generate", "until": ["!"]}]),
    ]
    digests = {load_suite(folder).digest for folder in changed}
    assert len(digests | {plain}) == len(changed) + 1


@given(seed=st.integers(0, 2**31), count=st.integers(3, 40))
def test_splits_share_out_every_item_once_and_no_cluster_twice(seed, count):
    suite = numbered(count)
    splits = suite.splits(seed)
    parts = [items(suite, splits, split)["n"] for split in Split]
    assert sorted(i.id for part in parts for i in part) == sorted(
        i.id for i in suite.categories[0].items
    )
    clusters = [{i.cluster for i in part} for part in parts]
    assert not clusters[0] & clusters[1]
    assert not clusters[0] & clusters[2]
    assert not clusters[1] & clusters[2]
    assert all(list(part) == sorted(part, key=lambda i: i.id) for part in parts)
    assert suite.splits(seed).digest == splits.digest


def numbered(count):
    from bot.suites import Category

    rng = random.Random(count)
    rows = [
        Item(f"{i:03}", f"cluster-{rng.randrange(count)}", f"{i}=", str(i)) for i in range(count)
    ]
    return Suite("s", "1", "CC0-1.0", "here", (Category("n", Kind.EXACT, tuple(rows)),))
