"""Open an untrusted safetensors checkpoint: names, dtypes, shapes and byte ranges, headers only.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header
length n, n bytes of JSON, then the tensors' bytes without holes. The reference reader already
refuses overlaps, holes and trailing bytes; added here, because it accepts them: a cap of 25 MB on
the header, a cap on the number of tensors, duplicate keys, and shard names that leave the folder
under POSIX or Windows rules. `__metadata__` is never kept. Files that an index does not name are
ignored, and where an index exists it decides, also beside a lone `model.safetensors`.

Standard library only, so that a process which must not run strangers' data through anything larger
can import it. Not promised: that values are finite (see `merge.fingerprints`), or that a file does
not change after it was looked at (readers check its size again).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn

from merge.errors import Code, Refused, brief
from merge.untrusted import open_regular, parse_json, read_small

__all__ = [
    "BITS",
    "INDEX",
    "MAX_CONFIG",
    "MAX_HEADER",
    "MAX_TENSORS",
    "MAX_TOKENIZER",
    "SINGLE",
    "Layout",
    "TensorSpec",
    "assemble",
    "header_length",
    "is_plain_name",
    "no_safetensors",
    "open_regular",
    "parse_header",
    "parse_index",
    "parse_json",
    "read_file_layout",
    "read_layout",
    "read_small",
]

MAX_HEADER = 25_000_000
"""Bytes, of the headers of all files together; the Hub client reads as much of a remote one."""
MAX_TENSORS = 100_000
MAX_CONFIG = 10_000_000
MAX_TOKENIZER = 100_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of every dtype name of safetensors 0.8."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}\.safetensors", re.ASCII)
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
_RESAVE = "save the model again with save_pretrained"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where one tensor lies: bytes `begin:end` of `file`, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Layout:
    """All tensors of a checkpoint by name, and the files they lie in."""

    tensors: Mapping[str, TensorSpec]
    files: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, headers not counted."""
        return sum(spec.nbytes for spec in self.tensors.values())

    def file_size(self, file: str) -> int:
        """Bytes that `file` had when it was looked at; headers are validated to leave no rest."""
        return max((spec.end for spec in self.tensors.values() if spec.file == file), default=0)


def header_length(first8: bytes, file: str, file_size: int) -> int:
    """Bytes from the start of the file to the end of its header, `8 + n`.

    Raises Refused: `bad-safetensors`, `header-too-large`.
    """
    if len(first8) < 8 or file_size < 8:
        _bad(file, f"{file_size} bytes are too few for a header")
    n = int.from_bytes(first8[:8], "little")
    if n > MAX_HEADER:
        raise Refused(
            Code.HEADER_TOO_LARGE, file, f"header of {n} bytes, more than {MAX_HEADER}", _RESAVE
        )
    if 8 + n > file_size:
        _bad(file, f"header of {n} bytes is longer than the file of {file_size}")
    return 8 + n


def parse_header(
    raw: bytes, file: str, file_size: int, *, max_tensors: int = MAX_TENSORS
) -> dict[str, TensorSpec]:
    """Tensors of one safetensors file, in the order of their bytes.

    raw: the file's bytes from offset 0, at least to the end of the header (more is ignored).
    file_size: of the whole file, in bytes. Spec offsets are absolute in that file.
    Raises Refused: `bad-safetensors`, `header-too-large`, `too-many-tensors`.
    """
    start = header_length(raw[:8], file, file_size)
    if len(raw) < start:
        _bad(file, f"only {len(raw)} of {start} header bytes were given")
    text = raw[8:start]
    _check_bulk(text, file, max_tensors)
    entries = parse_json(text, file, Code.BAD_SAFETENSORS)
    _check_metadata(entries.pop("__metadata__", {}), file)
    if len(entries) > max_tensors:
        _too_many(file, len(entries), max_tensors)
    specs = [_spec(name, entry, file, start) for name, entry in entries.items()]
    specs.sort(key=lambda spec: (spec.begin, spec.end))
    _check_contiguous(specs, file, start, file_size)
    return {spec.name: spec for spec in specs}


