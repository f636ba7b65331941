"""What can speak against a candidate, one function per question; each yields what it finds.

Every function looks at the listing, or at a small file or header that it reads through `Source`.
Configurations and tokenizers of strangers are compared as JSON and never interpreted.
The order in which findings are reported is that of `bot.reasons.Reason`, not of this file.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bot import licences
from bot.errors import Rejected
from bot.hub import FileFact, RepoFacts
from bot.hub.facts import is_safe_path
from bot.layouts import (
    RangeReader,
    likely_weights,
    read_headers,
    read_weight_map,
    root_files,
    weight_files,
)
from bot.order import is_welcome
from bot.reasons import Reason
from merge.checkpoint import MAX_CONFIG, MAX_HEADER, MAX_TOKENIZER, Layout
from merge.compat import compare_configs, compare_layouts, compare_tokenizers
from merge.errors import Refused
from merge.vocabulary import VOCABULARIES

WIDEST_ELEMENT = 4  # bytes; a float32 fine-tune of a bfloat16 base is fine, float64 is not
SLACK = 1.05
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"


class Source(RangeReader, Protocol):
    """What `examine` asks of the Hub; `bot.hub.Reader` is one."""

    def read_bytes(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes: ...

    def read_json(
        self, repo: str, sha: str, path: str, max_bytes: int, *, refuse_as: Reason
    ) -> dict[str, object]: ...


@dataclass(frozen=True)
class Reference:
    """The pinned base, as far as candidates are measured against it.

    config: parsed JSON. tokenizer: bytes of the tokenizer.json, None where the base has none.
    files: at the top of the pinned commit. weights: those to download, index included.
    lfs_digest: names the weight files by content.
    """

    repo: str
    licence: str | None
    layout: Layout
    config: Mapping[str, object]
    tokenizer: bytes | None
    files: tuple[FileFact, ...]
    weights: tuple[FileFact, ...]
    lfs_digest: str

    @property
    def largest(self) -> int:
        """Bytes that an honest fine-tune has at most, one more head than the base included."""
        counts = [spec.count for spec in self.layout.tensors.values()]
        return int((sum(counts) + max(counts)) * WIDEST_ELEMENT * SLACK) + MAX_HEADER


@dataclass(frozen=True)
class Limits:
    """The operator's rules. Authors are compared without regard to case.

    max_bytes: of all weight files. allow: empty means everyone.
    licences: those that a published soup may carry.
    allow_private: admit what may not be published, for private soups.
    """

    max_bytes: int
    allow: Collection[str] = ()
    deny: Collection[str] = ()
    licences: Collection[str] = licences.PUBLISHABLE
    allow_private: bool = False


def of_listing(facts: RepoFacts) -> Iterator[Rejected]:
    """Paths that could leave the folder, or fall together where case does not count."""
    spelt: dict[str, str] = {}
    for file in facts.files:
        if not is_safe_path(file.path):
            yield Rejected(Reason.BAD_LISTING, repr(file.path)[:200], "not a plain relative path")
        twin = spelt.setdefault(file.path.casefold(), file.path)
        if twin != file.path and file.path.endswith((".safetensors", ".json")):
            yield Rejected(Reason.BAD_LISTING, file.path, f"differs from {twin} only by case")


def of_policy(facts: RepoFacts, limits: Limits) -> Iterator[Rejected]:
    """What the operator does not want, and what the Hub does not hand out."""
    if not is_welcome(facts.author, limits.allow, limits.deny):
        denied = not is_welcome(facts.author, (), limits.deny)
        which = "on the deny list" if denied else "not on the allow list"
        yield Rejected(Reason.AUTHOR_DENIED, facts.author, which)
    if facts.gated:
        yield Rejected(Reason.GATED, facts.repo)
    if facts.private and not limits.allow_private:
        yield Rejected(Reason.PRIVATE, facts.repo)
    if facts.disabled:
        yield Rejected(Reason.WITHDRAWN, facts.repo, "disabled by the Hub")


def of_licence(facts: RepoFacts, base: Reference, limits: Limits) -> Iterator[Rejected]:
    """Licences that allow no public soup with the base; not asked where soups stay private."""
    if limits.allow_private:
        return
    declared = facts.licence or "none declared"
    own, theirs = licences.terms(facts.licence), licences.terms(base.licence)
    if own.use is licences.Use.NEVER:
        yield Rejected(Reason.NO_LICENCE, facts.repo, declared)
    elif own.use is licences.Use.PRIVATE or facts.licence not in limits.licences:
        yield Rejected(Reason.LICENCE_DENIED, facts.repo, declared)
    elif theirs.use is licences.Use.NEVER:
        yield Rejected(Reason.NO_LICENCE, base.repo, base.licence or "none declared")
    elif licences.combine([base.licence, facts.licence]).use is not licences.Use.PUBLIC:
        yield Rejected(Reason.LICENCE_CONFLICT, facts.repo, f"{declared} with {base.licence}")


def of_weights_listed(facts: RepoFacts, base: Reference, limits: Limits) -> Iterator[Rejected]:
    """Weights that are not safetensors, too large, or without a hash."""
    try:
        weights = likely_weights(facts)
    except Refused as refused:
        yield rejected(refused)
        return
    yield from _size(weights, base, limits)
    for file in weights:
        if file.digest is None:
            yield Rejected(Reason.BAD_LISTING, file.path, "the Hub names no hash")


def _size(weights: Iterable[FileFact], base: Reference, limits: Limits) -> Iterator[Rejected]:
    total = sum(file.size for file in weights)
    if total > limits.max_bytes:
        yield Rejected(Reason.TOO_LARGE, f"{total} bytes", f"the limit is {limits.max_bytes}")
    elif total > base.largest:
        detail = f"more than {WIDEST_ELEMENT} bytes per parameter of the base"
        yield Rejected(Reason.TOO_LARGE, f"{total} bytes", detail)


def of_layout(
    source: Source, facts: RepoFacts, base: Reference, limits: Limits, found: list[Rejected]
) -> Layout | None:
    """The candidate's layout; what speaks against it is added to `found`."""
    try:
        weight_map = read_weight_map(source, facts)
        weights = weight_files(facts, weight_map)
        found += _size(weights, base, limits)
        if found:
            return None
        most = 4 * len(base.layout.tensors)
        layout = read_headers(source, facts, weights, weight_map, max_tensors=most)
    except Refused as refused:
        found.append(rejected(refused))
        return None
    except Rejected as verdict:
        found.append(verdict)
        return None
    found += map(rejected, compare_layouts(base.layout, layout))
    return layout


