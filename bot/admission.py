"""Admit a candidate, or say why not: from its listing, headers and configuration alone.

The stages go from cheap to dear. A stage asks all its questions (`bot.checks`), and the first
finding in the order of `bot.reasons.Reason` is reported. Nothing is downloaded but `config.json`,
the index, safetensors headers (by range) and, where its hash differs from the base's,
`tokenizer.json`.

Not promised: that the tensors' values make sense. That takes their bytes; `judge_health` reads
what a child process found in them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bot import checks, licences
from bot.checks import CONFIG, TOKENIZER, Limits, Reference, Source
from bot.errors import Rejected
from bot.hub import FileFact, RepoFacts
from bot.layouts import read_headers, read_weight_map, root_files, weight_files
from bot.reasons import Reason, rank
from merge.checkpoint import INDEX, MAX_CONFIG, MAX_TOKENIZER
from merge.errors import Refused

__all__ = [
    "Admitted", "Limits", "Reference", "Source", "examine", "lfs_digest", "read_reference",
]  # fmt: skip


@dataclass(frozen=True)
class Admitted:
    """A candidate worth downloading.

    files: weights and their index, to be fetched. weights_bytes: of the weights alone.
    lfs_digest: names the set of weight files by content, whatever their names.
    licence: declared by its author. publishable: whether a public soup may hold it.
    """

    files: tuple[FileFact, ...]
    licence: str | None
    publishable: bool
    weights_bytes: int
    lfs_digest: str
    dtypes: tuple[str, ...]


def examine(
    source: Source,
    facts: RepoFacts,
    base: Reference,
    limits: Limits,
    known: Mapping[str, str],
) -> Admitted | Rejected:
    """Admit the repository at its pinned commit, or reject it with the first reason that applies.

    known: `lfs_digest` -> name, of the base and of other candidates.
    Raises Transient, Gone, Forbidden when the Hub does not let us find out.
    """
    code = list(checks.of_code_files(facts))
    listed = [*checks.of_listing(facts), *checks.of_policy(facts, limits)]
    listed += [
        *checks.of_licence(facts, base, limits),
        *checks.of_weights_listed(facts, base, limits),
    ]
    if listed:
        return _first(listed + code)
    opened: list[Rejected] = []
    layout = checks.of_layout(source, facts, base, limits, opened)
    opened += checks.of_config(source, facts, base)
    if opened or code or layout is None:
        return _first(opened + code)
    names = root_files(facts)
    weights = [names[name] for name in layout.files]
    digest = lfs_digest(weights)
    compared = list(checks.of_tokenizer(source, facts, base))
    if digest in known:
        compared.append(Rejected(Reason.DUPLICATE, known[digest], "the very same files"))
    if compared:
        return _first(compared)
    return Admitted(
        files=(*([names[INDEX]] if INDEX in names else []), *weights),
        licence=facts.licence,
        publishable=_publishable(facts, base, limits),
        weights_bytes=sum(file.size for file in weights),
        lfs_digest=digest,
        dtypes=tuple(sorted({spec.dtype for spec in layout.tensors.values()})),
    )


def read_reference(source: Source, facts: RepoFacts) -> Reference:
    """What candidates are compared with, read from the pinned base in the same way.

    Raises Rejected when the base itself is not a model that can be averaged.
    """
    names = root_files(facts)
    try:
        weight_map = read_weight_map(source, facts)
        layout = read_headers(source, facts, weight_files(facts, weight_map), weight_map)
    except Refused as refused:
        raise checks.rejected(refused) from refused
    config = checks.read_object(source, facts, CONFIG, MAX_CONFIG, Reason.CONFIG_MISMATCH)
    tokenizer = None
    if TOKENIZER in names:
        tokenizer = checks.read_object(
            source, facts, TOKENIZER, MAX_TOKENIZER, Reason.VOCAB_MISMATCH
        )
    return Reference(facts.repo, facts.licence, layout, config, tokenizer, tuple(names.values()))


def lfs_digest(weights: Iterable[FileFact]) -> str:
    """Names a set of weight files by their content, whatever they are called."""
    digests = sorted(file.digest or "" for file in weights)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _publishable(facts: RepoFacts, base: Reference, limits: Limits) -> bool:
    terms = licences.combine([base.licence, facts.licence])
    allowed = terms.use is licences.Use.PUBLIC and facts.licence in limits.licences
    return allowed and not facts.private


def _first(findings: Iterable[Rejected]) -> Rejected:
    return min(findings, key=lambda rejected: rank(rejected.code))
