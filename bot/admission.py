"""Admit a candidate, or say why not: from its listing, headers and configuration alone.

The stages go from cheap to dear. A stage asks all its questions (`bot.checks`), and the first
finding in the order of `bot.reasons.Reason` is reported. Nothing is downloaded but `config.json`,
the index, safetensors headers (by range) and, where its hash differs from the base's,
`tokenizer.json`.

Not promised: that the tensors' values make sense. That takes their bytes; `judge_health` reads
what a child process found in them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from pydantic import BaseModel, ValidationError

from bot import checks, licences
from bot.checks import CONFIG, TOKENIZER, Limits, Reference, Source
from bot.errors import Broken, Rejected
from bot.hub import FileFact, RepoFacts
from bot.layouts import (
    lfs_digest,
    read_headers,
    read_weight_map,
    root_files,
    weight_files,
    with_index,
)
from bot.reasons import Reason, rank
from merge.checkpoint import MAX_CONFIG, MAX_TOKENIZER
from merge.errors import Refused, printable

__all__ = ["Admitted", "Limits", "Reference", "examine", "judge_health", "reference_of"]

NORM_BAND = 8.0
"""A tensor's norm may be an eighth to eight times the base's; our fine-tunes: 0.96 to 1.16."""
LARGEST_DELTA = 0.7
"""Of |model - base| / |base|. Our fine-tunes: 0.12 to 0.24; freshly initialised weights: 0.87."""
NEAR_COPY = 0.97
"""Cosine of two differences to the base. Siblings trained alike reach 0.54; a copy is near 1."""


@dataclass(frozen=True)
class Admitted:
    """A candidate worth downloading.

    files: weights and their index, to be fetched. weights_bytes: of the weights alone.
    lfs_digest: names the set of weight files by content, whatever their names.
    licence, languages, not_for_all_audiences: declared by its author.
    publishable: whether a public soup may hold it.
    """

    files: tuple[FileFact, ...]
    licence: str | None
    publishable: bool
    weights_bytes: int
    lfs_digest: str
    languages: tuple[str, ...] = ()
    not_for_all_audiences: bool = False


def examine(
    source: Source,
    facts: RepoFacts,
    base: Reference,
    limits: Limits,
    known: Mapping[str, str],
) -> Admitted | Rejected:
    """Admit the repository at its pinned commit, or reject it with the first reason that applies.

    known: `lfs_digest` -> `ORG/NAME@SHA`, of the base and of other candidates.
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
    if known.get(digest) not in (None, f"{facts.repo}@{facts.sha}"):
        compared.append(Rejected(Reason.DUPLICATE, known[digest], "the very same files"))
    if compared:
        return _first(compared)
    return _admitted(facts, weights, publishable=_publishable(facts, base, limits))


def _admitted(facts: RepoFacts, weights: Sequence[FileFact], *, publishable: bool) -> Admitted:
    return Admitted(
        files=with_index(facts, weights),
        licence=facts.licence,
        publishable=publishable,
        weights_bytes=sum(file.size for file in weights),
        lfs_digest=lfs_digest(weights),
        languages=facts.languages,
        not_for_all_audiences=facts.not_for_all_audiences,
    )


def reference_of(source: Source, facts: RepoFacts) -> Reference:
    """What candidates are compared with, read from the pinned base in the same way.

    Raises Rejected when the base itself is not a model that can be averaged.
    """
    names = root_files(facts)
    try:
        weight_map = read_weight_map(source, facts)
        weights = weight_files(facts, weight_map)
        layout = read_headers(source, facts, weights, weight_map)
    except Refused as refused:
        raise checks.rejected(refused) from refused
    config = checks.read_object(source, facts, CONFIG, MAX_CONFIG, Reason.CONFIG_MISMATCH)
    tokenizer = None
    if TOKENIZER in names:
        tokenizer = source.read_bytes(facts.repo, facts.sha, TOKENIZER, MAX_TOKENIZER)
    return Reference(
        repo=facts.repo,
        licence=facts.licence,
        layout=layout,
        config=config,
        tokenizer=tokenizer,
        files=tuple(names.values()),
        weights=with_index(facts, weights),
        lfs_digest=lfs_digest(weights),
    )


def judge_health(
    health: Mapping[str, object], known: Mapping[str, Sequence[float]] | None = None
) -> Rejected | None:
    """What the tensors' values say against a candidate, or None.

    health: `merge.fingerprints.Health` as JSON, from the child that read the tensors.
    known: name -> sketch of other candidates. Raises Broken if `health` has another form.
    """
    try:
        found = _Values.model_validate(health)
    except ValidationError as error:
        raise Broken(f"the examination of tensors has another form: {error}") from error
    if found.unequal:
        return Rejected(Reason.WRONG_BUFFERS, printable(found.unequal[0]), "")
    if found.non_finite:
        others = f"one of {len(found.non_finite)} tensors"
        return Rejected(Reason.NON_FINITE, printable(found.non_finite[0]), others)
    for tensor, ratio in (found.norm_ratio_min, found.norm_ratio_max):
        if not 1 / NORM_BAND <= ratio <= NORM_BAND:
            detail = f"norm is {ratio:.3g} times the base's"
            return Rejected(Reason.ABNORMAL_NORM, printable(tensor), detail)
    if not found.delta_norm <= LARGEST_DELTA:
        detail = f"the difference is {found.delta_norm:.2f} of the base's norm"
        return Rejected(Reason.NOT_A_FINETUNE, "", f"{detail}, more than {LARGEST_DELTA}")
    twin = nearest(found.sketch, known or {})
    if twin is not None and twin[1] > NEAR_COPY:
        detail = f"cosine of the differences to the base {twin[1]:.3f}, more than {NEAR_COPY}"
        return Rejected(Reason.NEAR_DUPLICATE, twin[0], detail)
    return None


def nearest(
    sketch: Sequence[float], known: Mapping[str, Sequence[float]]
) -> tuple[str, float] | None:
    """The name with the most similar sketch and the estimated cosine, or None without names."""
    near = {name: sum(map(mul, sketch, other)) for name, other in known.items()}
    return max(near.items(), key=lambda pair: pair[1]) if near else None


class _Values(BaseModel):
    """The part of `merge.fingerprints.Health` that decides."""

    unequal: tuple[str, ...]
    non_finite: tuple[str, ...]
    norm_ratio_min: tuple[str, float]
    norm_ratio_max: tuple[str, float]
    delta_norm: float
    sketch: tuple[float, ...]


def _publishable(facts: RepoFacts, base: Reference, limits: Limits) -> bool:
    terms = licences.combine([base.licence, facts.licence])
    allowed = terms.use is licences.Use.PUBLIC and facts.licence in limits.licences
    return allowed and not facts.private


def _first(findings: Iterable[Rejected]) -> Rejected:
    return min(findings, key=lambda rejected: rank(rejected.code))
