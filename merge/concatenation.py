"""Adapted matrices of a live soup: all adapters as one product, and a proof that it rounds right.

With adapters k on one base W and other members m, the ranks of the adapters are concatenated:

    sum_k n_k (W + s_k B_k A_k) + sum_m n_m X_m
        =  (sum_k n_k) W + sum_m n_m X_m + [n_1 s_1 B_1 | n_2 s_2 B_2 | ...] [A_1; A_2; ...]

W is read once and one matrix product in fp64 replaces a loop over ranks. But the definition
(`merge.lora`, `merge.kernel`) fixes the order of every sum and a matrix product has none, so the
two values differ in their last bits; alone it would not be byte-equal to the exported soup. Hence
Ziv's test (ACM TOMS 17, 1991): the values differ by at most eps (`_bound`), so where all numbers
within eps of y round alike, so does the value of the definition. The other elements, exact ties
mostly, are computed again by the definition, one by one.

Measured with three adapters of rank 16, fp32 halves, on a bf16 matrix of 1024 x 1024: 53 elements
of an fp32 soup were in doubt and none of a bf16 soup; on one thread 4 to 6 times as fast as the
loop over ranks in numpy, with four adapters of rank 64 ten times. The loop of the compiled kernel
needs no proof and is twice as fast at 32 ranks in all, level at about 100; `worthwhile` takes the
faster of the two.

Not promised: speed where most elements are ties, as for adapters that change nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merge.checkpoint import BITS, TensorSpec
from merge.compiled import load
from merge.jobs import Job, Kind, Source, Term
from merge.kernel import TORCH, Space, round_into
from merge.lora import Adapter
from merge.mixer import Block
from merge.ranges import FORMATS
from merge.readers import MappedReader, Order

FEW = 96
"""Ranks of all adapters together."""


@dataclass(frozen=True, slots=True)
class Halves:
    """A pair in the dtype of its file. a: [r, in]; b: [out, r]; scale: s."""

    a: Tensor
    b: Tensor
    scale: float


class Concatenation:
    """Of one LiveSoup: `sources` and what reads them, `size` elements of a block at most."""

    def __init__(
        self, sources: Sequence[Source], order: Order, reader: MappedReader, size: int
    ) -> None:
        self._sources, self._order, self._reader, self._size = sources, order, reader, size
        self._halves: dict[tuple[int, str], Halves] = {}
        self._lock = threading.Lock()

    def rows(self, job: Job) -> int:
        """Rows of a block of this job; 0 where the job is none of ours."""
        ours = job.kind is Kind.MIX and job.out is not None and job.out.dtype != "F64"
        if not ours or not job.count or not self._ranks(job):
            return 0
        return self._size // job.terms[0].spec.shape[1]

    def worthwhile(self, job: Job) -> bool:
        """False where the kernel is faster with its loop over ranks."""
        return load() is None or self._ranks(job) > FEW

    def _ranks(self, job: Job) -> int:
        adapters = [self._sources[t.source].adapter for t in job.terms if self._adapts(t)]
        name = job.terms[0].spec.name
        return sum(one.pairs[name].a.shape[0] for one in adapters if one is not None)

    def compute(self, block: Block, denominator: int, out: Tensor) -> bool:
        """Put a block of whole rows into `out` (uint8).

        False where nothing could be proven for all of it: an input or a result is not finite.
        """
        assert block.job.out is not None
        dtype, terms = block.job.out.dtype, block.job.terms
        columns = terms[0].spec.shape[1]
        sums, largest = self._sum(block, columns)
        if not 2 * largest / denominator < FORMATS[dtype].largest:  # NaN is not smaller either
            return False
        sums.div_(denominator)
        ranks = sum(len(self._pair(t).a) for t in terms if self._adapts(t))
        places = _doubtful(sums, _bound(largest, ranks, len(terms)) / denominator, dtype)
        rounded = _rounded(sums, dtype, tiny=False)
        if len(places):
            exact = self._defined(block, places, columns)
            exact.div_(denominator)
            rounded[places] = _rounded(exact, dtype, tiny=True)
        out.copy_(rounded.view(torch.uint8))
        return True

    def _sum(self, block: Block, columns: int) -> tuple[Tensor, float]:
        """sum_k n_k x_k of a block, fp64 [n], and a bound of the sum of all magnitudes in it."""
        first, last = block.start // columns, (block.start + block.count) // columns
        total = torch.zeros(block.count, dtype=torch.float64)
        largest, left, right = 0.0, [], []
        for whole in self._merged(block.job.terms):
            x = self._plain(whole, block)
            # The base's numerators may cancel, the sizes of its parts do not.
            parts = sum(abs(t.numerator) for t in block.job.terms if self._same(t, whole))
            largest += parts * float(x.abs().max())
            total += x * float(whole.numerator)
        for term in block.job.terms:
            if self._adapts(term):
                halves = self._pair(term)
                left.append(halves.b[first:last].double() * (float(term.numerator) * halves.scale))
                right.append(halves.a.double())
        b, a = torch.cat(left, dim=1), torch.cat(right)  # [rows, R], [R, columns]
        total.view(-1, columns).addmm_(b, a)
        return total, largest + float((b.abs() @ a.abs().amax(dim=1)).max())

    def _defined(self, block: Block, places: Tensor, columns: int) -> Tensor:
        """sum_k n_k x_k of some elements of a block, in the order and with the roundings of the
        definition. places: [m], counted from the block's start. Returns fp64 [m]."""
        terms: Sequence[Term] = block.job.terms
        if len(terms) > 2:  # two commute
            terms = self._order.sorted(terms)
        row, column = (block.start + places) // columns, (block.start + places) % columns
        total = torch.zeros(0)
        for number, term in enumerate(terms):
            x = self._plain(term, block)[places]
            if self._adapts(term):
                halves = self._pair(term)
                product = torch.zeros_like(x)
                for j in range(len(halves.a)):
                    product += halves.b[row, j].double() * halves.a[j, column].double()
                x = x + product * halves.scale
            x = x * float(term.numerator)
            total = x if number == 0 else total + x
        return total

    def _merged(self, terms: Sequence[Term]) -> list[Term]:
        """One term for each tensor that is read, with the sum of its numerators."""
        found: list[Term] = []
        for term in terms:
            at = next((i for i, other in enumerate(found) if self._same(term, other)), None)
            if at is None:
                found.append(term)
            else:
                other = found[at]
                found[at] = Term(other.source, other.spec, other.numerator + term.numerator)
        return found

    def _same(self, one: Term, other: Term) -> bool:
        ours, theirs = (self._sources[term.source].folder for term in (one, other))
        return ours == theirs and one.spec == other.spec

    def _adapts(self, term: Term) -> bool:
        return self._sources[term.source].adapts(term.spec.name)

    def _plain(self, term: Term, block: Block) -> Tensor:
        """The block's elements of the tensor itself, fp64 [n]."""
        into = np.empty(block.count * BITS[term.spec.dtype] // 8, dtype=np.uint8)
        found = torch.from_numpy(self._reader.read(term, block.start, block.count, into))
        return found.view(TORCH[term.spec.dtype]).double()

    def _pair(self, term: Term) -> Halves:
        key = term.source, term.spec.name
        with self._lock:
            if key not in self._halves:
                adapter = self._sources[term.source].adapter
                assert adapter is not None
                pair = adapter.pairs[term.spec.name]
                a, b = _half(adapter, pair.a), _half(adapter, pair.b)
                self._halves[key] = Halves(a, b, pair.scale)
            return self._halves[key]


def _half(adapter: Adapter, spec: TensorSpec) -> Tensor:
    values = torch.from_numpy(adapter.rows(spec, 0, spec.shape[0]))
    return values.to(TORCH[spec.dtype])  # exact: it was read from that dtype


def _rounded(values: Tensor, dtype: str, *, tiny: bool) -> Tensor:
    """fp64 [n] to `dtype`; overwrites `values`."""
    rounded = torch.empty(len(values), dtype=TORCH[dtype])
    round_into(values, rounded, Space(len(values)), tiny=tiny)
    return rounded


def _doubtful(values: Tensor, eps: float, dtype: str) -> Tensor:
    """Places where a number within eps of the value may round otherwise. values: fp64 [n].

    Those within eps of the middle between two numbers of `dtype`, and those so small that other
    middles are near too: below 8 eps / 2^-fraction, where eps is a quarter of a step, or subnormal.
    """
    form = FORMATS[dtype]
    lost = 52 - form.fraction
    middle = values.view(torch.int64).bitwise_and(-1 << lost).bitwise_or_(1 << (lost - 1))
    near = middle.view(torch.float64).sub_(values).abs_() <= eps
    small = max(eps * 2.0 ** (form.fraction + 3), 2.0 ** (2 - form.bias))
    return (near | (values.abs() <= small)).nonzero().view(-1)


def _bound(largest: float, ranks: int, terms: int) -> float:
    """How far two fp64 evaluations of a sum may lie apart.

    On its way into either result a number passes at most `ranks` additions of products, `terms` of
    members, and 12 other roundings (scale, numerators, their sum, quotient, eps itself); each
    moves it by 2^-53 of at most `largest`, the sum of the magnitudes of all that is added. Twice
    that for both, and twice again for roundings of rounded values.
    """
    return 4 * (ranks + terms + 12) * 2.0**-53 * largest
