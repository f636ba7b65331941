"""After writing: read the output back and recompute random parts of it by the definition.

Headers must say what the plan said; 1,000 random pieces of up to 1,024 elements are computed again
from the inputs with `merge.definition` and compared bit for bit. Different code, different reads:
a wrong offset, a torn write or a bad disk shows, unless it is rarer than the sample sees.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merge.arithmetic import plain_arithmetic
from merge.checkpoint import BITS, TensorSpec, open_regular, read_layout
from merge.definition import blend, decode, encode
from merge.errors import Code, Refused, changed
from merge.jobs import Kind, Source, Term
from merge.lora import Tiles, adapted, low_rank
from merge.mixer import Block
from merge.plan import SoupPlan
from merge.readers import Order

PIECES, PIECE = 1000, 1024


@plain_arithmetic()
def verify_soup(plan: SoupPlan, folder: Path, order: Order, *, pieces: int = PIECES) -> None:
    """Raise Refused (`verify-failed`) if the soup in `folder` is not what `plan` defines."""
    outs = {job.out.name: job.out for job in plan.jobs if job.out is not None}
    if outs and read_layout(folder).tensors != outs:
        raise _failed("header", "differs from the plan")
    jobs = [job for job in plan.jobs if job.out is not None and job.count]
    ends = list(accumulate(job.count for job in jobs))
    draw = random.Random()  # the caller's random numbers stay as they are
    places = [draw.randrange(ends[-1]) for _ in range(pieces if jobs else 0)]
    look = _Look(plan, folder, order, Tiles())
    for place in sorted(places):  # neighbours share tiles
        k = bisect_right(ends, place)
        start = place - (ends[k] - jobs[k].count)
        look.check(Block(jobs[k], start, min(PIECE, jobs[k].count - start)))


@dataclass(frozen=True, slots=True)
class _Look:
    plan: SoupPlan
    folder: Path
    order: Order
    tiles: Tiles

    def check(self, piece: Block) -> None:
        job = piece.job
        assert job.out is not None
        written = _read(self.folder, job.out, piece)
        known = self.order.known(job.terms)
        if written == self.defined(piece, known or job.terms):
            return
        # Only where terms taken as listed fail can the order of unknown digests be what decides.
        unsure = known is None and job.kind is Kind.MIX
        if not unsure or written != self.defined(piece, self.order.sorted(job.terms)):
            where = f"{piece.start}:{piece.start + piece.count}"
            raise _failed(job.out.name, f"elements {where} differ when recomputed")

    def defined(self, piece: Block, terms: Sequence[Term]) -> bytes:
        out = piece.job.out
        assert out is not None
        if piece.job.kind is not Kind.MIX:
            return _read(self.plan.sources[terms[0].source].folder, terms[0].spec, piece)
        members = [self.member(self.plan.sources[t.source], t.spec, piece) for t in terms]
        values = blend(members, [term.numerator for term in terms], self.plan.denominator)
        return encode(values, out.dtype)

    def member(self, source: Source, spec: TensorSpec, piece: Block) -> NDArray[np.float64]:
        weight = decode(_read(source.folder, spec, piece), spec.dtype)
        if source.adapter is None or not source.adapts(spec.name):
            return weight
        parts = low_rank(source.adapter, spec.name, piece.start, piece.count, self.tiles)
        return adapted(weight, parts)


def _read(folder: Path, spec: TensorSpec, piece: Block) -> bytes:
    size = BITS[spec.dtype] // 8
    fd = open_regular(folder / spec.file)
    try:
        raw = os.pread(fd, piece.count * size, spec.begin + piece.start * size)
    finally:
        os.close(fd)
    if len(raw) != piece.count * size:
        raise changed(spec.file)
    return raw


def _failed(subject: str, detail: str) -> Refused:
    return Refused(
        Code.VERIFY_FAILED, f"soup: {subject}", detail, "check memory and disk, then merge again"
    )
