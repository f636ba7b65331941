"""Every hostile folder is refused with its own code, quickly, without running anything."""

import importlib.util
import json
import time
import tracemalloc
from pathlib import Path

import pytest

from merge.checkpoint import MAX_CONFIG, MAX_TOKENIZER, parse_json, read_layout, read_small
from merge.compat import compare_configs, compare_layouts, compare_tokenizers
from merge.errors import Refused

_spec = importlib.util.spec_from_file_location("hostile_make", Path(__file__).with_name("make.py"))
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def inspect(folder: Path, base: Path) -> list[Refused]:
    """All that admission looks at, in its order; the first family that objects answers."""
    try:
        reasons = compare_layouts(read_layout(base), read_layout(folder))
        config = parse_json(read_small(folder / "config.json", MAX_CONFIG), "config.json")
        tokenizer = parse_json(read_small(folder / "tokenizer.json", MAX_TOKENIZER), "tokenizer")
    except Refused as refused:
        return [refused]
    reasons += compare_configs(make.CONFIG, config)
    return reasons + compare_tokenizers(make.TOKENIZER, tokenizer)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make.write_base(folder)
    return folder


@pytest.mark.parametrize("name", make.CASES)
def test_refused_with_its_code(name, tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, fill = make.CASES[name]
    fill(tmp_path / name)
    started = time.process_time()
    reasons = inspect(tmp_path / name, base)
    assert time.process_time() - started < 1.0
    assert reasons, "nothing was refused"
    assert reasons[0].code is code, str(reasons[0])
    assert str(reasons[0]).isprintable()
    assert len(str(reasons[0])) < 1500
    assert not (tmp_path / "PWNED").exists()


def test_the_base_itself_passes(base, tmp_path):
    assert inspect(base, base) == []
    make.write_sharded(tmp_path / "sharded")
    assert inspect(tmp_path / "sharded", base) == []


@pytest.mark.parametrize("name", ["million-empty-lists", "more-tensors-than-any-model"])
def test_memory_stays_small(name, tmp_path):
    make.CASES[name][1](tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            read_layout(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_stray_files_beside_an_index_are_ignored(tmp_path):
    make.write_sharded(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"stale")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"stale")
    (tmp_path / "pytorch_model.bin").write_bytes(b"stale")
    assert set(read_layout(tmp_path).tensors) == set(make.SHAPES)


def test_corpus_is_large_and_json_free_of_code(tmp_path):
    assert len(make.CASES) >= 60
    assert json.loads(json.dumps(make.CONFIG)) == make.CONFIG
