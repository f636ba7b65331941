"""Where every tensor of an output lies: files, headers, index. Depends on names and sizes alone.

Tensors by falling element size, then by name; files of at most `max_shard` bytes of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from merge.checkpoint import BITS, SINGLE, TensorSpec

MAX_SHARD = 5_000_000_000
"""Bytes of tensors in one output file, as save_pretrained's default."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """name, the bytes before the tensors, and the size of the whole file."""

    name: str
    header: bytes
    size: int


def place(outs: list[TensorSpec], max_shard: int) -> dict[str, TensorSpec]:
    """Give every output tensor its file and its bytes, counted from the start of the data."""
    outs = sorted(outs, key=lambda spec: (-BITS[spec.dtype], spec.name))
    shards: list[list[TensorSpec]] = [[]]
    filled = 0
    for spec in outs:
        if shards[-1] and filled + spec.nbytes > max_shard:
            shards.append([])
            filled = 0
        shards[-1].append(spec)
        filled += spec.nbytes
    placed: dict[str, TensorSpec] = {}
    for i, shard in enumerate(shards, start=1):
        many = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        file = SINGLE if len(shards) == 1 else many
        at = 0
        for spec in shard:
            placed[spec.name] = TensorSpec(
                spec.name, spec.dtype, spec.shape, file, at, at + spec.nbytes
            )
            at += spec.nbytes
    return placed


def frame(outs: dict[str, TensorSpec]) -> tuple[tuple[OutputFile, ...], bytes | None]:
    """Headers of all files; moves every spec in `outs` behind its file's header."""
    files = []
    for file in sorted({spec.file for spec in outs.values()}):
        shard = [spec for spec in outs.values() if spec.file == file]
        header = _header(shard)
        for s in shard:
            begin = len(header) + s.begin
            outs[s.name] = TensorSpec(s.name, s.dtype, s.shape, file, begin, begin + s.nbytes)
        files.append(OutputFile(file, header, len(header) + sum(s.nbytes for s in shard)))
    if len(files) == 1:
        return tuple(files), None
    index = {
        "metadata": {"total_size": sum(spec.nbytes for spec in outs.values())},
        "weight_map": {name: outs[name].file for name in sorted(outs)},
    }
    return tuple(files), json.dumps(index, indent=2).encode() + b"\n"


def _header(shard: Sequence[TensorSpec]) -> bytes:
    """Length and JSON, padded so that the data start at a multiple of 8 bytes.

    `{"format": "pt"}` is written because older loaders refuse files without it.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for spec in shard:
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [spec.begin, spec.end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
