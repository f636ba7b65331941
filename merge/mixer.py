"""Carry out one block of one job: read, check, mix.

Not promised: that `out` is untouched after a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from merge import compiled
from merge.compat import FLOATS
from merge.compiled import Floats
from merge.definition import decode
from merge.direct import PAGE, Bytes, room
from merge.errors import Code, Refused
from merge.jobs import Job, Kind, Source, Term
from merge.lora import LowRank, Tiles, low_rank
from merge.ranges import Magnitudes, order_free
from merge.readers import MappedReader, Order, Reader

MEMORY = 100_000_000
"""Bytes of buffers of all threads together; many members or threads mean smaller blocks."""


Seen = dict[tuple[int, str, int, int], Magnitudes]


class Kernel(Protocol):
    """`merge.compiled.CompiledKernel` or `merge.kernel.TorchKernel`, which says what it does."""

    def mix(
        self,
        inputs: Sequence[Floats],
        numerators: Sequence[int],
        denominator: int,
        out: Floats,
        known: Sequence[Magnitudes] | None = None,
    ) -> list[Magnitudes]: ...

    def adapt(self, weight: Floats, parts: Iterable[LowRank], out: NDArray[np.float64]) -> None: ...


def choose_kernel(terms: int) -> Kernel:
    """The compiled kernel where it was built; torch, which costs a second to import, elsewhere."""
    library = compiled.load()
    if library is not None:
        return compiled.CompiledKernel(library, terms)
    from merge.kernel import TorchKernel

    return TorchKernel()


@dataclass(frozen=True, slots=True)
class Block:
    """Elements start : start + count of a job."""

    job: Job
    start: int
    count: int


class Mixer:
    """Computes blocks of at most `size` elements; one per thread, memory allocated once.

    terms: the most that any job has. tiles: shared by the mixers of one soup. seen: magnitudes by
    (source, tensor, first element, elements), kept where members are mixed many times.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: Order,
        reader: Reader | MappedReader,
        *,
        size: int,
        terms: int,
        tiles: Tiles,
        seen: Seen | None = None,
    ) -> None:
        self._sources, self._order, self._reader = sources, order, reader
        self._kernel, self._seen, self._size = choose_kernel(terms), seen, size
        self._tiles = tiles
        self._rooms = [room(size * 8 + 2 * PAGE) for _ in range(terms)]
        self._sums: dict[int, NDArray[np.float64]] = {}

    def compute(self, block: Block, denominator: int, out: Bytes) -> None:
        """Put the block's bytes into `out` (exactly as long). Raises Refused."""
        match block.job.kind:
            case Kind.MIX:
                self._mix(block, denominator, out)
            case Kind.COPY:  # n = d = 1: its bytes are copied and checked at once
                self._mix(block, block.job.terms[0].numerator, out)
            case Kind.SAME:
                self._same(block, out)
            case Kind.TIED:
                self._tied(block)

    def _mix(self, block: Block, denominator: int, out: Bytes) -> None:
        assert block.job.out is not None
        into = out, block.job.out.dtype
        terms = self._order.known(block.job.terms)
        ranges = self._sum(block, terms or block.job.terms, denominator, into)
        whole = [term.numerator for term in block.job.terms]
        if terms is None and not order_free(ranges[:-1], whole):
            terms = self._order.sorted(block.job.terms)
            ranges = self._sum(block, terms, denominator, into)
        if not ranges[-1].finite:
            raise _overflow(block.job)

    def _sum(
        self, block: Block, terms: Sequence[Term], denominator: int, out: Floats
    ) -> list[Magnitudes]:
        """Mix in the order of `terms`; magnitudes of these, then of the output."""
        inputs = [self._floats(i, term, block) for i, term in enumerate(terms)]
        whole = [term.numerator for term in terms]
        known = self._known(terms, block)
        ranges = self._kernel.mix(inputs, whole, denominator, out, known)
        for found, term in zip(ranges[:-1], terms, strict=True):
            if not found.finite:
                raise _non_finite(self._sources[term.source], term, block)
            if self._seen is not None:
                self._seen[term.source, term.spec.name, block.start, block.count] = found
        return ranges

    def _known(self, terms: Sequence[Term], block: Block) -> list[Magnitudes] | None:
        if self._seen is None:
            return None
        at = block.start, block.count
        found = [self._seen.get((t.source, t.spec.name, *at)) for t in terms]
        return None if None in found else [one for one in found if one is not None]

    def _same(self, block: Block, out: Bytes) -> None:
        first, *others = block.job.terms
        out[:] = self._bytes(0, first, block)
        # A buffer may mask by infinity; a number that is none means nothing.
        if first.spec.dtype in FLOATS and np.isnan(decode(out, first.spec.dtype)).any():
            raise _non_finite(self._sources[first.source], first, block)
        for term in others:
            if not np.array_equal(self._bytes(0, term, block), out):
                raise _unequal(self._sources[term.source], self._sources[first.source], term)

    def _tied(self, block: Block) -> None:
        head, embedding = block.job.terms
        one = decode(self._bytes(0, head, block), head.spec.dtype)
        other = decode(self._bytes(1, embedding, block), embedding.spec.dtype)
        if not np.array_equal(one, other):
            raise _untied(self._sources[head.source], head, embedding)

    def _floats(self, i: int, term: Term, block: Block) -> Floats:
        found, dtype = self._bytes(i, term, block), term.spec.dtype
        adapter = self._sources[term.source].adapter
        if adapter is None or term.spec.name not in adapter.pairs:
            return found, dtype
        parts = low_rank(adapter, term.spec.name, block.start, block.count, self._tiles)
        sums = self._adapted(i)[: block.count]
        self._kernel.adapt((found, dtype), parts, sums)
        return sums.view(np.uint8), "F64"

    def _adapted(self, i: int) -> NDArray[np.float64]:
        """For the adapted elements of one term; made when first needed."""
        if i not in self._sums:
            self._sums[i] = room(self._size * 8).view(np.float64)
        return self._sums[i]

    def _bytes(self, i: int, term: Term, block: Block) -> Bytes:
        return self._reader.read(term, block.start, block.count, self._rooms[i])