def parse_index(raw: bytes, listing: Collection[str]) -> dict[str, str]:
    """Tensor name -> shard file, from the bytes of `model.safetensors.index.json`.

    listing: names of the files that lie beside the index. `total_size` is not trusted or used.
    Raises Refused: `bad-index`, `missing-shard`, `header-too-large`.
    """
    if len(raw) > MAX_HEADER:
        raise Refused(
            Code.HEADER_TOO_LARGE, INDEX, f"{len(raw)} bytes, more than {MAX_HEADER}", _RESAVE
        )
    if raw.count(b'"') > 4 * MAX_TENSORS + 1000 or raw.count(b"[") + raw.count(b"{") > 1000:
        raise Refused(Code.BAD_INDEX, INDEX, "more entries than any checkpoint has", _RESAVE)
    weight_map = parse_json(raw, INDEX, Code.BAD_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Refused(Code.BAD_INDEX, INDEX, "no weight_map", _RESAVE)
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain_name(shard):
            raise Refused(
                Code.BAD_INDEX,
                tensor,
                f"lies in {brief(shard)}, not a plain .safetensors name",
                _RESAVE,
            )
    shards = set(weight_map.values())
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
                raise Refused(Code.BAD_INDEX, name, f"lies in {file}, index disagrees", _RESAVE)
            if name in tensors:
                raise Refused(Code.BAD_INDEX, name, f"in {tensors[name].file} and {file}", _RESAVE)
            tensors[name] = spec
    for name in sorted(set(weight_map or ()) - set(tensors)):
        raise Refused(Code.BAD_INDEX, name, "named by the index, in no file", _RESAVE)
    if not tensors:
        _bad(", ".join(sorted(headers)), "holds no tensor")
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
    left, room = max_tensors, MAX_HEADER
    for file in files:
        raw, size = _raw_header(folder / file, room)
        headers[file] = parse_header(raw, file, size, max_tensors=left)
        left, room = left - len(headers[file]), room - len(raw)
    return assemble(headers, weight_map)


def read_file_layout(path: Path, *, max_tensors: int = MAX_TENSORS) -> Layout:
    """Layout of one safetensors file of any name, e.g. an adapter's. Raises Refused."""
    raw, size = _raw_header(path, MAX_HEADER)
    return assemble({path.name: parse_header(raw, path.name, size, max_tensors=max_tensors)})


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


def _raw_header(path: Path, room: int) -> tuple[bytes, int]:
    """A file's bytes up to the end of its header, at most about `room`, and the file's size."""
    with open(open_regular(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        first8 = stream.read(8)
        rest = header_length(first8, path.name, size) - 8
        if rest > room:
            detail = f"the headers of all files together have more than {MAX_HEADER} bytes"
            raise Refused(Code.HEADER_TOO_LARGE, path.name, detail, _RESAVE)
        return first8 + stream.read(rest), size


def _spec(name: str, entry: object, file: str, start: int) -> TensorSpec:
    if not _is_text(name):
        _bad(file, f"name {name!r} is not Unicode text")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _bad(file, f"entry of {name!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _bad(file, f"{name!r} has unknown dtype {brief(dtype)}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        _bad(file, f"shape or offsets of {name!r} are malformed")
    begin, end = offsets
    bits = prod(shape) * BITS[dtype]
    if bits != 8 * (end - begin):
        _bad(file, f"{name!r}: {dtype}{list(shape)} does not fill {end - begin} bytes")
    return TensorSpec(name, dtype, tuple(shape), file, start + begin, start + end)


def _is_text(name: str) -> bool:
    """False for halves of characters ("\\ud800"), which JSON can spell and UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _naturals(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 64
        and all(type(n) is int and 0 <= n < 2**63 for n in value)
    )


def _check_contiguous(specs: list[TensorSpec], file: str, start: int, file_size: int) -> None:
    at = start
    for spec in specs:
        if spec.begin != at:
            _bad(file, f"hole or overlap before {spec.name!r}, at byte {spec.begin}")
        at = spec.end
    if at != file_size:
        _bad(file, f"tensors end at byte {at}, the file at {file_size}")


def _check_bulk(text: bytes, file: str, max_tensors: int) -> None:
    """Bound the parser's memory before it runs: structure characters cannot hide in escapes."""
    if not text.startswith(b"{"):
        _bad(file, "header does not start with {")
    if text.count(b"{") > max_tensors + 2:
        _too_many(file, text.count(b"{"), max_tensors)
    if text.count(b"[") > 2 * max_tensors + 2 or text.count(b",") > 16 * max_tensors + 100:
        raise Refused(Code.HEADER_TOO_LARGE, file, "more values than its tensors need", _RESAVE)


def _check_metadata(metadata: object, file: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _bad(file, "__metadata__ is not a map of strings")


def _check_case(names: Collection[str], code: Code) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise Refused(code, name, f"differs from {twin} only by case", "rename one")


def _bad(file: str, detail: str) -> NoReturn:
    raise Refused(Code.BAD_SAFETENSORS, file, detail, _RESAVE)


def _too_many(file: str, found: int, allowed: int) -> NoReturn:
    raise Refused(
        Code.TOO_MANY_TENSORS, file, f"{found} entries, at most {allowed} make sense", _RESAVE
    )
