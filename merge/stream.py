"""Stream a plan into preallocated files: threads compute windows, write them, hash on the way.

Windows are handed out in the order of the output's bytes, each together with a free buffer, so the
earliest unfinished one always has one and hashing in file order cannot starve. There are a few more
threads than may compute at once, so that the disk has work too.

Not promised: anything about a folder after a failure; `merge.soup` throws it away.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from merge.direct import Bytes, Output, Way, room
from merge.journal import EVERY, Finished, Journal
from merge.lora import Tiles
from merge.mixer import Mixer, most_terms
from merge.plan import SoupPlan
from merge.readers import Order, Reader
from merge.threads import in_threads
from merge.windows import WINDOW, Window, window_size, windows

PIECE = 1 << 20
"""Bytes read at once where an earlier run's output is hashed."""
WAITING = 2
"""Threads beside those that may compute: of 1.1 GB on two cores 0.87 s with none, 0.65 with one,
0.61 with two, 0.65 with four."""
Progress = Callable[[int, int], None]


class Hasher:
    """SHA-256 of every output file from windows that arrive in any order; no second read."""

    def __init__(self, plan: SoupPlan, free: queue.SimpleQueue[Bytes | None], on: bool) -> None:
        self.sums = {file.name: hashlib.sha256() for file in plan.files}
        self.seconds = 0.0
        self._free, self._on = free, on
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Window, Bytes]] = {}
        self._next, self._busy = 0, False

    def catch_up(self, plan: SoupPlan, folder: Path, done: int) -> None:
        """Read back the first `done` bytes of the output, which an earlier run has written."""
        for file in plan.files if self._on else ():
            left = min(done, file.size)
            done -= left
            with open(folder / file.name, "rb", buffering=0) as stream:
                while left and (data := stream.read(min(PIECE, left))):
                    self.sums[file.name].update(data)
                    left -= len(data)

    def offer(self, window: Window, buffer: Bytes) -> None:
        """Take over `buffer`, which begins with the window's bytes; frees it when hashed."""
        if not self._on:
            self._free.put(buffer)
            return
        with self._lock:
            self._waiting[window.number] = window, buffer
            if self._busy:
                return
            self._busy = True
        while (item := self._take()) is not None:
            started = time.perf_counter()
            self.sums[item[0].file].update(item[1][: item[0].size].data)
            self.seconds += time.perf_counter() - started
            self._free.put(item[1])

    def _take(self) -> tuple[Window, Bytes] | None:
        with self._lock:
            item = self._waiting.pop(self._next, None)
            if item is None:
                self._busy = False
            else:
                self._next += 1
            return item


class Outputs:
    """The output files, each open from its first window to its last. durable: as in `Way`."""

    def __init__(self, plan: SoupPlan, folder: Path, done: int, durable: bool) -> None:
        self._folder, self._durable, self._way = folder, durable, Way(durable)
        self._lock = threading.Lock()
        self._open = dict[str, Output]()
        self._left = dict[str, int]()
        for file in plan.files:
            self._left[file.name] = file.size - min(done, file.size)
            done -= min(done, file.size)

    def write(self, window: Window, data: Bytes) -> None:
        with self._lock:
            if window.file not in self._open:
                self._open[window.file] = Output(self._folder / window.file, self._way)
            output = self._open[window.file]
        output.write(data, window.begin)
        with self._lock:
            self._left[window.file] -= window.size
            if not self._left[window.file]:
                if self._durable:
                    output.sync()
                self._open.pop(window.file).close()

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        with self._lock:
            for output in self._open.values():
                output.sync()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class Stream:
    """One pass over a plan, from where the journal of an earlier one ends; `run` once.

    threads: that compute at once. every: bytes between two lines of the journal. durable: whether
    the bytes must reach the disk.
    """

    def __init__(
        self,
        plan: SoupPlan,
        folder: Path,
        order: Order,
        *,
        threads: int,
        hashed: bool,
        durable: bool,
        journal: Journal | None = None,
        every: int = EVERY,
        window: int = WINDOW,
        progress: Progress | None = None,
    ) -> None:
        self._plan, self._order, self._progress = plan, order, progress
        self._threads, self._computing = threads + WAITING, threading.Semaphore(threads)
        self._terms = most_terms(plan.jobs, plan.sources)
        self._size = window_size(window, self._threads, self._terms)
        self._journal, self._done = journal, journal.done if journal is not None else 0
        self._finished = Finished(self._done, every)
        self._todo = windows(plan, self._size, self._done)
        self._total = sum(file.size for file in plan.files)
        self._taking, self._reporting = threading.Lock(), threading.Lock()
        self._free: queue.SimpleQueue[Bytes | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._folder, self._outputs = folder, Outputs(plan, folder, self._done, durable)
        self.hasher = Hasher(plan, self._free, hashed)
        self.resumed = self.journal_seconds = 0.0
        self._tiles, self._reader = Tiles(), Reader(plan.sources)

    def run(self) -> None:
        """Compute all windows into the files that lie preallocated in the folder."""
        started = time.perf_counter()
        self.hasher.catch_up(self._plan, self._folder, self._done)
        self.resumed = time.perf_counter() - started
        # Made by the calling thread, so that torch, where it is needed, is loaded by one alone.
        mixers = queue.SimpleQueue[Mixer]()
        for _ in range(self._threads):
            mixers.put(self._mixer())
        for _ in range(3 * self._threads):
            self._free.put(room(self._size))
        try:
            in_threads(self._threads, lambda: self._work(mixers.get()), self._stop)
        finally:
            self._outputs.close()
            self._reader.close()

    def _stop(self) -> None:
        self._stopped.set()
        self._free.put(None)

    def _mixer(self) -> Mixer:
        return Mixer(
            self._plan.sources, self._order, self._reader,
            size=self._size // 2,  # elements of the smallest float
            terms=self._terms, tiles=self._tiles,
        )  # fmt: skip

    def _work(self, mixer: Mixer) -> None:
        while (task := self._next()) is not None:
            self._do(mixer, *task)

    def _next(self) -> tuple[Window, Bytes] | None:
        """The next window with a buffer of its own, in order; None at the end or after a stop."""
        with self._taking:
            buffer = self._free.get()
            window = None if buffer is None else next(self._todo, None)
            if buffer is None or window is None or self._stopped.is_set():
                self._free.put(None)  # for the next thread
                return None
            return window, buffer

    def _do(self, mixer: Mixer, window: Window, buffer: Bytes) -> None:
        data = buffer[: window.size]
        with self._computing:
            data[: len(window.header)] = memoryview(window.header)
            for block in window.blocks:
                mixer.compute(block, self._plan.denominator, data[window.place(block)])
        if not window.file:
            self._free.put(buffer)
            return
        self._outputs.write(window, data)
        self.hasher.offer(window, buffer)
        self._note(window)

    def _note(self, window: Window) -> None:
        """Journal and progress. What only checks is checked again after a kill."""
        done = self._finished.add(window.number, window.size)
        if done is not None and self._journal is not None:
            started = time.perf_counter()
            self._journal.record(done, self._outputs.sync)
            self._finished.told()
            self.journal_seconds += time.perf_counter() - started
        if self._progress is not None:
            with self._reporting:
                self._done += window.size
                self._progress(self._done, self._total)
