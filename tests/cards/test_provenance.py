"""Provenance survives the round trip exactly, and anything else is refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import provenance
from bot.provenance import (
    ComparisonRecord,
    Donor,
    FileDigest,
    GateRecord,
    Kind,
    Measured,
    Provenance,
    ProvenanceError,
    ScoreRecord,
    parse,
)

A, B, SHA = "a" * 64, "b" * 64, "0" * 40
RECIPE = (
    '{"base":{"repo":"tiny/base"},"members":[{"repo":"tiny/adder","weight":"2/5"}],"version":1}'
)


def soup():
    return Provenance(
        kind=Kind.SOUP,
        repo="stockpot/tiny-soup",
        version="v1",
        digest=A,
        recipe=json.loads(RECIPE),
        files={"README.md": FileDigest(B, 10), "model.safetensors": FileDigest(A, 2_500_000)},
        software={"torch": "2.13.0"},
        donor=Donor("tiny/base", SHA),
        measured=Measured("tiny-skills", "1", A, B, 7),
        scores=(ScoreRecord("soup", "add", 0.8, 0.0365, 120),),
        gate=GateRecord(
            look=1, level=0.0304, alpha=0.05, margin=0.0, best_member="tiny/adder",
            soups_tried=37, tune=0.84, report=0.82,
            comparisons=(ComparisonRecord("best member", 0.05, 0.01, 0.09, 0.9696),),
        ),
    )  # fmt: skip


def router():
    return Provenance(
        kind=Kind.ROUTER,
        repo="stockpot/tiny-router",
        version="v1",
        digest=B,
        recipe={"router": "p-punc", "threshold": 0.31},
        files={
            "custom_generate/generate.py": FileDigest(B, 10),
            ".gitattributes": FileDigest(A, 0),
        },
        software={},
    )


def spoiled(change):
    value = json.loads(soup().to_json())
    change(value)
    return json.dumps(value).encode()


def refusal(raw):
    """Why `raw` is refused, empty where it is not."""
    try:
        parse(raw)
    except ProvenanceError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("make", [soup, router])
def test_round_trip(make):
    text = make().to_json()
    assert parse(text.encode()) == make()
    assert parse(json.dumps(json.loads(text), indent=7).encode()).to_json() == text


def test_the_recipe_comes_back_as_canonical_text():
    assert parse(soup().to_json().encode()).recipe_json == RECIPE


def test_the_file_reads_well():
    text = soup().to_json()
    assert text.startswith('{\n  "digest": "aaaa')
    assert text.endswith("}\n")
    assert text.isascii()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema=2), "version 2 is newer than 1"),
        (lambda v: v.update(schema=0), "no version 0"),
        (lambda v: v.update(schema=True), "schema: missing"),
        (lambda v: v.pop("schema"), "schema: missing"),
        (lambda v: v.update(extra=1), "extra: "),
        (lambda v: v.pop("digest"), "digest: "),
        (lambda v: v.update(digest=A.upper()), "digest: "),
        (lambda v: v.update(digest=A + "\n"), "digest: "),
        (lambda v: v.update(kind="cake"), "kind: "),
        (lambda v: v.update(repo="a/x/y"), "repo: "),
        (lambda v: v.update(repo="../x"), "repo: "),
        (lambda v: v.update(recipe=[]), "recipe: "),
        (lambda v: v.update(files={}), "files: "),
        (lambda v: v["files"].update({"x": {"sha256": A}}), "files.x.size: "),
        (lambda v: v["files"].update({"x": {"sha256": A, "size": -1}}), "files.x.size: "),
        (lambda v: v["files"].update({"x": {"sha256": A, "size": True}}), "files.x.size: "),
        (lambda v: v["files"].update({"x": {"sha256": A, "size": 1.0}}), "files.x.size: "),
        (lambda v: v["files"].update({"x": {"sha256": A, "size": 2**80}}), "files.x.size: "),
        (lambda v: v["files"].update({"readme.md": {"sha256": A, "size": 1}}), "only by case"),
        (
            lambda v: v["files"].update({"provenance.json": {"sha256": A, "size": 1}}),
            "lists itself",
        ),
        (lambda v: v["donor"].update(sha="main"), "donor.sha: "),
        (lambda v: v.update(donor=None), "a soup needs donor"),
        (lambda v: v.update(scores=[], gate=None), "a soup needs gate"),
        (lambda v: v.update(scores=[]), "a soup needs scores"),
        (lambda v: v["scores"][0].update(value=80), "scores.0.value: "),
        (lambda v: v["scores"][0].update(value="0.8"), "scores.0.value: "),
        (lambda v: v["gate"].update(look=0), "gate.look: "),
        (lambda v: v.update(version="v1\n[x](y)"), "version: "),
    ],
)
def test_wrong_contents_are_refused_with_their_place(change, message):
    with pytest.raises(ProvenanceError) as refused:
        parse(spoiled(change))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../x", "a//x", "a/", "", ".", "..", "a\\x", "C:x", "a\nx", "x" * 600, "a/./b",
     "ä"],
)  # fmt: skip
def test_paths_stay_inside(path):
    with pytest.raises(ProvenanceError, match="not the path of a file"):
        parse(spoiled(lambda v: v["files"].update({path: {"sha256": A, "size": 1}})))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b'{"schema": 1, "schema": 1}', "occurs twice"),
        (b'{"schema": NaN}', "NaN is not JSON"),
        (b'{"schema": 1e999}', "not JSON"),
        (b'{"schema": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b" " * (provenance.MAX_BYTES + 1), "larger than"),
    ],
)
def test_broken_files_are_refused(raw, message):
    with pytest.raises(ProvenanceError, match=message):
        parse(raw)


def test_a_surrogate_or_a_deep_recipe_is_refused():
    text = soup().to_json()
    for inner in ('"\\ud800"', "[" * 500 + "]" * 500):
        with pytest.raises(ProvenanceError):
            parse(text.replace('"2/5"', inner).encode())


@given(st.data())
def test_no_damage_escapes_the_one_error(data):
    raw = bytearray(soup().to_json().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    message = refusal(bytes(raw))
    assert len(message) < 1000
    assert not message or message.isprintable()


def test_the_writer_is_as_strict_as_the_reader():
    with pytest.raises(ValueError, match="files"):
        Provenance(
            kind=Kind.ROUTER, repo="a/b", version="v1", digest=A, recipe={}, software={},
            files={"../x": FileDigest(A, 1)},
        )  # fmt: skip
