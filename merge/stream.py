"""Stream a plan into preallocated files: one thread per core, fixed buffers, hashed on the way.

Blocks are handed out in the order of the output's bytes, each together with a free output buffer,
so the earliest unfinished block always has one and hashing in file order cannot starve. Writes are
at most 1 MiB per call: larger ones were up to ten times slower on ext4 in a virtual machine, which
allocates huge folios for them.

Not promised: anything about a folder after a failure; `merge.soup` throws it away.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from merge.checkpoint import BITS
from merge.journal import EVERY, Finished, Journal
from merge.mixer import Block, Mixer, block_size, blocks, most_terms
from merge.plan import SoupPlan
from merge.ranges import BLOCK
from merge.readers import Bytes, Order, Reader
from merge.threads import in_threads

PIECE = 1 << 20
Progress = Callable[[int, int], None]


class Hasher:
    """SHA-256 of every output file from blocks that arrive in any order; no second read."""

    def __init__(self, plan: SoupPlan, free: queue.SimpleQueue[Bytes | None], on: bool) -> None:
        self.sums = {file.name: hashlib.sha256(file.header) for file in plan.files}
        self.seconds = 0.0
        self._free, self._on = free, on
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[str, Bytes, Bytes]] = {}
        self._next, self._busy = 0, False

    def catch_up(self, plan: SoupPlan, folder: Path, done: int) -> None:
        """Read back the first `done` elements of the output, which an earlier run has written."""
        if self._on:
            for file, begin, end in _spans(plan, done):
                with open(folder / file, "rb", buffering=0) as stream:
                    stream.seek(begin)
                    while begin < end and (data := stream.read(min(PIECE, end - begin))):
                        self.sums[file].update(data)
                        begin += len(data)

    def offer(self, number: int, file: str, filled: Bytes, buffer: Bytes) -> None:
        """Take over `buffer`, whose part `filled` holds block `number`; frees it when hashed."""
        if not self._on:
            self._free.put(buffer)
            return
        with self._lock:
            self._waiting[number] = (file, filled, buffer)
            if self._busy:
                return
            self._busy = True
        while (item := self._take()) is not None:
            started = time.perf_counter()
            self.sums[item[0]].update(item[1].data)
            self.seconds += time.perf_counter() - started
            self._free.put(item[2])

    def _take(self) -> tuple[str, Bytes, Bytes] | None:
        with self._lock:
            item = self._waiting.pop(self._next, None)
            if item is None:
                self._busy = False
            else:
                self._next += 1
            return item


class Stream:
    """One pass over a plan, from where the journal of an earlier one ends; `run` once.

    every: bytes between two lines of the journal.
    """

    def __init__(
        self,
        plan: SoupPlan,
        folder: Path,
        order: Order,
        *,
        threads: int,
        hashed: bool,
        journal: Journal | None = None,
        every: int = EVERY,
        block: int = BLOCK,
        progress: Progress | None = None,
    ) -> None:
        self._plan, self._order, self._progress = plan, order, progress
        self._threads, self._terms = threads, most_terms(plan.jobs)
        self._size = block_size(block, threads, self._terms)
        self._journal, done = journal, journal.done if journal is not None else 0
        self._finished = Finished(done, every)
        self._todo = blocks(plan.jobs, self._size, done)
        self._done = sum(end - begin for _, begin, end in _spans(plan, done))
        self._total = sum(job.out.nbytes for job in plan.jobs if job.out)
        self._taking, self._reporting = threading.Lock(), threading.Lock()
        self._free: queue.SimpleQueue[Bytes | None] = queue.SimpleQueue()
        self._folder, self._files = folder, dict[str, int]()
        self.hasher = Hasher(plan, self._free, hashed)
        self.resumed = self.journal_seconds = 0.0

    def run(self) -> None:
        """Compute all blocks into the files that lie preallocated in the folder."""
        started = time.perf_counter()
        self.hasher.catch_up(self._plan, self._folder, self._finished.done)
        self.resumed = time.perf_counter() - started
        # Made by the calling thread, so that torch, where it is needed, is loaded by one alone.
        mixers = queue.SimpleQueue[Mixer]()
        for _ in range(self._threads):
            mixers.put(self._mixer())
        for _ in range(3 * self._threads):
            self._free.put(np.empty(self._size * 8, dtype=np.uint8))
        try:
            for file in self._plan.files:
                self._files[file.name] = os.open(self._folder / file.name, os.O_WRONLY)
            in_threads(
                self._threads, lambda: self._work(mixers.get()), stop=lambda: self._free.put(None)
            )
        finally:
            for fd in self._files.values():
                os.close(fd)

    def _mixer(self) -> Mixer:
        sources = self._plan.sources
        return Mixer(sources, self._order, Reader(sources), size=self._size, terms=self._terms)

    def _work(self, mixer: Mixer) -> None:
        try:
            while (task := self._next()) is not None:
                self._do(mixer, *task)
        finally:
            mixer.close()

    def _next(self) -> tuple[Block, Bytes] | None:
        """The next block with a buffer of its own, in order; None at the end or after a stop."""
        with self._taking:
            buffer = self._free.get()
            block = None if buffer is None else next(self._todo, None)
            if buffer is None or block is None:
                self._free.put(None)  # for the next thread
                return None
            return block, buffer

    def _do(self, mixer: Mixer, block: Block, buffer: Bytes) -> None:
        spec = block.job.out
        if spec is None:
            mixer.compute(block, self._plan.denominator, buffer)
            self._free.put(buffer)
            return
        item = BITS[spec.dtype] // 8
        filled = buffer[: block.count * item]
        mixer.compute(block, self._plan.denominator, filled)
        write(self._files[spec.file], filled, spec.begin + block.start * item)
        self.hasher.offer(block.number, spec.file, filled, buffer)
        self._note(block, len(filled))

    def _note(self, block: Block, size: int) -> None:
        """Journal and progress. A block that only checks is checked again after a kill."""
        done = self._finished.add(block.number, block.count, size)
        if done is not None and self._journal is not None:
            started = time.perf_counter()
            self._journal.record(done, self._files.values())
            self._finished.told()
            self.journal_seconds += time.perf_counter() - started
        if self._progress is not None:
            with self._reporting:
                self._done += size
                self._progress(self._done, self._total)


def write(fd: int, data: Bytes, offset: int) -> None:
    """pwrite all of `data` in pieces of at most 1 MiB."""
    view = data.data
    while view:
        written = os.pwrite(fd, view[:PIECE], offset)
        view, offset = view[written:], offset + written


def _spans(plan: SoupPlan, done: int) -> list[tuple[str, int, int]]:
    """(file, begin, end) of the bytes of the first `done` elements, one per file."""
    headers = {file.name: len(file.header) for file in plan.files}
    ends: dict[str, int] = {}
    for job in plan.jobs:
        if done <= 0 or job.out is None:
            break
        filled = min(done, job.count) * BITS[job.out.dtype] // 8
        ends[job.out.file] = job.out.begin + filled
        done -= job.count
    return [(file, headers[file], end) for file, end in ends.items()]
