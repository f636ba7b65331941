"""Tokenizers compared as files: in little memory, and with the words of the parsed comparison."""

import io
import json
from fractions import Fraction
from pathlib import Path

import checkpoints as zoo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import Code, Refused
from merge.plan import plan_soup, refusals
from merge.scan import Scanner
from merge.vocabulary import compare_tokenizer_files, compare_tokenizers, open_tokenizer

HALF = Fraction(1, 2)
EMPTY = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}

texts = st.text(alphabet='ab,"\\]}[{: \nä▁😀', max_size=5)
numbers = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)
indents = st.sampled_from([None, 0, 1])


class Slow(io.BytesIO):
    """A file that gives little at a time, wherever that cuts a character or a number."""

    def read(self, size=-1):
        return super().read(min(size, 7))


files = st.sampled_from([Slow, io.BytesIO])


def scanner(value, indent, file):
    return Scanner(file(json.dumps(value, indent=indent, ensure_ascii=False).encode()))


@given(st.lists(values, max_size=30), indents, files)
def test_arrays_are_read_in_batches(value, indent, file):
    text = scanner(value, indent, file)
    assert [entry for batch in text.items() for entry in batch] == value
    text.end()


@given(st.dictionaries(texts, numbers | texts, max_size=30), indents, files)
def test_objects_are_read_in_batches_or_key_by_key(value, indent, file):
    batches = scanner(value, indent, file)
    assert dict(pair for batch in batches.pairs() for pair in batch) == value
    batches.end()
    single = scanner(value, indent, file)
    assert {key: single.value() for key in single.keys()} == value  # noqa: SIM118 - no mapping
    single.end()


@given(st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()[:-1]), files)
def test_what_is_no_json_is_an_error(raw, file):
    try:
        json.loads(raw.decode())
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - of any kind
            read_all(Scanner(file(raw)))


def read_all(text):
    match text.next():
        case "[":
            list(text.items())
        case "{":
            list(text.pairs())
        case _:
            text.value()
    text.end()


def test_a_batch_costs_no_time_that_grows_with_what_is_in_an_entry():
    entries = [[0] * 20] * 30_000  # more commas in each than are tried
    text = scanner(entries, None, io.BytesIO)
    assert sum(len(batch) for batch in text.items()) == len(entries)


tokens = st.dictionaries(texts, st.integers(0, 9), max_size=6)
bpe = st.builds(
    lambda vocab, merges: {"type": "BPE", "vocab": vocab, "merges": merges},
    tokens, st.lists(st.lists(texts, min_size=2, max_size=2) | st.just("a b"), max_size=4),
)  # fmt: skip
unigram = st.builds(
    lambda pieces: {"type": "Unigram", "vocab": [list(piece) for piece in pieces]},
    st.lists(st.tuples(texts, st.floats(-9, 0)), max_size=6),
)
added = st.lists(st.builds(lambda c, i: {"content": c, "id": i}, texts, st.integers(0, 9)))
tokenizers = st.builds(
    lambda model, more: {"model": model, "added_tokens": more}, bpe | unigram, added
)


@given(tokenizers, tokenizers, indents)
def test_files_are_compared_as_parsed_ones_are(tmp_path_factory, one, other, indent):
    room = tmp_path_factory.mktemp("pair")
    found = compare_tokenizer_files(written(room, "one", one), written(room, "two", other, indent))
    assert list(map(str, found)) == list(map(str, compare_tokenizers(one, other)))
    assert bool(found) == (meaning(one) != meaning(other))


def written(room, name, value, indent=None):
    (room / name).mkdir()
    raw = value if isinstance(value, bytes) else json.dumps(value, indent=indent).encode()
    (room / name / "tokenizer.json").write_bytes(raw)
    return open_tokenizer(room / name)


def meaning(tokenizer):
    """What decides: ids by token, algorithm, merges and scores in their order."""
    model = tokenizer["model"]
    vocab, merges = model["vocab"], model.get("merges", [])
    ids = vocab if isinstance(vocab, dict) else {t: i for i, (t, _) in enumerate(vocab)}
    ids = ids | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    scores = [] if isinstance(vocab, dict) else [score for _, score in vocab]
    return ids, model["type"], scores, [m.split(" ") if isinstance(m, str) else m for m in merges]


