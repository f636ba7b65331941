"""Plan a soup from headers and configurations; no weight is read.

A plan is data: which tensor of which member enters which tensor of which output file, with which
integer weight. `merge.soup` carries it out. Everything that can be refused without reading weights
is refused here: `plan_soup` raises the first reason, `refusals` lists them all.

The output is laid out canonically (tensors by falling element size, then by name; files of at most
`max_shard` bytes), so its bytes do not depend on how the inputs were sharded or ordered. Output
dtypes are those asked for, else the reference's, else, per tensor, the narrowest that holds every
member's. A head tied to the embedding is left out, as transformers does.

Not promised: that contents agree where headers do (buffers, tied heads, finite values: `soup`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from merge.checkpoint import MAX_TENSORS, Stamp, read_config, read_layout
from merge.compat import compare_configs, compare_layouts, has_head, head_and_embedding, ties
from merge.errors import Code, Refused
from merge.jobs import Job, Source, assign
from merge.lora import is_adapter, open_adapter
from merge.recipe import DTYPES, check_weights, numerators
from merge.shards import MAX_SHARD, OutputFile, frame, place
from merge.vocabulary import (
    TOKENIZER,
    VOCABULARIES,
    compare_tokenizer_files,
    compare_vocabulary_files,
    open_tokenizer,
    vocabulary_files,
)

_T = TypeVar("_T")
Names = Mapping[Path, str]
NAMELESS: Names = MappingProxyType({})
CONFIG = "config.json"
TEXTS = (CONFIG, TOKENIZER, *VOCABULARIES)
"""What members are compared by beside their tensors."""


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
    names: Names = NAMELESS,
) -> SoupPlan:
    """Check everything that headers and configurations tell, and lay out the output.

    members: (folder, weight); weights sum to one exactly. reference: the folder whose names,
    shapes and dtypes the output has; without one the first member's names and shapes. dtype:
    "bfloat16", "float16" or "float32" for all float tensors. digests: content digests of the
    members where already known, else they are computed if the order of a sum can matter. names:
    what refusals call the folders, by default their last part.
    Raises Refused with the member's name, and the tensor or key, in its subject.
    """
    weights = [weight for _, weight in members]
    check_weights(weights, allow_negative=allow_negative)
    _check_dtype(dtype)
    folders = [folder for folder, _ in members]
    check_distinct(folders)
    known: Sequence[str | None] = digests or [None] * len(folders)
    sources = open_sources(folders, known, reference, names)
    leader, at = (sources[0], 0) if reference is None else _reference(reference, sources, names)
    for source in sources:
        check_member(leader, source)
    whole, denominator = numerators(weights)
    wanted = None if dtype is None else DTYPES[dtype]
    jobs = assign(sources, whole, at, explicit=reference is not None, dtype=wanted)
    outs = place([job.out for job in jobs if job.out is not None], max_shard)
    if not outs:
        raise Refused(
            Code.WRONG_TENSORS, leader.name, "has no tensor that the soup could have",
            "give checkpoints with weights",
        )  # fmt: skip
    files, index = frame(outs)
    placed = [Job(j.kind, j.terms, outs[j.out.name]) for j in jobs if j.out is not None]
    position = {file.name: i for i, file in enumerate(files)}
    placed.sort(key=lambda job: (position[job.out.file], job.out.begin) if job.out else (0, 0))
    checks = [job for job in jobs if job.out is None]
    return SoupPlan(tuple(sources), tuple(weights), denominator, (*placed, *checks), files, index)


def refusals(
    members: Sequence[tuple[Path, Fraction]],
    *,
    reference: Path | None = None,
    dtype: str | None = None,
    allow_negative: bool = False,
    names: Names = NAMELESS,
) -> tuple[Refused, ...]:
    """All that headers and configurations say against this soup; empty where `plan_soup` plans it.

    Arguments as for `plan_soup`.
    """
    found: list[Refused] = []
    folders, weights = [folder for folder, _ in members], [weight for _, weight in members]
    _collect(found, partial(check_weights, weights, allow_negative=allow_negative))
    _collect(found, partial(_check_dtype, dtype))
    _collect(found, partial(check_distinct, folders))
    call = partial(open_source, names=names)
    base = None if reference is None else _collect(found, partial(call, reference))
    whole = [f for f in dict.fromkeys(folders) if f != reference and not is_adapter(f)]
    opened = [_collect(found, partial(call, f, None, _most(base))) for f in whole]
    sources = [source for source in (base, *opened) if source is not None]
    if reference is None and len(whole) == 1:
        base = opened[0]
    if base is not None or reference is None:
        for folder in filter(is_adapter, folders):
            _collect(found, partial(_on_base, folder, None, base, names))
    for source in sources:
        found += objections(sources[0], source)
    return tuple(found)


def _collect(found: list[Refused], call: Callable[[], _T]) -> _T | None:
    try:
        return call()
    except Refused as refused:
        found.append(refused)
        return None


def open_sources(
    folders: Sequence[Path],
    digests: Sequence[str | None],
    reference: Path | None,
    names: Names = NAMELESS,
) -> list[Source]:
    """All members; adapters lie on the reference, or on the only full checkpoint among them."""
    base = open_source(reference, names=names) if reference is not None else None
    opened: dict[Path, Source] = {}
    for folder, digest in zip(folders, digests, strict=True):
        if base is not None and folder == reference:
            opened[folder] = replace(base, digest=digest)
        elif not is_adapter(folder):
            leader = base or next(iter(opened.values()), None)
            opened[folder] = open_source(folder, digest, _most(leader), names)
    if base is None and len(opened) == 1:
        base = next(iter(opened.values()))
    return [
        opened[f] if f in opened else _on_base(f, d, base, names)
        for f, d in zip(folders, digests, strict=True)
    ]


def _most(base: Source | None) -> int:
    """How many tensors a checkpoint may have that is to be like `base`."""
    return MAX_TENSORS if base is None else 4 * len(base.layout.tensors)


def _on_base(folder: Path, digest: str | None, base: Source | None, names: Names) -> Source:
    name = _called(folder, names)
    if base is None:
        raise Refused(Code.UNSUPPORTED_ADAPTER, name, "is an adapter without a base", "give a base")
    try:
        adapter = open_adapter(folder, base.layout, name)
    except Refused as refused:
        raise refused.about(name) from refused
    return replace(base, name=name, digest=digest, adapter=adapter)


def open_source(
    folder: Path,
    digest: str | None = None,
    max_tensors: int = MAX_TENSORS,
    names: Names = NAMELESS,
) -> Source:
    """Layout, config and tokenizer of a folder; of the latter two what is there, and the layout has
    their stamps too."""
    name = _called(folder, names)
    try:
        there = [name for name in TEXTS if os.path.lexists(folder / name)]
        texts = {name: Stamp.of((folder / name).lstat()) for name in there}
        layout = read_layout(folder, max_tensors=max_tensors)
        config = _config(folder / CONFIG)
        tokenizer = open_tokenizer(folder)
        vocabularies = vocabulary_files(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(
            Code.NO_SAFETENSORS, names.get(folder, str(folder)), "no such folder", "check the path"
        ) from error
    except Refused as refused:
        raise refused.about(name) from refused
    layout = replace(layout, stamps={**layout.stamps, **texts})
    return Source(folder, name, layout, config, tokenizer, digest, vocabularies=vocabularies)


def check_member(leader: Source, source: Source) -> None:
    """Raise the first reason why `source` cannot be averaged with `leader`, naming both ends."""
    for reason in objections(leader, source):
        raise reason


def objections(leader: Source, source: Source) -> list[Refused]:
    """Every reason why `source` cannot be averaged with `leader`, with the member's name."""
    reasons = compare_layouts(leader.layout, source.layout)
    if leader.config and source.config:
        reasons += compare_configs(leader.config, source.config)
    if leader.tokenizer and source.tokenizer:
        reasons += compare_tokenizer_files(leader.tokenizer, source.tokenizer)
    else:
        reasons += compare_vocabulary_files(leader.vocabularies, source.vocabularies)
    reasons += _missing_head(leader, source)
    # Another architecture explains all that follows from it.
    reasons.sort(key=lambda reason: reason.code is not Code.OTHER_ARCHITECTURE)
    return [reason.about(source.name) for reason in reasons]


