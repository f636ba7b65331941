"""Past the page cache or through it: the same bytes, whatever the file system can do."""

import errno
import os
import random
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge import direct
from merge.direct import PAGE, PHASE, Input, Output, Way, room

SIZE = 9 * PAGE + 123


@pytest.fixture(scope="module", params=["disk", "memory"])
def folder(request, tmp_path_factory):
    """On the disk, and where there is nothing behind the cache."""
    if request.param == "disk":
        yield tmp_path_factory.mktemp("direct")
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no file system in memory at /dev/shm")
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def file(folder):
    path = folder / "input"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


def forget(path):
    """Have the page cache drop what it holds of a file, as far as it can."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def opened(path):
    return Input(os.open(path, os.O_RDONLY))


def is_cached(path):
    reader = opened(path)
    reader.close()
    return reader.cached


@given(
    begin=st.integers(0, SIZE + PAGE),
    size=st.integers(0, 4 * PAGE),
    align=st.sampled_from([1, 2, 4, 8]),
    cold=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_part_is_read_whether_the_cache_has_it_or_not(file, begin, size, align, cold):
    if cold:
        forget(file)
    reader = opened(file)
    found = reader.read(begin, size, room(size + 2 * PAGE), align)
    reader.close()
    assert found.tobytes() == file.read_bytes()[begin : begin + size]
    assert not len(found) or found.ctypes.data % align == 0


def test_what_the_cache_has_not_stays_out_of_it(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(bytes(64 << 20))
    forget(path)
    reader = opened(path)
    if reader._direct is None:
        reader.close()
        pytest.skip("no direct reads here, or a file system that keeps all in memory")
    for begin in range(0, 64 << 20, 1 << 20):
        assert len(reader.read(begin, 1 << 20, room((1 << 20) + 2 * PAGE))) == 1 << 20
    assert not direct._mostly_cached(reader._fd)
    reader.close()
    path.read_bytes()
    warm = opened(path)
    assert warm._direct is None
    warm.close()


def test_where_the_cache_cannot_be_asked_it_is_used(tmp_path):
    """Systems forbid the question or do not know it; a folder answers with an error too."""
    folder = opened(tmp_path)
    assert folder.cached
    assert folder._direct is None
    folder.close()


def test_what_is_known_of_a_file_is_not_asked_again(file):
    forget(file)
    for known in (True, False):
        again = Input(os.open(file, os.O_RDONLY), known)
        assert again.cached is known
        assert again.read(5, PAGE, room(3 * PAGE)).tobytes() == file.read_bytes()[5 : PAGE + 5]
        again.close()


def test_unaligned_elements_are_moved_to_where_they_can_be_used(file):
    forget(file)
    reader = opened(file)
    found = reader.read(PAGE + 3, 2 * PAGE, room(4 * PAGE), align=8)
    assert found.ctypes.data % 8 == 0
    assert found.tobytes() == file.read_bytes()[PAGE + 3 : 3 * PAGE + 3]
    reader.close()


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, 5 * PAGE, 5 * PAGE + 1, SIZE])
def test_parts_written_in_any_order_by_many_threads_make_the_file(folder, size, durable):
    path, data = folder / "output", np.random.default_rng(size).bytes(size)
    path.write_bytes(bytes(size))
    output, parts = Output(path, Way(durable)), list(range(0, size, 2 * PAGE))
    random.Random(size).shuffle(parts)

    def work(some):
        buffer = room(2 * PAGE)
        for begin in some:
            part = np.frombuffer(data[begin : begin + 2 * PAGE], np.uint8)
            buffer[: len(part)] = part
            output.write(buffer[: len(part)], begin)

    threads = [threading.Thread(target=work, args=(parts[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    output.sync()
    output.close()
    assert path.read_bytes() == data


GB = 1e9
"""Bytes a second, below: of the soup through the cache, of the soup past it, and of one write."""


def simulate(cache, past, write, size=1 << 30, piece=1 << 20):
    """Seconds that a soup takes; its speeds may depend on the bytes done. Ways taken, in order."""
    way, now, ways = Way(durable=False), 0.0, []
    for done in range(0, size, piece):
        ways.append(way.past)
        speed = (past if way.past else cache)(done)
        now += piece / speed
        way.wrote(piece, way.past, now - piece / write(done), now)
    return now, ways


def steady(speed):
    return lambda done: speed


SWIFT, SLOW = steady(3 * GB), steady(0.6 * GB)  # of one write, with memory at hand and without it


def test_a_swift_cache_is_all_that_is_used():
    assert not any(simulate(steady(2 * GB), steady(9 * GB), SWIFT)[1])


@pytest.mark.parametrize(("cache", "past"), [(0.6, 2.0), (0.6, 0.7), (0.6, 0.05), (2.0, 0.4)])
def test_a_slow_cache_is_compared_and_the_faster_way_kept(cache, past):
    seconds, ways = simulate(steady(cache * GB), steady(past * GB), SLOW)
    assert ways[0] is False
    assert any(ways)
    best = (1 << 30) / (max(cache, past) * GB)
    assert seconds < 1.12 * best + 2 * PHASE / (cache * GB)


def test_memory_that_comes_to_an_end_is_noticed():
    def ends(speeds):
        return lambda done: speeds[done >= 1 << 29] * GB

    _, ways = simulate(ends((2, 0.5)), steady(1.8 * GB), ends((3, 0.6)))
    assert not any(ways[:512])
    assert sum(ways[512:]) > 0.85 * 512


def test_a_way_that_was_slow_for_once_is_taken_again():
    def pause(done):
        return (0.2 if 1 << 28 <= done < 1 << 29 else 2.0) * GB

    _, ways = simulate(steady(0.8 * GB), pause, SLOW, size=1 << 32)
    assert sum(ways[256:512]) < 0.2 * 256
    assert sum(ways[-1024:]) > 0.95 * 1024


def test_what_began_before_a_change_says_nothing_of_the_way_after_it():
    way, now = Way(durable=False), 0.0
    while not way.past:
        now += 1e-3
        way.wrote(1 << 20, False, now - 1e-3, now)
    for _ in range(4):
        now += 60
        way.wrote(1 << 20, False, now - 60, now)
    for _ in range(PHASE // (1 << 20) + 1):
        now += 0.9e-3
        way.wrote(1 << 20, True, now - 0.9e-3, now)
    assert way.past


@pytest.mark.parametrize("past", [True, False])
def test_a_write_goes_the_way_that_is_open(tmp_path, past):
    path, buffer = tmp_path / "output", room(16 * PAGE)
    path.write_bytes(bytes(16 * PAGE))
    forget(path)
    output = Output(path, Way(durable=past))
    if output._direct is None or is_cached(path):
        output.close()
        pytest.skip("no direct writes here, or a file system that keeps all in memory")
    buffer[:] = 7
    output.write(buffer, 0)
    output.close()
    assert is_cached(path) is not past
    assert path.read_bytes() == b"\x07" * 16 * PAGE


def test_memory_that_a_disk_cannot_take_goes_through_the_cache(tmp_path):
    """A buffer that begins beside a page: direct access says EINVAL, yet the bytes arrive."""
    path = tmp_path / "output"
    path.write_bytes(bytes(2 * PAGE))
    output, data = Output(path, Way(durable=True)), room(3 * PAGE)[1 : 2 * PAGE + 1]
    data[:] = 9
    output.write(data, 0)
    output.write(data[:PAGE], PAGE)
    output.close()
    assert path.read_bytes() == b"\x09" * 2 * PAGE
    forget(path)
    reader = opened(path)
    assert reader.read(0, PAGE, room(4 * PAGE)[1:]).tobytes() == b"\x09" * PAGE
    reader.close()


def test_other_errors_are_not_hidden(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"")
    output = Output(path, Way(durable=True))
    output.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        output.write(room(PAGE), 0)
