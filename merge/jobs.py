"""Which tensors of which members make which tensor of the soup, and how.

Not promised: that contents agree where headers do; the jobs that compare bytes say so when run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from pathlib import Path

from merge.checkpoint import BITS, Layout, TensorSpec
from merge.compat import FLOATS, derived, head_and_embedding, ties
from merge.errors import Code, Refused
from merge.lora import Adapter
from merge.vocabulary import Tokenizer


@dataclass(frozen=True, slots=True)
class Source:
    """One opened checkpoint. name: how refusals call it; digest: its content digest, if known;
    vocabularies: hashes of the files of older tokenizers.

    A member that is an adapter has the folder, layout and configuration of the base it lies on.
    """

    folder: Path
    name: str
    layout: Layout
    config: Mapping[str, object]
    tokenizer: Tokenizer | None
    digest: str | None = None
    adapter: Adapter | None = None
    vocabularies: Mapping[str, str] = field(default_factory=dict)

    def adapts(self, name: str) -> bool:
        """True if the member's tensor is the base's plus a low-rank product."""
        return self.adapter is not None and name in self.adapter.pairs


@dataclass(frozen=True, slots=True)
class Term:
    """numerator times one tensor of `sources[source]`."""

    source: int
    spec: TensorSpec
    numerator: int


class Kind(StrEnum):
    """MIX: weighted sum. COPY: the one term's bytes. SAME: copy, all terms must be bit-equal.
    TIED: nothing is written, the two terms must be equal in value."""

    MIX = "mix"
    COPY = "copy"
    SAME = "same"
    TIED = "tied"


@dataclass(frozen=True, slots=True)
class Job:
    """How one output tensor comes about; `out` is None for checks that write nothing."""

    kind: Kind
    terms: tuple[Term, ...]
    out: TensorSpec | None

    @property
    def count(self) -> int:
        return self.terms[0].spec.count


def assign(
    sources: Sequence[Source],
    whole: Sequence[int],
    leader: int,
    *,
    explicit: bool,
    dtype: str | None = None,
    tied: bool | None = None,
) -> list[Job]:
    """Jobs of a soup; their `out` carries no place yet, checks have none.

    whole: numerators of the members, which come first in `sources`. leader: position of the source
    whose names, shapes and, if `explicit`, dtypes and ties the output has. dtype: safetensors name
    for all float tensors. tied: whether the output's head is its embedding; by default as in the
    leader if `explicit`, else if one member's is.
    Raises Refused: `untied-head` where an adapter's pair would be left out.
    """
    jobs = _Assignment(sources, whole, leader, explicit, dtype, tied).jobs()
    _check_read(sources, whole, jobs)
    return jobs


def first_head(sources: Iterable[Source]) -> TensorSpec | None:
    """The head of the first source that stores one."""
    for source in sources:
        head = head_and_embedding(source.layout)[0]
        if head is not None:
            return source.layout.tensors[head]
    return None


def _check_read(sources: Sequence[Source], whole: Sequence[int], jobs: Sequence[Job]) -> None:
    """Every pair of every adapter that counts must be read: of a tied head none is."""
    read = {(t.source, t.spec.name) for job in jobs if job.out is not None for t in job.terms}
    for k, source in enumerate(sources[: len(whole)]):
        pairs = source.adapter.pairs if source.adapter is not None and whole[k] else ()
        for name in sorted(pairs):
            if (k, name) not in read:
                raise Refused(
                    Code.UNTIED_HEAD, f"{source.name}: {name}",
                    "is adapted, and the soup has no such tensor: it ties its head",
                    "use a base that does not tie its head, or an adapter that leaves it alone",
                )  # fmt: skip


class _Assignment:
    def __init__(
        self,
        sources: Sequence[Source],
        whole: Sequence[int],
        leader: int,
        explicit: bool,
        dtype: str | None,
        tied: bool | None,
    ) -> None:
        self.sources, self.leader, self.leader_at = sources, sources[leader], leader
        self.explicit, self.dtype = explicit, dtype
        self.active = [(k, n) for k, n in enumerate(whole) if n]
        self.embedding = head_and_embedding(self.leader.layout)[1]
        self.tied = self._tied() if tied is None else tied

    def jobs(self) -> list[Job]:
        specs = dict(self.leader.layout.tensors)
        head = first_head([self.leader, *self.sources])
        found: list[Job] = []
        if head is not None and not self.tied:
            specs[head.name] = head
        elif head is not None:
            specs.pop(head.name, None)
        found += self._tie_checks()
        for _, spec in sorted(specs.items()):
            if derived(spec):
                found += self._derived(spec)
            elif spec.dtype in FLOATS:
                found.append(self._mix(spec))
            else:
                found.append(self._same(spec, [k for k, _ in self.active]))
        return found

    def _tied(self) -> bool:
        """The output has no head of its own; the members' heads must equal their embeddings.

        Without a reference one member that ties is enough, so that the order does not matter.
        """
        judges = [self.leader] if self.explicit else self.sources
        return self.embedding is not None and any(
            head_and_embedding(s.layout)[0] is None or ties(s.config) for s in judges
        )

    def _tie_checks(self) -> Iterable[Job]:
        """Of members whose head the soup ties, or that tie it themselves and store one all the
        same: which of the two is meant depends on who loads it."""
        for k, _ in self.active:
            tensors = self.sources[k].layout.tensors
            head, embedding = head_and_embedding(self.sources[k].layout)
            tied = self.tied or ties(self.sources[k].config)
            if tied and head is not None and embedding is not None:
                yield Job(
                    Kind.TIED, (Term(k, tensors[head], 1), Term(k, tensors[embedding], 1)), None
                )

    def _mix(self, spec: TensorSpec) -> Job:
        terms = tuple(Term(k, self._find(k, spec.name), n) for k, n in self.active)
        dtype = self._out_dtype(spec)
        alone = len(terms) == 1 and terms[0].spec.dtype == dtype
        alone = alone and not self.sources[terms[0].source].adapts(terms[0].spec.name)
        return Job(Kind.COPY if alone else Kind.MIX, terms, _unplaced(spec, dtype))

    def _find(self, source: int, name: str) -> TensorSpec:
        """The member's tensor, or its embedding where its tied head is left out."""
        layout = self.sources[source].layout
        if name in layout.tensors:
            return layout.tensors[name]
        embedding = head_and_embedding(layout)[1]
        return layout.tensors[embedding or ""]

    def _same(self, spec: TensorSpec, members: Sequence[int]) -> Job:
        """A buffer: the leader's bytes, or the first member's; all readers must agree."""
        found = [(k, self.sources[k].layout.tensors.get(spec.name)) for k in members]
        terms = [Term(k, s, 1) for k, s in found if s is not None and s.dtype == spec.dtype]
        if self.explicit and self.leader_at not in members:
            terms.insert(0, Term(self.leader_at, spec, 1))
        return Job(Kind.SAME, tuple(terms), _unplaced(spec, spec.dtype))

    def _derived(self, spec: TensorSpec) -> Iterable[Job]:
        """Kept if the reference has it, or, without a reference, if every member has the same."""
        twins = [s.layout.tensors.get(spec.name) for s in self.sources]
        agree = all(t is not None and (t.dtype, t.shape) == (spec.dtype, spec.shape) for t in twins)
        if self.explicit or agree:
            members = [
                k
                for k, _ in self.active
                if twins[k] is not None and twins[k].shape == spec.shape  # type: ignore[union-attr]
            ]
            yield self._same(spec, members)

    def _out_dtype(self, spec: TensorSpec) -> str:
        if self.dtype is not None:
            return self.dtype
        if self.explicit:
            return spec.dtype
        return _widest(self._find(k, spec.name).dtype for k in range(len(self.sources)))


def _widest(dtypes: Iterable[str]) -> str:
    """The narrowest float dtype that holds all of `dtypes` exactly."""
    kinds = set(dtypes)
    if len(kinds) == 1:
        return kinds.pop()
    return "F64" if "F64" in kinds else "F32"


def _unplaced(spec: TensorSpec, dtype: str) -> TensorSpec:
    size = prod(spec.shape) * BITS[dtype] // 8
    return TensorSpec(spec.name, dtype, spec.shape, "", 0, size)