def _missing_head(leader: Source, source: Source) -> list[Refused]:
    """A head that is absent although the member's configuration, or its class where that says
    nothing, does not tie it: whoever loads it gets random numbers."""
    if ties(source.config) is not False or has_head(source.layout):
        return []
    headless = ties(leader.config) is False and not has_head(leader.layout)
    if headless and not _generates(source.config):
        return []  # models without a head, such as encoders
    return [
        Refused(
            Code.WRONG_TENSORS, head_and_embedding(leader.layout)[0] or "lm_head.weight",
            "absent, and the configuration does not tie it", "upload the complete checkpoint",
        )
    ]  # fmt: skip


def _generates(config: Mapping[str, object]) -> bool:
    """Whether the architecture is one that has a language-model head."""
    names = config.get("architectures")
    named = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return any(name.endswith("ForCausalLM") or "LMHead" in name for name in named)


def _reference(folder: Path, sources: list[Source], names: Names) -> tuple[Source, int]:
    """The reference among the sources, appended if it is none of the members."""
    for at, source in enumerate(sources):
        if source.adapter is None and source.folder.resolve() == folder.resolve():
            return source, at
    sources.append(open_source(folder, names=names))
    return sources[-1], len(sources) - 1


def _called(folder: Path, names: Names) -> str:
    return names.get(folder, folder.name or str(folder))


def _check_dtype(dtype: str | None) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise Refused(Code.WRONG_DTYPES, dtype, f"not one of {', '.join(DTYPES)}", "choose one")


def check_distinct(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise Refused(
                Code.DUPLICATE_MEMBER, str(folder), "is given twice", "add the two weights"
            )
        seen.add(folder.resolve())


def _config(path: Path) -> Mapping[str, object]:
    """Empty where there is none."""
    return read_config(path) if os.path.lexists(path) else {}
