"""An output cut into windows: what is computed into one buffer, hashed, and written at once.

A window is a span of one output file from one multiple of its size to the next, whatever tensors
lie there. So writes begin at pages (`merge.direct` needs that), and many small tensors are one
write. An output tensor begins at a multiple of its element's size, and so does a window: no element
lies in two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby

from merge.checkpoint import BITS
from merge.direct import PAGE
from merge.jobs import Job
from merge.mixer import Block, block_size, blocks
from merge.plan import SoupPlan
from merge.shards import OutputFile

WINDOW = 1 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes begin : end of an output file. header: those of them that belong to its header.

    number: in the order of the output's bytes, from 0. file: "" for blocks that only check.
    """

    number: int
    file: str
    begin: int
    end: int
    header: bytes
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        return self.end - self.begin

    def place(self, block: Block) -> slice:
        """Where in the window the block's bytes belong."""
        out = block.job.out
        if out is None:
            return slice(0, 0)
        size = BITS[out.dtype] // 8
        begin = out.begin + block.start * size - self.begin
        return slice(begin, begin + block.count * size)


def window_size(wanted: int, threads: int, terms: int) -> int:
    """Bytes, whole pages, so that all threads' buffers stay below `merge.mixer.MEMORY`."""
    return max(PAGE, 2 * block_size(wanted // 2, threads, terms) // PAGE * PAGE)


def windows(plan: SoupPlan, size: int, done: int = 0) -> Iterator[Window]:
    """Windows of at most `size` bytes in the order of the output's bytes, without the first `done`.

    size, done: multiples of PAGE, or `done` where a file ends. What only checks comes last.
    """
    numbers = count()
    writing = [job for job in plan.jobs if job.out is not None]
    jobs = {name: list(found) for name, found in groupby(writing, key=_file)}
    for file in plan.files:
        yield from _cut(file, jobs.get(file.name, ()), size, min(done, file.size), numbers)
        done -= min(done, file.size)
    for block in blocks([job for job in plan.jobs if job.out is None], size // 2):
        yield Window(next(numbers), "", 0, 0, b"", (block,))


def _cut(
    file: OutputFile, jobs: Sequence[Job], size: int, begin: int, numbers: Iterator[int]
) -> Iterator[Window]:
    at = 0
    while begin < file.size:
        end = min(begin // size * size + size, file.size)
        found = []
        while at < len(jobs):
            out = jobs[at].out
            assert out is not None
            low, high = max(begin, out.begin), min(end, out.end)
            item = BITS[out.dtype] // 8
            if low < high:
                found.append(Block(jobs[at], (low - out.begin) // item, (high - low) // item))
            if out.end > end:
                break
            at += 1
        yield Window(next(numbers), file.name, begin, end, file.header[begin:end], tuple(found))
        begin = end


def _file(job: Job) -> str:
    assert job.out is not None
    return job.out.file
