"""Carry out a plan block by block: one thread per core, fixed buffers, bytes written in place.

Blocks are handed out in the order of the output's bytes, each together with a free output buffer,
so the earliest unfinished block always has one and hashing in file order cannot starve. Inputs are
read with pread into aligned buffers: private memory stays small, a file cut short is an error
rather than a SIGBUS. Writes are at most 1 MiB per call: larger ones were up to ten times slower
on ext4 in a virtual machine, which allocates huge folios for them.

Not promised: anything about a folder after a failure; `merge.soup` throws it away.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from merge import kernel
from merge.checkpoint import BITS, TensorSpec, open_regular
from merge.errors import Code, Refused
from merge.fingerprint import fingerprint
from merge.plan import Job, Kind, SoupPlan, Source, Term

PIECE = 1 << 20
MEMORY = 100_000_000
"""Bytes of buffers of all threads together; many members or threads mean smaller blocks."""
OPEN_FILES = 64

TORCH: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """Elements start : start + count of a job."""

    number: int
    job: Job
    start: int
    count: int


class Order:
    """Rank of every source by content digest, computed when a block first needs it."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._digests = {k: s.digest for k, s in enumerate(sources) if s.digest is not None}

    def sorted(self, terms: tuple[Term, ...]) -> list[int]:
        """Positions of `terms` in summing order; reads the members if digests are unknown."""
        with self._lock:
            for term in terms:
                if term.source not in self._digests:
                    folder = self._sources[term.source].folder
                    self._digests[term.source] = fingerprint(folder, threads=1)
        return sorted(range(len(terms)), key=lambda i: self._digests[terms[i].source])


class Reader:
    """Reads parts of tensors; one per thread, keeps a few files open."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        self._open: dict[tuple[int, str], int] = {}

    def read(self, term: Term, start: int, into: Tensor) -> None:
        """Fill `into` (uint8) with bytes from element `start` on. Raises Refused: `changed`."""
        begin = term.spec.begin + start * BITS[term.spec.dtype] // 8
        view = into.numpy().data
        if os.preadv(self._file(term), [view], begin) != len(view):
            raise self._changed(term)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _file(self, term: Term) -> int:
        key = term.source, term.spec.file
        if key not in self._open:
            if len(self._open) >= OPEN_FILES:
                self.close()
            source = self._sources[term.source]
            fd = self._open[key] = open_regular(source.folder / term.spec.file)
            if os.fstat(fd).st_size != source.layout.file_size(term.spec.file):
                raise self._changed(term)
        return self._open[key]

    def _changed(self, term: Term) -> Refused:
        name = self._sources[term.source].name
        return Refused(
            Code.CHANGED,
            f"{name}: {term.spec.file}",
            "changed its size since the plan",
            "plan again",
        )


class Mixer:
    """Computes blocks; one per thread, all memory allocated at the start."""

    def __init__(self, plan: SoupPlan, size: int, order: Order) -> None:
        self._plan, self._order = plan, order
        self._reader = Reader(plan.sources)
        self._space = kernel.Space(size)
        most = max((len(job.terms) for job in plan.jobs), default=1)
        self._buffers = [torch.empty(size * 8, dtype=torch.uint8) for _ in range(most)]

    def close(self) -> None:
        self._reader.close()

    def compute(self, block: Block, out: Tensor) -> None:
        """Put the block's bytes into `out` (uint8, exactly as long). Raises Refused."""
        match block.job.kind:
            case Kind.MIX:
                self._mix(block, out.view(TORCH[_placed(block.job).dtype]))
            case Kind.COPY:
                self._copy(block, out)
            case Kind.SAME:
                self._same(block, out)
            case Kind.TIED:
                self._tied(block)

    def _mix(self, block: Block, out: Tensor) -> None:
        terms = block.job.terms
        inputs = [self._floats(i, term, block) for i, term in enumerate(terms)]
        ranges = [self._finite(x, term, block) for x, term in zip(inputs, terms, strict=True)]
        whole = [term.numerator for term in terms]
        if not kernel.order_free(ranges, whole):
            order = self._order.sorted(terms)
            inputs, whole = [inputs[i] for i in order], [whole[i] for i in order]
            ranges = [ranges[i] for i in order]
        d = self._plan.denominator
        kernel.soup_block(inputs, whole, d, out, self._space)
        if (
            kernel.may_overflow(ranges, whole, d, out.dtype)
            and not kernel.magnitudes(out, self._space).finite
        ):
            raise Refused(
                Code.NON_FINITE, f"soup: {_placed(block.job).name}",
                f"a sum is too large for {_placed(block.job).dtype}", "ask for a wider dtype",
            )  # fmt: skip

    def _copy(self, block: Block, out: Tensor) -> None:
        term = block.job.terms[0]
        self._reader.read(term, block.start, out)
        self._finite(out.view(TORCH[term.spec.dtype]), term, block)

    def _same(self, block: Block, out: Tensor) -> None:
        first, *others = block.job.terms
        self._reader.read(first, block.start, out)
        for term in others:
            if not torch.equal(self._bytes(0, term, block), out):
                name = self._plan.sources[term.source].name
                raise Refused(
                    Code.WRONG_BUFFERS, f"{name}: {term.spec.name}",
                    f"differs from {self._plan.sources[first.source].name}",
                    "buffers that are not averaged must be equal",
                )  # fmt: skip

    def _tied(self, block: Block) -> None:
        head, embedding = block.job.terms
        one, other = self._floats(0, head, block), self._floats(1, embedding, block)
        if not torch.equal(one.double(), other.double()):
            name = self._plan.sources[head.source].name
            raise Refused(
                Code.UNTIED_HEAD, f"{name}: {head.spec.name}",
                f"differs from {embedding.spec.name}, to which the soup ties it",
                "use an untied base, or a member whose head equals its embedding",
            )  # fmt: skip

    def _floats(self, i: int, term: Term, block: Block) -> Tensor:
        return self._bytes(i, term, block).view(TORCH[term.spec.dtype])

    def _bytes(self, i: int, term: Term, block: Block) -> Tensor:
        into = self._buffers[i][: block.count * BITS[term.spec.dtype] // 8]
        self._reader.read(term, block.start, into)
        return into

    def _finite(self, x: Tensor, term: Term, block: Block) -> kernel.Magnitudes:
        found = kernel.magnitudes(x, self._space)
        if not found.finite:
            name = self._plan.sources[term.source].name
            end = block.start + block.count
            raise Refused(
                Code.NON_FINITE, f"{name}: {term.spec.name}",
                f"NaN or infinity among elements {block.start}:{end}", "leave this member out",
            )  # fmt: skip
        return found


class Hasher:
    """SHA-256 of every output file from blocks that arrive in any order; no second read."""

    def __init__(self, plan: SoupPlan, free: queue.SimpleQueue[Tensor | None], on: bool) -> None:
        self.sums = {file.name: hashlib.sha256(file.header) for file in plan.files}
        self.seconds = 0.0
        self._free, self._on = free, on
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[str, Tensor, Tensor]] = {}
        self._next, self._busy = 0, False

    def offer(self, number: int, file: str, filled: Tensor, buffer: Tensor) -> None:
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
            self.sums[item[0]].update(item[1].numpy().data)
            self.seconds += time.perf_counter() - started
            self._free.put(item[2])

    def _take(self) -> tuple[str, Tensor, Tensor] | None:
        with self._lock:
            item = self._waiting.pop(self._next, None)
            if item is None:
                self._busy = False
            else:
                self._next += 1
            return item


