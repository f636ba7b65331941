"""Windows are a partition of the output, wherever an earlier run ended."""

from fractions import Fraction
from itertools import pairwise

import checkpoints as zoo
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.checkpoint import BITS
from merge.direct import PAGE
from merge.soup import plan_soup
from merge.windows import window_size, windows

KINDS = [torch.bfloat16, torch.float32, torch.int64, torch.bool]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    root = tmp_path_factory.mktemp("windows")
    state = {f"t{i}": torch.zeros(1 + 577 * i % 4001, dtype=KINDS[i % 4]) for i in range(20)}
    state |= {"empty": torch.zeros(0, 3), "scalar": torch.zeros(())}
    return [zoo.save(root / f"m{i}", state) for i in range(2)]


@given(data=st.data(), pages=st.integers(1, 6), shard=st.sampled_from([3000, 40_000, 10**9]))
@settings(max_examples=60, deadline=None)
def test_every_byte_is_in_one_window_and_every_element_in_one_block(members, data, pages, shard):
    plan = plan_soup([(m, Fraction(1, 2)) for m in members], max_shard=shard)
    ends = [sum(f.size for f in plan.files[: i + 1]) for i in range(len(plan.files))]
    within = st.integers(0, ends[0] // PAGE).map(lambda n: n * PAGE)
    done = data.draw(st.one_of(within, st.sampled_from([0, *ends])))
    found = list(windows(plan, pages * PAGE, done))
    assert [window.number for window in found] == list(range(len(found)))
    assert sum(window.size for window in found) == ends[-1] - done
    for file in plan.files:
        mine = [window for window in found if window.file == file.name]
        assert all(one.end == other.begin for one, other in pairwise(mine))
        assert not mine or mine[-1].end == file.size
        for window in mine:
            assert window.begin % PAGE == 0
            assert window.size <= pages * PAGE
            assert window.header == file.header[window.begin : window.end]
            at = len(window.header)
            for block in window.blocks:
                place = window.place(block)
                assert place.start == at
                assert place.start % (BITS[block.job.out.dtype] // 8) == 0
                at = place.stop
            assert at == window.size


def test_buffers_stay_small_whatever_is_asked(members):
    assert window_size(1 << 20, 4, 4) == 1 << 20
    assert window_size(1, 1, 1) == PAGE
    assert window_size(1 << 30, 64, 100) % PAGE == 0
    for threads, terms in ((2, 4), (64, 100)):
        size = window_size(1 << 30, threads, terms)
        assert threads * 4 * size * (terms + 1) <= 100_000_000 or size == PAGE
