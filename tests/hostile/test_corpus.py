"""Every hostile folder is refused with its own code, quickly, without running anything."""

import importlib.util
import json
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest

from merge.checkpoint import MAX_CONFIG, MAX_TOKENIZER, parse_json, read_layout, read_small
from merge.compat import compare_configs, compare_layouts, compare_tokenizers
from merge.errors import Code, Refused
from merge.plan import plan_soup, refusals

_spec = importlib.util.spec_from_file_location("hostile_make", Path(__file__).with_name("make.py"))
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def inspect(folder: Path, base: Path) -> list[Refused]:
    """All that admission looks at, in its order; the first family that objects answers."""
    try:
        ours = read_layout(base)
        layout = read_layout(folder, max_tensors=4 * len(ours.tensors))
        reasons = compare_layouts(ours, layout)
        config = parse_json(read_small(folder / "config.json", MAX_CONFIG), "config.json")
        raw = read_small(folder / "tokenizer.json", MAX_TOKENIZER)
        tokenizer = parse_json(raw, "tokenizer", Code.VOCAB_MISMATCH)
    except Refused as refused:
        return [refused]
    reasons += compare_configs(make.CONFIG, config)
    return reasons + compare_tokenizers(make.TOKENIZER, tokenizer)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make.write_base(folder)
    return folder


@pytest.mark.parametrize("name", [name for name in make.CASES if "adapter-" not in name])
def test_refused_with_its_code(name, tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, fill = make.CASES[name]
    fill(tmp_path / name)
    started = time.process_time()
    reasons = inspect(tmp_path / name, base)
    assert time.process_time() - started < 1.0
    assert reasons, "nothing was refused"
    assert reasons[0].code is code, str(reasons[0])
    assert_printable(reasons)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("name", make.CASES)
def test_no_soup_is_planned_with_it(name, tmp_path, base):
    """Alone, and beside the base."""
    code, fill = make.CASES[name]
    fill(tmp_path / name)
    half, one = Fraction(1, 2), Fraction(1)
    for members in ([(tmp_path / name, one)], [(base, half), (tmp_path / name, half)]):
        reasons = refusals(members, reference=base)
        assert code in {reason.code for reason in reasons}
        assert all(reason.subject.startswith(f"{name}: ") for reason in reasons)
        assert_printable(reasons)
        with pytest.raises(Refused) as caught:
            plan_soup(members, reference=base)
        assert str(caught.value) == str(reasons[0])


def assert_printable(reasons):
    for reason in reasons:
        assert str(reason).isprintable()
        assert len(str(reason)) < 1500


def test_the_base_itself_passes(base, tmp_path):
    assert inspect(base, base) == []
    make.write_sharded(tmp_path / "sharded")
    assert inspect(tmp_path / "sharded", base) == []


@pytest.mark.parametrize(
    "name",
    ["million-empty-lists", "more-tensors-than-any-model", "a-million-notes", "index-of-numbers"],
)
def test_memory_stays_small(name, tmp_path):
    make.CASES[name][1](tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            read_layout(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_configuration_made_to_fill_memory_is_not_parsed(tmp_path, base):
    make.write_base(tmp_path / "odd")
    (tmp_path / "odd/config.json").write_bytes(b'{"a":[' + b"[]," * 3_000_000 + b"1]}")
    tracemalloc.start()
    try:
        [reason] = refusals([(base, Fraction(1, 2)), (tmp_path / "odd", Fraction(1, 2))])
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert (reason.code, reason.subject) == (Code.CONFIG_MISMATCH, "odd: config.json")


def test_stray_files_beside_an_index_are_ignored(tmp_path):
    make.write_sharded(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"stale")
    (tmp_path / "pytorch_model.bin").write_bytes(b"stale")
    assert set(read_layout(tmp_path).tensors) == set(make.SHAPES)


def test_corpus_is_large_and_json_free_of_code(tmp_path):
    assert len(make.CASES) >= 150
    assert json.loads(json.dumps(make.CONFIG)) == make.CONFIG