def blocks(jobs: Sequence[Job], size: int) -> Iterator[Block]:
    """Blocks of at most `size` elements in the order of the jobs."""
    for job in jobs:
        for start in range(0, job.count, size):
            yield Block(job, start, min(size, job.count - start))


def block_size(wanted: int, threads: int, terms: int) -> int:
    """Elements per block, so that all threads' buffers stay below MEMORY bytes.

    Eight bytes an element and term, if all are float64, and as much for outputs on their way.
    """
    return max(1024, min(wanted, MEMORY // (threads * 8 * (terms + 1))))


def most_terms(jobs: Sequence[Job], sources: Sequence[Source]) -> int:
    """Of one job; those of adapters count twice, since their elements need memory of their own."""
    return max((_weight(job, sources) for job in jobs), default=1)


def _weight(job: Job, sources: Sequence[Source]) -> int:
    return len(job.terms) + sum(sources[t.source].adapts(t.spec.name) for t in job.terms)


def _non_finite(source: Source, term: Term, block: Block) -> Refused:
    where = f"{block.start}:{block.start + block.count}"
    subject = f"{source.name}: {term.spec.name}"
    detail = f"NaN or infinity among elements {where}"
    return Refused(Code.NON_FINITE, subject, detail, "leave this member out")


def _overflow(job: Job) -> Refused:
    assert job.out is not None
    detail = f"a sum is too large for {job.out.dtype}"
    return Refused(Code.NON_FINITE, f"soup: {job.out.name}", detail, "ask for a wider dtype")


def _unequal(source: Source, other: Source, term: Term) -> Refused:
    subject = f"{source.name}: {term.spec.name}"
    remedy = "buffers that are not averaged must be equal"
    return Refused(Code.WRONG_BUFFERS, subject, f"differs from {other.name}", remedy)


def _untied(source: Source, head: Term, embedding: Term) -> Refused:
    return Refused(
        Code.UNTIED_HEAD, f"{source.name}: {head.spec.name}",
        f"differs from {embedding.spec.name}, to which the soup or the member's configuration "
        "ties it", "give a base and members that do not tie, or a head that equals its embedding",
    )  # fmt: skip
