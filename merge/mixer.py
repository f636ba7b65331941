"""Carry out one block of one job: read, check, mix.

Not promised: that `out` is untouched after a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merge import kernel
from merge.checkpoint import BITS
from merge.errors import Code, Refused
from merge.jobs import Job, Kind, Source, Term
from merge.lora import delta
from merge.readers import MappedReader, Order, Reader

MEMORY = 100_000_000
"""Bytes of buffers of all threads together; many members or threads mean smaller blocks."""

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


class Mixer:
    """Computes blocks of at most `size` elements; one per thread, memory allocated once.

    terms: the most that any job has. device: where sums are made; `out` of MIX and COPY must be
    there. seen: magnitudes by (source, tensor, element), kept where members are mixed many times.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: Order,
        reader: Reader | MappedReader,
        *,
        size: int,
        terms: int,
        device: torch.device | str = "cpu",
        seen: dict[tuple[int, str, int], kernel.Magnitudes] | None = None,
    ) -> None:
        self._sources, self._order, self._reader = sources, order, reader
        self._space = kernel.Space(size, device)
        self._device, self._seen = torch.device(device), seen
        self._buffers = [torch.empty(size * 8, dtype=torch.uint8) for _ in range(terms)]

    def close(self) -> None:
        self._reader.close()

    def compute(self, block: Block, denominator: int, out: Tensor) -> None:
        """Put the block's bytes into `out` (uint8, exactly as long). Raises Refused."""
        match block.job.kind:
            case Kind.MIX:
                assert block.job.out is not None
                self._mix(block, denominator, out.view(TORCH[block.job.out.dtype]))
            case Kind.COPY:
                self._copy(block, out)
            case Kind.SAME:
                self._same(block, out)
            case Kind.TIED:
                self._tied(block)

    def _mix(self, block: Block, denominator: int, out: Tensor) -> None:
        terms = block.job.terms
        inputs = [self._floats(i, term, block) for i, term in enumerate(terms)]
        ranges = [self._finite(x, term, block) for x, term in zip(inputs, terms, strict=True)]
        whole = [term.numerator for term in terms]
        if not kernel.order_free(ranges, whole):
            order = self._order.sorted(terms)
            inputs, whole = [inputs[i] for i in order], [whole[i] for i in order]
            ranges = [ranges[i] for i in order]
        tiny = kernel.may_be_tiny(ranges, denominator)
        kernel.soup_block(inputs, whole, denominator, out, self._space, tiny=tiny)
        risk = kernel.may_overflow(ranges, whole, denominator, out.dtype)
        if risk and not kernel.magnitudes(out, self._space).finite:
            raise _overflow(block.job)

    def _copy(self, block: Block, out: Tensor) -> None:
        term = block.job.terms[0]
        x = self._floats(0, term, block)
        self._finite(x, term, block)
        out.copy_(x.view(torch.uint8))

    def _same(self, block: Block, out: Tensor) -> None:
        first, *others = block.job.terms
        out.copy_(self._bytes(0, first, block))
        for term in others:
            if not torch.equal(self._bytes(0, term, block), out):
                raise _unequal(self._sources[term.source], self._sources[first.source], term)

    def _tied(self, block: Block) -> None:
        head, embedding = block.job.terms
        one, other = self._floats(0, head, block), self._floats(1, embedding, block)
        if not torch.equal(one.double(), other.double()):
            raise _untied(self._sources[head.source], head, embedding)

    def _floats(self, i: int, term: Term, block: Block) -> Tensor:
        found = self._bytes(i, term, block).view(TORCH[term.spec.dtype])
        adapter = self._sources[term.source].adapter
        if adapter is not None and term.spec.name in adapter.pairs:
            weight, name = found.double().numpy(), term.spec.name
            sums = delta(adapter, name, weight, block.start, term.spec.shape[1])
            found = torch.from_numpy(sums)
        return found if self._device.type == "cpu" else found.to(self._device)

    def _bytes(self, i: int, term: Term, block: Block) -> Tensor:
        into = self._buffers[i][: block.count * BITS[term.spec.dtype] // 8]
        return self._reader.read(term, block.start, into)

    def _finite(self, x: Tensor, term: Term, block: Block) -> kernel.Magnitudes:
        key = term.source, term.spec.name, block.start
        if self._seen is not None and key in self._seen:
            return self._seen[key]
        found = kernel.magnitudes(x, self._space)
        if not found.finite:
            raise _non_finite(self._sources[term.source], term, block)
        if self._seen is not None:
            self._seen[key] = found
        return found


def blocks(jobs: Sequence[Job], size: int) -> Iterator[Block]:
    """All blocks of at most `size` elements, in the order of the jobs."""
    number = 0
    for job in jobs:
        for start in range(0, job.count, size):
            yield Block(number, job, start, min(size, job.count - start))
            number += 1


def block_size(wanted: int, threads: int, terms: int) -> int:
    """Elements per block, so that all threads' buffers stay below MEMORY bytes."""
    return max(1024, min(wanted, MEMORY // (threads * 8 * (terms + 6))))


def most_terms(jobs: Sequence[Job]) -> int:
    return max((len(job.terms) for job in jobs), default=1)


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
        f"differs from {embedding.spec.name}, to which the soup ties it",
        "use an untied base, or a member whose head equals its embedding",
    )  # fmt: skip
