"""The header of one safetensors file: names, dtypes, shapes and byte ranges, from a stranger.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header
length n, n bytes of JSON, then the tensors' bytes without holes. The reference reader already
refuses overlaps, holes and trailing bytes; added here, because it accepts them: a cap of 25 MB on
the header, a cap on the number of tensors, and duplicate keys. `__metadata__` is never kept.

Standard library only. Not promised: that values are finite (see `merge.fingerprints`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NoReturn

from merge.errors import Code, Refused, brief
from merge.untrusted import parse_json

MAX_HEADER = 25_000_000
"""Bytes, of the headers of all files together; the Hub client reads as much of a remote one."""
MAX_TENSORS = 100_000
_METADATA_QUOTES = 100_000
"""Quotation marks of `__metadata__`, those within texts too; a tensor's entry has ten."""
RESAVE = "save the model again with save_pretrained"

BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of every dtype name of safetensors 0.8."""


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


def header_length(first8: bytes, file: str, file_size: int) -> int:
    """Bytes from the start of the file to the end of its header, `8 + n`.

    Raises Refused: `bad-safetensors`, `header-too-large`.
    """
    if len(first8) < 8 or file_size < 8:
        bad_header(file, f"{file_size} bytes are too few for a header")
    n = int.from_bytes(first8[:8], "little")
    if n > MAX_HEADER:
        raise Refused(
            Code.HEADER_TOO_LARGE, file, f"header of {n} bytes, more than {MAX_HEADER}", RESAVE
        )
    if 8 + n > file_size:
        bad_header(file, f"header of {n} bytes is longer than the file of {file_size}")
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
        bad_header(file, f"only {len(raw)} of {start} header bytes were given")
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


def _spec(name: str, entry: object, file: str, start: int) -> TensorSpec:
    if not _is_text(name):
        bad_header(file, f"name {name!r} is not Unicode text")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        bad_header(file, f"entry of {name!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        bad_header(file, f"{name!r} has unknown dtype {brief(dtype)}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        bad_header(file, f"shape or offsets of {name!r} are malformed")
    begin, end = offsets
    bits = prod(shape) * BITS[dtype]
    if bits != 8 * (end - begin):
        bad_header(file, f"{name!r}: {dtype}{list(shape)} does not fill {end - begin} bytes")
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
            bad_header(file, f"hole or overlap before {spec.name!r}, at byte {spec.begin}")
        at = spec.end
    if at != file_size:
        bad_header(file, f"tensors end at byte {at}, the file at {file_size}")


def _check_bulk(text: bytes, file: str, max_tensors: int) -> None:
    """Bound the parser's memory before it runs: structure characters cannot hide in escapes."""
    if not text.startswith(b"{"):
        bad_header(file, "header does not start with {")
    if text.count(b"{") > max_tensors + 2:
        _too_many(file, text.count(b"{"), max_tensors)
    many = text.count(b"[") > 2 * max_tensors + 2 or text.count(b",") > 16 * max_tensors + 100
    if many or text.count(b'"') > 10 * max_tensors + _METADATA_QUOTES:
        raise Refused(Code.HEADER_TOO_LARGE, file, "more values than its tensors need", RESAVE)


def _check_metadata(metadata: object, file: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        bad_header(file, "__metadata__ is not a map of strings")


def bad_header(file: str, detail: str) -> NoReturn:
    raise Refused(Code.BAD_SAFETENSORS, file, detail, RESAVE)


def _too_many(file: str, found: int, allowed: int) -> NoReturn:
    raise Refused(
        Code.TOO_MANY_TENSORS, file, f"{found} entries, at most {allowed} make sense", RESAVE
    )