def of_config(source: Source, facts: RepoFacts, base: Reference) -> Iterator[Rejected]:
    """Keys of `config.json` in which candidate and base must agree and do not."""
    try:
        config = read_object(source, facts, CONFIG, MAX_CONFIG, Reason.CONFIG_MISMATCH)
    except Rejected as verdict:
        yield verdict
        return
    yield from map(rejected, compare_configs(base.config, config))


def of_code_files(facts: RepoFacts) -> Iterator[Rejected]:
    """Python files where transformers would look for model code: at the top of the repository."""
    for name in sorted(root_files(facts)):
        if name.endswith(".py"):
            yield Rejected(Reason.NEEDS_CODE, name, "code beside the weights")


def of_tokenizer(source: Source, facts: RepoFacts, base: Reference) -> Iterator[Rejected]:
    """A candidate may come without a tokenizer: the base's is used in any case."""
    ours = {file.path: file for file in base.files}
    theirs = root_files(facts)
    if base.tokenizer is not None and TOKENIZER in theirs:
        if theirs[TOKENIZER].digest == ours[TOKENIZER].digest is not None:
            return
        try:
            read = source.read_bytes(facts.repo, facts.sha, TOKENIZER, MAX_TOKENIZER)
        except Rejected as verdict:
            yield verdict
            return
        yield from map(rejected, compare_tokenizers(base.tokenizer, read))
        return
    for name in VOCABULARIES:
        if name in ours and name in theirs and ours[name].digest != theirs[name].digest:
            yield Rejected(Reason.VOCAB_MISMATCH, name, "another file than the base's")


def read_object(
    source: Source, facts: RepoFacts, path: str, limit: int, refuse_as: Reason
) -> dict[str, object]:
    if path not in root_files(facts):
        raise Rejected(refuse_as, path, "not there")
    return source.read_json(facts.repo, facts.sha, path, limit, refuse_as=refuse_as)


def rejected(refused: Refused) -> Rejected:
    """The library's refusal as ours: the codes are of one list."""
    return Rejected(Reason(refused.code), refused.subject, refused.detail)
