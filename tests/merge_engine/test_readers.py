"""Members' bytes for many threads: few files open, maps that are never written."""

import json
import os
import random
import threading
import warnings
from pathlib import Path

import checkpoints as zoo
import numpy as np
import pytest
import torch

from merge.direct import PAGE, room
from merge.errors import Code, Refused
from merge.jobs import Term
from merge.plan import open_source
from merge.readers import MappedReader, Reader, open_files

NAMES = [f"w{i}" for i in range(12)]


@pytest.fixture
def member(tmp_path):
    return zoo.save(tmp_path / "m", zoo.tensors(0, shapes=dict.fromkeys(NAMES, (5000,))), shards=12)


def terms(source):
    return [Term(0, source.layout.tensors[name], 1) for name in NAMES]


def test_few_files_serve_many_threads_that_want_them_all(member):
    source, state = open_source(member), zoo.load(member)
    reader = Reader([source], most=2)
    wrong, most = [], []

    def work(seed):
        draw, into = random.Random(seed), room(10_000 + 2 * PAGE)
        for _ in range(200):
            term = draw.choice(terms(source))
            if reader.read(term, 0, 5000, into).tobytes() != zoo.raw(state[term.spec.name]):
                wrong.append(term)
            most.append(len(reader._open))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert wrong == []
    assert max(most) <= 2 + 6  # beside those in use


def test_open_files_stay_below_half_of_what_the_process_may():
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft < 0 or 2 * open_files() <= max(2, soft // 2)


def test_maps_are_read_only_and_torch_does_not_mind(member):
    source, state = open_source(member), zoo.load(member)
    reader = MappedReader([source])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for term in terms(source):
            found = torch.from_numpy(reader.read(term, 0, 5000, room(0)))
            assert found.numpy().tobytes() == zoo.raw(state[term.spec.name])
            assert permissions(found.data_ptr()) == "r--s"


def permissions(address):
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.split()[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            return line.split()[1]
    raise AssertionError("nowhere")


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    size = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 1.5) // 2 * 2
    entry = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "m").mkdir()
    with open(tmp_path / "m/model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)  # takes no disk
    source = open_source(tmp_path / "m")
    reader = MappedReader([source])
    last = Term(0, source.layout.tensors["w"], 1)
    assert not reader.read(last, size // 2 - 10, 10, room(20)).any()


def test_a_map_that_is_too_short_is_a_change(member):
    source = open_source(member)
    term = terms(source)[0]
    beyond = term.spec.count + 10**6
    with pytest.raises(Refused) as caught:
        MappedReader([source]).read(term, 0, beyond, np.empty(0, np.uint8))
    assert caught.value.code is Code.CHANGED
