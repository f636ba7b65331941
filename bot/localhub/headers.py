"""The parameter counts that a model page shows, read from safetensors headers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

MAX_HEADER = 25_000_000  # bytes, the client's own limit


def summarise(files: Iterable[Path]) -> dict[str, Any] | None:
    """`{"parameters": {dtype: count}, "total": count}`, or None if any file is not safetensors."""
    counts: Counter[str] = Counter()
    for file in files:
        header = _header(file)
        if header is None:
            return None
        counts.update(header)
    return {"parameters": dict(counts), "total": sum(counts.values())} if counts else None


def _header(file: Path) -> Counter[str] | None:
    """Parameters per dtype of one file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        raw = stream.read(length) if length <= MAX_HEADER else b""
    counts: Counter[str] = Counter()
    try:
        for name, spec in json.loads(raw).items():
            if name != "__metadata__":
                counts[str(spec["dtype"])] += _parameters(spec["shape"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # a stranger's file; the page just says nothing about it
    return counts


def _parameters(shape: list[int]) -> int:
    """Raises ValueError for a shape that no file can have."""
    if not all(0 <= size < 2**40 for size in shape) or len(shape) > 16:
        raise ValueError(f"not a shape: {shape}")
    return prod(int(size) for size in shape)
