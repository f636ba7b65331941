"""The tensors of a model on the Hub, from its index and headers alone: the remote twin of
`merge.checkpoint.read_layout`, with the same rules and the same refusals.

Not promised: that the file behind a header is what the header says; the download checks its hash,
and whoever opens it checks the header again.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from bot.hub import FileFact, RepoFacts
from merge.checkpoint import (
    INDEX,
    MAX_HEADER,
    MAX_TENSORS,
    SINGLE,
    Layout,
    TensorSpec,
    assemble,
    no_safetensors,
    parse_header,
    parse_index,
)
from merge.errors import Code, Refused

MOST_SHARDS = 500
"""No base that can be averaged here has more; every shard costs a request or two."""


class RangeReader(Protocol):
    """Reads small files, and headers of large ones, at a commit; `bot.hub.Reader` is one."""

    def read_bytes(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes: ...

    def read_header(self, repo: str, sha: str, path: str, size: int) -> bytes: ...


def root_files(facts: RepoFacts) -> dict[str, FileFact]:
    """Files at the top of the repository, by name; a model consists of nothing else."""
    return {file.path: file for file in facts.files if "/" not in file.path}


def likely_weights(facts: RepoFacts) -> list[FileFact]:
    """The weight files as far as the listing tells: the shards if there is an index alone.

    Raises Refused `no-safetensors`.
    """
    names = root_files(facts)
    if SINGLE in names:
        return [names[SINGLE]]
    if INDEX in names:
        return [
            file
            for name, file in names.items()
            if name.endswith(".safetensors") and name.startswith("model-")
        ]
    raise no_safetensors(names)


def read_weight_map(source: RangeReader, facts: RepoFacts) -> dict[str, str] | None:
    """Tensor -> file from the index, None for a model in one file.

    Raises Refused `no-safetensors`, `bad-index`, `missing-shard`, and what `source` raises.
    """
    names = root_files(facts)
    if INDEX not in names:
        if SINGLE not in names:
            raise no_safetensors(names)
        return None
    raw = source.read_bytes(facts.repo, facts.sha, INDEX, MAX_HEADER)
    weight_map = parse_index(raw, names)
    shards = set(weight_map.values())
    if len(shards) > MOST_SHARDS:
        raise Refused(
            Code.BAD_INDEX,
            INDEX,
            f"{len(shards)} files, more than {MOST_SHARDS}",
            "use larger shards",
        )
    return weight_map


def weight_files(facts: RepoFacts, weight_map: dict[str, str] | None) -> list[FileFact]:
    """The files that hold the tensors, in the order of their names."""
    names = root_files(facts)
    return [names[name] for name in sorted(set((weight_map or {"": SINGLE}).values()))]


def with_index(facts: RepoFacts, weights: Sequence[FileFact]) -> tuple[FileFact, ...]:
    """What to download for a model: its weight files, and their index where there is one."""
    index = root_files(facts).get(INDEX)
    return (index, *weights) if index else tuple(weights)


def lfs_digest(weights: Iterable[FileFact]) -> str:
    """Names a set of weight files by their content, whatever they are called. 64 hex digits."""
    digests = sorted(file.digest or "" for file in weights)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def read_headers(
    source: RangeReader,
    facts: RepoFacts,
    files: Sequence[FileFact],
    weight_map: dict[str, str] | None,
    max_tensors: int = MAX_TENSORS,
) -> Layout:
    """The layout from the headers of `files`; no tensor is downloaded.

    Raises Refused `bad-safetensors`, `header-too-large`, `too-many-tensors`, `bad-index`, and what
    `source` raises.
    """
    headers: dict[str, dict[str, TensorSpec]] = {}
    left = max_tensors
    for file in files:
        raw = source.read_header(facts.repo, facts.sha, file.path, file.size)
        headers[file.path] = parse_header(raw, file.path, file.size, max_tensors=left)
        left -= len(headers[file.path])
    return assemble(headers, weight_map)
