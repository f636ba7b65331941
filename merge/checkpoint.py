"""Open an untrusted safetensors checkpoint of one or many files; headers only, no tensor bytes.

What one header may say is in `merge.headers`. Here: which files a checkpoint has. Where an index
exists it decides, and files that it does not name are ignored. Refused are shard names that leave
the folder under POSIX or Windows rules, and an index of other files beside a `model.safetensors`:
transformers loads the one (`modeling_utils._get_resolved_checkpoint_files`), vLLM the others.

Standard library only, so that a process which must not run strangers' data through anything larger
can import it. Not promised: that a file does not change after it was looked at (readers check its
size again).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from merge.errors import Code, Refused, brief
from merge.headers import (
    BITS,
    MAX_HEADER,
    MAX_TENSORS,
    RESAVE,
    TensorSpec,
    bad_header,
    header_length,
    parse_header,
)
from merge.untrusted import (
    MAX_CONFIG,
    open_regular,
    open_small,
    parse_json,
    read_config,
    read_small,
)

__all__ = [
    "BITS",
    "INDEX",
    "MAX_CONFIG",
    "MAX_HEADER",
    "MAX_TENSORS",
    "MAX_TOKENIZER",
    "SINGLE",
    "Layout",
    "Stamp",
    "TensorSpec",
    "assemble",
    "header_length",
    "is_plain_name",
    "no_safetensors",
    "open_regular",
    "open_small",
    "parse_header",
    "parse_index",
    "parse_json",
    "read_config",
    "read_file_layout",
    "read_layout",
    "read_small",
]

MAX_TOKENIZER = 100_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}\.safetensors", re.ASCII)
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file's content: bytes, nanoseconds of its last change, and
    which file it is, since one may be put in another's place together with its time (`rsync -t`).

    The time of change of the inode is left out: it also changes with every hard link to it, and
    links are how the same bytes come to lie in several folders.
    """

    size: int
    changed: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Layout:
    """All tensors of a checkpoint by name, the files they lie in, and what these were like then."""

    tensors: Mapping[str, TensorSpec]
    files: tuple[str, ...]
    stamps: Mapping[str, Stamp] = field(default_factory=dict, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, headers not counted."""
        return sum(spec.nbytes for spec in self.tensors.values())


def parse_index(raw: bytes, listing: Collection[str]) -> dict[str, str]:
    """Tensor name -> shard file, from the bytes of `model.safetensors.index.json`.

    listing: names of the files that lie beside the index. `total_size` is not trusted or used.
    Raises Refused: `bad-index`, `missing-shard`, `header-too-large`.
    """
    if len(raw) > MAX_HEADER:
        raise Refused(
            Code.HEADER_TOO_LARGE, INDEX, f"{len(raw)} bytes, more than {MAX_HEADER}", RESAVE
        )
    many = raw.count(b'"') > 4 * MAX_TENSORS + 1000 or raw.count(b",") > MAX_TENSORS + 1000
    if many or raw.count(b"[") + raw.count(b"{") > 1000:
        raise Refused(Code.BAD_INDEX, INDEX, "more entries than any checkpoint has", RESAVE)
    weight_map = parse_json(raw, INDEX, Code.BAD_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Refused(Code.BAD_INDEX, INDEX, "no weight_map", RESAVE)
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain_name(shard):
            raise Refused(
                Code.BAD_INDEX,
                tensor,
                f"lies in {brief(shard)}, not a plain .safetensors name",
                RESAVE,
            )
    shards = set(weight_map.values())
    if SINGLE in listing and shards != {SINGLE}:
        raise Refused(
            Code.BAD_INDEX, SINGLE, "lies beside an index of other files: two models in one folder",
            "remove the one that is not meant",
        )  # fmt: skip
    _check_case(shards, Code.BAD_INDEX)
    for shard in sorted(shards - set(listing)):
        raise Refused(Code.MISSING_SHARD, shard, "named by the index, absent", "upload the shard")
    return weight_map


def assemble(
    headers: Mapping[str, Mapping[str, TensorSpec]], weight_map: Mapping[str, str] | None = None
) -> Layout:
    """One layout from the parsed headers of all files; index and headers must agree both ways.

    Raises Refused: `bad-index`, `bad-safetensors` (no tensors at all).
    """
    tensors: dict[str, TensorSpec] = {}
    for file in sorted(headers):
        for name, spec in headers[file].items():
            if weight_map is not None and weight_map.get(name) != file:
                raise Refused(Code.BAD_INDEX, name, f"lies in {file}, index disagrees", RESAVE)
            if name in tensors:
                raise Refused(Code.BAD_INDEX, name, f"in {tensors[name].file} and {file}", RESAVE)
            tensors[name] = spec
    for name in sorted(set(weight_map or ()) - set(tensors)):
        raise Refused(Code.BAD_INDEX, name, "named by the index, in no file", RESAVE)
    if not tensors:
        bad_header(", ".join(sorted(headers)), "holds no tensor")
    return Layout(tensors, tuple(sorted(headers)))


def read_layout(folder: Path, *, max_tensors: int = MAX_TENSORS) -> Layout:
    """Layout of the checkpoint in `folder`; reads headers and index, no tensor bytes.

    Raises Refused: any code of the first family of `merge.errors.Code`; OSError if the folder
    itself cannot be read.
    """
    listing = {entry.name for entry in os.scandir(folder)}
    if INDEX in listing:
        weight_map = parse_index(read_small(folder / INDEX, MAX_HEADER), listing)
        files = sorted(set(weight_map.values()))
    elif SINGLE in listing:
        weight_map, files = None, [SINGLE]
    else:
        raise no_safetensors(listing)
    in_play = {file.casefold() for file in files}
    _check_case({name for name in listing if name.casefold() in in_play}, Code.UNSAFE_FILE)
    headers: dict[str, dict[str, TensorSpec]] = {}
    stamps: dict[str, Stamp] = {}
    left, room = max_tensors, MAX_HEADER
    for file in files:
        raw, stamps[file] = _raw_header(folder / file, room)
        headers[file] = parse_header(raw, file, stamps[file].size, max_tensors=left)
        left, room = left - len(headers[file]), room - len(raw)
    return replace(assemble(headers, weight_map), stamps=stamps)


def read_file_layout(path: Path, *, max_tensors: int = MAX_TENSORS) -> Layout:
    """Layout of one safetensors file of any name, e.g. an adapter's. Raises Refused."""
    raw, stamp = _raw_header(path, MAX_HEADER)
    header = parse_header(raw, path.name, stamp.size, max_tensors=max_tensors)
    return replace(assemble({path.name: header}), stamps={path.name: stamp})


def no_safetensors(listing: Iterable[str]) -> Refused:
    """The refusal for a folder without a safetensors model, saying what lies there instead."""
    listing = list(listing)
    if "adapter_model.safetensors" in listing:
        return Refused(
            Code.UNSUPPORTED_ADAPTER, "adapter_model.safetensors", "an adapter in place of a model",
            "merge it into its base (merge_and_unload) and save the whole",
        )  # fmt: skip
    pickles = sorted(n for n in listing if n.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")))
    other = sorted(n for n in listing if n.endswith((".safetensors", ".gguf", ".onnx")))
    found = ", ".join((pickles + other)[:5]) or "no weights at all"
    return Refused(
        Code.NO_SAFETENSORS, SINGLE, f"not there; found {found}", "save as safetensors; pickles "
        "are never opened",
    )  # fmt: skip


def is_plain_name(name: str) -> bool:
    """True for a .safetensors file name without any path meaning under POSIX or Windows rules."""
    return bool(_PLAIN_NAME.fullmatch(name)) and not _DEVICES.match(name)


def _raw_header(path: Path, room: int) -> tuple[bytes, Stamp]:
    """A file's bytes up to the end of its header, at most about `room`, and what it is like."""
    with open(open_regular(path), "rb") as stream:
        stamp = Stamp.of(os.fstat(stream.fileno()))
        first8 = stream.read(8)
        rest = header_length(first8, path.name, stamp.size) - 8
        if rest > room:
            detail = f"the headers of all files together have more than {MAX_HEADER} bytes"
            raise Refused(Code.HEADER_TOO_LARGE, path.name, detail, RESAVE)
        return first8 + stream.read(rest), stamp


def _check_case(names: Collection[str], code: Code) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise Refused(code, name, f"differs from {twin} only by case", "rename one")
