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
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merge.checkpoint import BITS, TensorSpec, open_regular, read_layout
from merge.definition import blend, decode, encode
from merge.errors import Code, Refused
from merge.jobs import Job, Kind, Source, Term
from merge.lora import SINCE, Tiles, adapted, low_rank
from merge.plan import SoupPlan
from merge.readers import Order

PIECES, PIECE = 1000, 1024


def verify_soup(plan: SoupPlan, folder: Path, order: Order, *, pieces: int = PIECES) -> None:
    """Raise Refused (`verify-failed`) if the soup in `folder` is not what `plan` defines."""
    outs = {job.out.name: job.out for job in plan.jobs if job.out is not None}
    if outs and read_layout(folder).tensors != outs:
        raise _failed("header", "differs from the plan")
    jobs = [job for job in plan.jobs if job.out is not None and job.count]
    ends = list(accumulate(job.count for job in jobs))
    draw = random.Random()  # the caller's stream of random numbers stays as it is
    for _ in range(pieces if jobs else 0):
        position = draw.randrange(ends[-1])
        job = jobs[bisect_right(ends, position)]
        start = draw.randrange(job.count)
        _check(plan, job, start, min(PIECE, job.count - start), folder, order)


def _check(plan: SoupPlan, job: Job, start: int, count: int, folder: Path, order: Order) -> None:
    assert job.out is not None
    written = _read(folder, job.out, start, count)
    if written == _defined(plan, job, start, count, job.terms):
        return
    # Terms were taken as listed; only where that fails can the digests' order be what decides.
    if job.kind is not Kind.MIX or written != _defined(
        plan, job, start, count, order.sorted(job.terms)
    ):
        raise _failed(job.out.name, f"elements {start}:{start + count} differ when recomputed")


def _defined(plan: SoupPlan, job: Job, start: int, count: int, terms: Sequence[Term]) -> bytes:
    assert job.out is not None
    if job.kind is not Kind.MIX:
        return _read(plan.sources[terms[0].source].folder, terms[0].spec, start, count)
    members = [_member(plan.sources[term.source], term.spec, start, count) for term in terms]
    values = blend(members, [term.numerator for term in terms], plan.denominator)
    return encode(values, job.out.dtype)


def _member(source: Source, spec: TensorSpec, start: int, count: int) -> NDArray[np.float64]:
    weight = decode(_read(source.folder, spec, start, count), spec.dtype)
    if source.adapter is None or not source.adapts(spec.name):
        return weight
    # Pieces lie anywhere, so no tile would serve two of them.
    return adapted(weight, low_rank(source.adapter, spec.name, start, count, Tiles()))


def _read(folder: Path, spec: TensorSpec, start: int, count: int) -> bytes:
    size = BITS[spec.dtype] // 8
    fd = open_regular(folder / spec.file)
    try:
        raw = os.pread(fd, count * size, spec.begin + start * size)
    finally:
        os.close(fd)
    if len(raw) != count * size:
        raise Refused(Code.CHANGED, spec.file, *SINCE)
    return raw


def _failed(subject: str, detail: str) -> Refused:
    return Refused(
        Code.VERIFY_FAILED, f"soup: {subject}", detail, "check memory and disk, then merge again"
    )
