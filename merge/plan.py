"""Plan a soup from headers and configurations; no weight is read.

A plan is data: which tensor of which member enters which tensor of which output file, with which
integer weight. `merge.soup` carries it out. Everything that can be refused without reading weights
is refused here.

The output is laid out canonically (tensors by falling element size, then by name; files of at most
`max_shard` bytes), so its bytes do not depend on how the inputs were sharded or ordered. Output
dtypes are those asked for, else the reference's, else, per tensor, the narrowest that holds every
member's. A head tied to the embedding is left out, as transformers does.

Not promised: that contents agree where headers do (buffers, tied heads, finite values: `soup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import prod
from pathlib import Path

from merge.checkpoint import (
    BITS,
    MAX_CONFIG,
    MAX_TOKENIZER,
    Layout,
    TensorSpec,
    parse_json,
    read_layout,
    read_small,
)
from merge.compat import (
    FLOATS,
    compare_configs,
    compare_layouts,
    compare_tokenizers,
    derived,
    head_and_embedding,
)
from merge.errors import Code, Refused
from merge.recipe import DTYPES, check_weights, numerators
from merge.shards import MAX_SHARD, OutputFile, frame, place


@dataclass(frozen=True, slots=True)
class Source:
    """One opened checkpoint. name: how refusals call it; digest: its content digest, if known."""

    folder: Path
    name: str
    layout: Layout
    config: Mapping[str, object]
    tokenizer: Mapping[str, object]
    digest: str | None = None


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


@dataclass(frozen=True, slots=True)
class SoupPlan:
    """Everything `write_soup` needs.

    sources: members in the order given, then the reference where it is none of them.
    jobs: in the order of the output's bytes, checks last.
    index: the bytes of the index file, None for a single file.
    """

    sources: tuple[Source, ...]
    weights: tuple[Fraction, ...]
    denominator: int
    jobs: tuple[Job, ...]
    files: tuple[OutputFile, ...]
    index: bytes | None

    @property
    def output_bytes(self) -> int:
        """Of all output files together."""
        return sum(file.size for file in self.files) + len(self.index or b"")

    @property
    def input_bytes(self) -> int:
        """That will be read from members and reference."""
        return sum(term.spec.nbytes for job in self.jobs for term in job.terms)


def plan_soup(
    members: Sequence[tuple[Path, Fraction]],
    *,
    reference: Path | None = None,
    dtype: str | None = None,
    digests: Sequence[str] | None = None,
    allow_negative: bool = False,
    max_shard: int = MAX_SHARD,
) -> SoupPlan:
    """Check everything that headers and configurations tell, and lay out the output.

    members: (folder, weight); weights sum to one exactly. reference: the folder whose names,
    shapes and dtypes the output has; without one the first member's names and shapes. dtype:
    "bfloat16", "float16" or "float32" for all float tensors. digests: content digests of the
    members where already known, else they are computed if the order of a sum can matter.
    Raises Refused with the member's name, and the tensor or key, in its subject.
    """
    weights = [weight for _, weight in members]
    check_weights(weights, allow_negative=allow_negative)
    if dtype is not None and dtype not in DTYPES:
        raise Refused(Code.WRONG_DTYPES, dtype, f"not one of {', '.join(DTYPES)}", "choose one")
    folders = [folder for folder, _ in members]
    _check_distinct(folders)
    known: Sequence[str | None] = digests or [None] * len(folders)
    sources = [open_source(f, d) for f, d in zip(folders, known, strict=True)]
    leader, at = (sources[0], 0) if reference is None else _reference(reference, sources)
    for source in sources:
        check_member(leader, source)
    whole, denominator = numerators(weights)
    planner = _Planner(sources, whole, leader, at, reference is not None, dtype)
    jobs = planner.jobs()
    outs = place([job.out for job in jobs if job.out is not None], max_shard)
    files, index = frame(outs)
    placed = [Job(j.kind, j.terms, outs[j.out.name]) for j in jobs if j.out is not None]
    position = {file.name: i for i, file in enumerate(files)}
    placed.sort(key=lambda job: (position[job.out.file], job.out.begin) if job.out else (0, 0))
    checks = [job for job in jobs if job.out is None]
    return SoupPlan(tuple(sources), tuple(weights), denominator, (*placed, *checks), files, index)


def open_source(folder: Path, digest: str | None = None) -> Source:
    """Layout, config and tokenizer of a folder; the latter two are empty where absent."""
    name = folder.name or str(folder)
    try:
        layout = read_layout(folder)
        config = _json(folder / "config.json", MAX_CONFIG, Code.CONFIG_MISMATCH)
        tokenizer = _json(folder / "tokenizer.json", MAX_TOKENIZER, Code.VOCAB_MISMATCH)
    except FileNotFoundError as error:
        raise Refused(Code.NO_SAFETENSORS, str(folder), "no such folder") from error
    except Refused as refused:
        raise refused.about(name) from refused
    return Source(folder, name, layout, config, tokenizer, digest)


def check_member(leader: Source, source: Source) -> None:
    """Raise the first reason why `source` cannot be averaged with `leader`, naming both ends."""
    reasons = compare_layouts(leader.layout, source.layout)
    if leader.config and source.config:
        reasons += compare_configs(leader.config, source.config)
    if leader.tokenizer and source.tokenizer:
        reasons += compare_tokenizers(leader.tokenizer, source.tokenizer)
    head, _ = head_and_embedding(source.layout)
    if head is None and source.config.get("tie_word_embeddings") is False:
        other = head_and_embedding(leader.layout)[0]
        if other is not None:
            reasons.append(
                Refused(
                    Code.WRONG_TENSORS, other, "absent, and the configuration says it is not tied",
                    "upload the complete checkpoint",
                )
            )  # fmt: skip
    for reason in reasons:
        raise Refused(reason.code, f"{source.name}: {reason.subject}", reason.detail, reason.remedy)


class _Planner:
    """Turns sources and numerators into jobs; `out` specs carry no place yet."""

    def __init__(
        self,
        sources: list[Source],
        whole: Sequence[int],
        leader: Source,
        leader_at: int,
        explicit: bool,
        dtype: str | None,
    ) -> None:
        self.sources, self.leader, self.leader_at = sources, leader, leader_at
        self.explicit, self.dtype = explicit, dtype
        self.active = [(k, n) for k, n in enumerate(whole) if n]
        self.head, self.embedding = head_and_embedding(leader.layout)

    def jobs(self) -> list[Job]:
        names = set(self.leader.layout.tensors)
        tied = self._tied()
        found: list[Job] = []
        if tied:
            names.discard(self.head or "")
            found += self._tie_checks()
        for name in sorted(names):
            spec = self.leader.layout.tensors[name]
            if derived(spec):
                found += self._derived(spec)
            elif spec.dtype in FLOATS:
                found.append(self._mix(spec))
            else:
                found.append(self._same(spec, [k for k, _ in self.active]))
        return found

    def _tied(self) -> bool:
        """The output has no head of its own, because the reference ties it to the embedding.

        Without a reference one member that ties is enough, whatever the order of members; the
        others' heads must then equal their embeddings.
        """
        judges = [self.leader] if self.explicit else self.sources
        return self.embedding is not None and any(
            head_and_embedding(s.layout)[0] is None or s.config.get("tie_word_embeddings") is True
            for s in judges
        )

    def _tie_checks(self) -> Iterable[Job]:
        for k, _ in self.active:
            tensors = self.sources[k].layout.tensors
            head, embedding = head_and_embedding(self.sources[k].layout)
            if head is not None and embedding is not None:
                yield Job(
                    Kind.TIED, (Term(k, tensors[head], 1), Term(k, tensors[embedding], 1)), None
                )

    def _mix(self, spec: TensorSpec) -> Job:
        terms = tuple(Term(k, self._find(k, spec.name), n) for k, n in self.active)
        dtype = self._out_dtype(spec)
        alone = len(terms) == 1 and terms[0].spec.dtype == dtype
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
            return DTYPES[self.dtype]
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


def _reference(folder: Path, sources: list[Source]) -> tuple[Source, int]:
    """The reference among the sources, appended if it is none of the members."""
    for at, source in enumerate(sources):
        if source.folder.resolve() == folder.resolve():
            return source, at
    sources.append(open_source(folder))
    return sources[-1], len(sources) - 1


def _check_distinct(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise Refused(
                Code.DUPLICATE_MEMBER, str(folder), "is given twice", "add the two weights"
            )
        seen.add(folder.resolve())


def _json(path: Path, limit: int, code: Code) -> Mapping[str, object]:
    if not path.exists() and not path.is_symlink():
        return {}
    return parse_json(read_small(path, limit), path.name, code)