def run(
    plan: SoupPlan,
    folder: Path,
    order: Order,
    *,
    threads: int,
    hashed: bool,
    block: int = kernel.BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Hasher:
    """Compute all blocks of `plan` into the files that lie preallocated in `folder`."""
    return _Run(plan, folder, order, threads, hashed, block, progress).run()


class _Run:
    def __init__(
        self,
        plan: SoupPlan,
        folder: Path,
        order: Order,
        threads: int,
        hashed: bool,
        block: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.plan, self.order, self.progress, self.threads = plan, order, progress, threads
        most = max((len(job.terms) for job in plan.jobs), default=1)
        self.size = max(1024, min(block, MEMORY // (threads * 8 * (most + 6))))
        self.todo = blocks(plan, self.size)
        self.total, self.done = sum(b.nbytes for b in _outs(plan)), 0
        self.lock, self.reporting = threading.Lock(), threading.Lock()
        self.failure: BaseException | None = None
        self.free: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()
        for _ in range(3 * threads):
            self.free.put(torch.empty(self.size * 8, dtype=torch.uint8))
        self.hasher = Hasher(plan, self.free, hashed)
        self.files = {f.name: os.open(folder / f.name, os.O_WRONLY) for f in plan.files}

    def run(self) -> Hasher:
        before = torch.get_num_threads()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        except BaseException as interrupt:  # noqa: BLE001 - raised again below
            self._fail(interrupt)
            for worker in workers:
                worker.join()
        finally:
            torch.set_num_threads(before)
            for fd in self.files.values():
                os.close(fd)
        if self.failure is not None:
            raise self.failure
        return self.hasher

    def _work(self) -> None:
        torch.set_num_threads(1)  # one thread per core already; intra-op threads only spin
        mixer = Mixer(self.plan, self.size, self.order)
        try:
            while (task := self._next()) is not None:
                self._do(mixer, *task)
        except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(failure)
        finally:
            mixer.close()

    def _next(self) -> tuple[Block, Tensor] | None:
        """The next block with a buffer of its own, in order, or None when there is no more."""
        with self.lock:
            buffer = self.free.get()
            block = next(self.todo, None)
            if buffer is None or block is None or self.failure is not None:
                self.free.put(None)
                return None
            return block, buffer

    def _do(self, mixer: Mixer, block: Block, buffer: Tensor) -> None:
        spec = block.job.out
        if spec is None:
            mixer.compute(block, buffer)
            self.free.put(buffer)
            return
        item = BITS[spec.dtype] // 8
        filled = buffer[: block.count * item]
        mixer.compute(block, filled)
        write(self.files[spec.file], filled, spec.begin + block.start * item)
        self.hasher.offer(block.number, spec.file, filled, buffer)
        if self.progress is not None:
            with self.reporting:
                self.done += len(filled)
                self.progress(self.done, self.total)

    def _fail(self, failure: BaseException) -> None:
        if self.failure is None:
            self.failure = failure
        self.free.put(None)  # wakes whoever waits for a buffer; `_next` passes it on


def blocks(plan: SoupPlan, size: int) -> Iterator[Block]:
    """All blocks of at most `size` elements, in the order of the output's bytes."""
    number = 0
    for job in plan.jobs:
        for start in range(0, job.count, size):
            yield Block(number, job, start, min(size, job.count - start))
            number += 1


def write(fd: int, data: Tensor, offset: int) -> None:
    """pwrite all of `data` (uint8) in pieces of at most 1 MiB."""
    view = data.numpy().data
    while view:
        written = os.pwrite(fd, view[:PIECE], offset)
        view, offset = view[written:], offset + written


def _outs(plan: SoupPlan) -> Iterator[TensorSpec]:
    return (job.out for job in plan.jobs if job.out is not None)


def _placed(job: Job) -> TensorSpec:
    assert job.out is not None, "only checks have no output"
    return job.out