def test_the_first_token_that_differs_is_named(tmp_path):
    one = {"model": {"type": "BPE", "vocab": {f"t{i:03}": i for i in range(500)}, "merges": []}}
    other = json.loads(json.dumps(one))
    other["model"]["vocab"] |= {"t300": 301, "t301": 300, "zz": 500}
    [reason] = compare_tokenizer_files(written(tmp_path, "a", one), written(tmp_path, "b", other))
    assert (reason.code, reason.subject) == (Code.VOCAB_MISMATCH, "t300")
    assert reason.detail == "id 301 instead of 300, one of 3 tokens that differ"


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b'{"model": {"vocab": {"a": 0, "b": 1, "a": 2}}}', "model.vocab"),
        (b'{"model": {"vocab": {"a": 0}, "vocab": {"a": 0}}}', "tokenizer.json"),
        (b'{"model": {"vocab": {"a": 0}}, "model": {"vocab": {"a": 0}}}', "tokenizer.json"),
        (b'{"model": {"vocab": {"a": -1}}}', "model.vocab"),
        (b'{"model": {"vocab": {"a": true}}}', "model.vocab"),
        (b'{"model": {"vocab": [["a", 0.5], ["b"]]}}', "model.vocab"),
        (b'{"model": {"vocab": {"a": 0}, "merges": [["a", 1]]}}', "model.merges"),
        (b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}', "added_tokens"),
        (b'{"model": {"vocab": {"a": 0}}, "added_tokens": [1]}', "added_tokens"),
        (b'{"model": {"vocab": {"a": 0}}} 1', "tokenizer.json"),
        (b'{"model": {"vocab": {"a": 0},}}', "tokenizer.json"),
        (b'{"x": NaN}', "tokenizer.json"),
        (b"[]", "tokenizer.json"),
        (b'{"x": ' + b"[" * 10_000, "tokenizer.json"),
    ],
)
def test_entries_that_make_no_sense_are_refused(raw, subject, tmp_path):
    sane, odd = written(tmp_path, "sane", EMPTY), written(tmp_path, "odd", raw)
    [reason] = compare_tokenizer_files(sane, odd)
    assert (reason.code, reason.subject) == (Code.VOCAB_MISMATCH, subject)
    [reason] = compare_tokenizer_files(odd, sane)  # and then it is the base's fault
    assert (reason.code, reason.subject) == (Code.VOCAB_MISMATCH, f"base: {subject}")


def test_equal_bytes_are_not_looked_into(tmp_path):
    one, other = (written(tmp_path, name, b"junk") for name in "ab")
    assert compare_tokenizer_files(one, other) == []


def test_a_file_that_changes_while_it_is_compared_is_refused(tmp_path):
    sane, moved = written(tmp_path, "sane", EMPTY), written(tmp_path, "moved", EMPTY, 1)
    (tmp_path / "moved/tokenizer.json").write_text(json.dumps(EMPTY, indent=2))
    [reason] = compare_tokenizer_files(sane, moved)
    assert reason.code is Code.CHANGED


LOOK = """
folders = [Path(folder) for folder in sys.argv[1:]]
print(*refusals([(folder, Fraction(1, len(folders))) for folder in folders]))
"""


def peak(*folders: Path):
    """Highest private memory of a process that looks at members, and what it says."""
    return zoo.private_memory(LOOK, *folders)


def member(folder: Path, *parts: bytes):
    if not folder.exists():
        zoo.save(folder, zoo.tensors(0))
    with open(folder / "tokenizer.json", "wb") as file:
        for part in parts:
            file.write(part)
    return folder


def large(tokens, merges):
    """A tokenizer.json as large as the largest published ones."""
    words = [f"{'▁' * (i % 2)}{'token' * (i % 3)}{i:x}" for i in range(tokens)]
    pairs = [[words[i % tokens], words[i * 7 % tokens]] for i in range(merges)]
    vocab = {word: i for i, word in enumerate(words)}
    return {"model": {"type": "BPE", "vocab": vocab, "merges": pairs}, "added_tokens": []}


def test_memory_does_not_grow_with_the_members_tokenizers(tmp_path):
    text = json.dumps(large(262_144, 514_906), indent=1, ensure_ascii=False).encode()
    assert len(text) > 30_000_000
    memory, said = peak(*(member(tmp_path / f"m{i}", text, b" " * i) for i in range(2)))
    assert said == ""
    assert memory < 100_000_000


HOSTILE = {
    "lists": ([b'{"a":[', b"[]," * 33_000_000, b"1]}"], "no value within"),
    "a text": (['{"a":"😀'.encode(), b"a" * 99_000_000, b'"}'], "no value within"),
    "merges": ([b'{"model":{"merges":[', b'"",' * 33_000_000, b'""]}}'], "more than 2097152"),
    "keys": ([b"{", *(b'"%d":0,' % i for i in range(500_000)), b'"":0}'], "too many keys"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_tokenizer_made_to_fill_memory_is_refused_in_little(name, tmp_path):
    parts, detail = HOSTILE[name]
    sane = member(tmp_path / "sane", json.dumps(EMPTY).encode())
    memory, said = peak(sane, member(tmp_path / "odd", *parts))
    assert memory < 150_000_000
    assert "vocab-mismatch: odd: " in said
    assert detail in said


def test_vocabularies_that_differ_in_every_token_fit_too(tmp_path):
    most = 1 << 18  # a quarter of what a vocabulary may have
    for name in "ab":
        entries = ",".join(f'"{name}{i:x}":{i}' for i in range(most))
        member(tmp_path / name, b'{"model":{"vocab":{', entries.encode(), b"}}}")
    memory, said = peak(tmp_path / "a", tmp_path / "b")
    assert memory < 100_000_000
    assert f"b: a0: id None instead of 0, one of {2 * most} tokens" in said


def test_refusals_are_those_of_the_plan(tmp_path):
    for name, vocab in (("a", {"x": 0}), ("b", {"x": 1}), ("c", {"x": 0})):
        text = json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": []}})
        member(tmp_path / name, text.encode(), b" " * (name == "c"))
    good = [(tmp_path / "a", HALF), (tmp_path / "c", HALF)]
    assert refusals(good) == ()
    plan_soup(good)
    with pytest.raises(Refused) as caught:
        plan_soup([(tmp_path / "a", HALF), (tmp_path / "b", HALF)])
    assert caught.value.subject == "b: x"
