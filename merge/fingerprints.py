"""What a checkpoint is, said by its content: a digest, a sketch, and its state of health.

Content digest. Names sorted; of every tensor its name, shape and the SHA-256 over the digests of
its chunks of 2^18 elements; a chunk of floats enters in the narrowest of bfloat16, float16, float32
and float64 that holds all its elements bit for bit. So the digest does not change with sharding,
file names, file order or container dtype, as long as values are equal. Left out: buffers that a
model recomputes, and a language-model head that equals the embedding (transformers may drop it).

Sketch. A count sketch (Charikar, Chen, Farach-Colton 2002) of the difference to the base, 128
numbers of unit length: the dot product of two sketches estimates the cosine between two fine-tunes'
differences, within about 0.09 (one standard error, 1 / sqrt(128)). A copy with noise added keeps a
cosine near 1; independent fine-tunes of one base lie far below.

numpy only. Not promised: that equal sketches mean equal models, or anything about quality.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merge.arithmetic import plain_arithmetic
from merge.checkpoint import BITS, Layout, TensorSpec, open_regular, read_layout
from merge.compat import FLOATS, compare_layouts, derived, head_and_embedding
from merge.definition import decode
from merge.errors import Code, Refused

CHUNK = 1 << 18
"""Elements hashed at a time; part of the definition of the digest."""
SKETCH = 128


@dataclass(frozen=True, slots=True)
class Health:
    """fingerprint: content digest, 64 hex digits. unequal: names of tensors of integers or bools
    that differ from the base's: no soup averages them. non_finite: names of tensors with NaN or
    infinity. norm_ratio_min, norm_ratio_max: (tensor, |x| / |base|) of the extremes over tensors
    with a finite norm and a non-zero base, ("", 1.0) if there is none. delta_norm:
    |model - base| / |base| over all finite tensors. sketch: 128 floats, all zero if nothing
    differs."""

    fingerprint: str
    unequal: tuple[str, ...]
    non_finite: tuple[str, ...]
    norm_ratio_min: tuple[str, float]
    norm_ratio_max: tuple[str, float]
    delta_norm: float
    sketch: tuple[float, ...]


def fingerprint(
    folder: Path,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Content digest of the checkpoint in `folder`; reads every byte once. Raises Refused.

    progress: told the bytes of every tensor that has been read, one call after the other.
    """
    layout = read_layout(folder)
    specs = [spec for spec in layout.tensors.values() if not derived(spec)]
    digests = {}
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = pool.map(lambda spec: tensor_digest(folder, spec), specs)
        for spec, digest in zip(specs, found, strict=True):
            digests[spec.name] = digest
            if progress is not None:
                progress(spec.nbytes)
    return _combine(layout, digests)


def examine(folder: Path, base_folder: Path, *, threads: int | None = None) -> Health:
    """Digest, finiteness, norms and sketch of a fine-tune, in one pass over it and its base.

    Raises Refused if the two cannot be compared tensor by tensor.
    """
    base = read_layout(base_folder)
    layout = read_layout(folder, max_tensors=4 * len(base.tensors))
    for reason in compare_layouts(base, layout):
        raise reason
    specs = [spec for spec in layout.tensors.values() if not derived(spec)]
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = list(pool.map(lambda s: _examine(folder, s, base_folder, _twin(base, s)), specs))
    return _health(layout, {spec.name: one for spec, one in zip(specs, found, strict=True)})


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """Estimated cosine between two differences from the same base, from their sketches."""
    return float(np.dot(np.asarray(one), np.asarray(other)))


@plain_arithmetic()
def tensor_digest(folder: Path, spec: TensorSpec) -> bytes:
    """SHA-256 over the digests of the tensor's chunks, 32 bytes."""
    total = hashlib.sha256()
    for raw in _chunks(folder, spec):
        total.update(_chunk_digest(raw, spec.dtype))
    return total.digest()


def canonical(raw: bytes, dtype: str) -> tuple[str, bytes]:
    """The narrowest float dtype that holds all elements bit for bit, and their bytes in it."""
    if dtype == "BF16" or dtype not in FLOATS:
        return dtype, raw
    if dtype == "F64":
        wide = np.frombuffer(raw, "<f8")
        with np.errstate(over="ignore", invalid="ignore"):
            single = wide.astype("<f4")
        same = single.astype("<f8").view("<u8") == wide.view("<u8")
        return canonical(single.tobytes(), "F32") if same.all() else ("F64", raw)
    floats = np.frombuffer(raw, "<f4" if dtype == "F32" else "<f2").astype("<f4")
    bits = floats.view("<u4")
    if not np.bitwise_or.reduce(bits, initial=0) & 0xFFFF:
        return "BF16", (bits >> 16).astype("<u2").tobytes()
    if dtype == "F16":
        return "F16", raw
    if not np.bitwise_or.reduce(bits, initial=0) & 0x1FFF:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            half = floats.astype("<f2")
        if (half.astype("<f4").view("<u4") == bits).all():
            return "F16", half.tobytes()
    return "F32", raw


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What one pass over one tensor gave; norms are sums of squares."""

    digest: bytes
    equal: bool  # or of floats
    finite: bool
    norm: float
    base: float
    delta: float
    sketch: NDArray[np.float64]


@plain_arithmetic()
def _examine(folder: Path, spec: TensorSpec, base_folder: Path, base: TensorSpec) -> _Tensor:
    digest = hashlib.sha256()
    equal, finite, norm, base_norm, delta_norm = True, True, 0.0, 0.0, 0.0
    sketch = np.zeros(SKETCH)
    pairs = zip(_chunks(folder, spec), _chunks(base_folder, base), strict=True)
    for number, (raw, base_raw) in enumerate(pairs):
        digest.update(_chunk_digest(raw, spec.dtype))
        if spec.dtype not in FLOATS:
            equal = equal and raw == base_raw
            continue
        x, origin = decode(raw, spec.dtype), decode(base_raw, base.dtype)
        if not np.isfinite(x).all():
            finite = False
            continue
        delta = x - origin
        norm += float(np.dot(x, x))
        base_norm += float(np.dot(origin, origin))
        delta_norm += float(np.dot(delta, delta))
        sketch += _sketch(delta, f"{base.name}:{number}")
    return _Tensor(digest.digest(), equal, finite, norm, base_norm, delta_norm, sketch)


@plain_arithmetic()
def _health(layout: Layout, found: Mapping[str, _Tensor]) -> Health:
    sane = {name: one for name, one in sorted(found.items()) if one.finite and isfinite(one.norm)}
    ratios = [(n, sqrt(one.norm / one.base)) for n, one in sane.items() if one.base > 0] or [
        ("", 1.0)
    ]
    base = sum(one.base for one in sane.values())
    delta = sum(one.delta for one in sane.values())
    sketch = sum((one.sketch for one in sane.values()), np.zeros(SKETCH))
    length = float(np.linalg.norm(sketch))
    return Health(
        _combine(layout, {name: one.digest for name, one in found.items()}),
        tuple(sorted(name for name, one in found.items() if not one.equal)),
        tuple(sorted(name for name, one in found.items() if name not in sane)),
        min(ratios, key=lambda pair: pair[1]),
        max(ratios, key=lambda pair: pair[1]),
        sqrt(delta / base) if base else 0.0,
        tuple(round(float(v), 6) for v in (sketch / length if length else sketch)),
    )


def _combine(layout: Layout, digests: Mapping[str, bytes]) -> str:
    head, embedding = head_and_embedding(layout)
    tied = head is not None and digests.get(head) == digests.get(embedding or "")
    total = hashlib.sha256(b"stockpot content 1\n")
    for name in sorted(digests):
        if not (tied and name == head):
            shape = layout.tensors[name].shape
            total.update(repr((name, shape)).encode() + digests[name])
    return total.hexdigest()


def _chunk_digest(raw: bytes, dtype: str) -> bytes:
    kind, narrow = canonical(raw, dtype)
    digest = hashlib.sha256(kind.encode() + b"\n")
    digest.update(narrow)
    return digest.digest()


def _chunks(folder: Path, spec: TensorSpec) -> Iterator[bytes]:
    """The tensor's bytes, CHUNK elements at a time. Raises Refused: `changed`."""
    step = CHUNK * BITS[spec.dtype] // 8
    fd = open_regular(folder / spec.file)
    try:
        for begin in range(spec.begin, spec.end, step):
            want = min(step, spec.end - begin)
            raw = os.pread(fd, want, begin)
            if len(raw) != want:
                raise Refused(
                    Code.CHANGED, spec.file, "is shorter than its header said", "start again"
                )
            yield raw
    finally:
        os.close(fd)


def _twin(base: Layout, spec: TensorSpec) -> TensorSpec:
    """The base's tensor of that name, or its embedding where it ties a head that `spec` is."""
    return base.tensors.get(spec.name) or base.tensors[head_and_embedding(base)[1] or ""]


_SIGNS = np.where(np.random.Generator(np.random.PCG64(20251113)).integers(0, 2, CHUNK), 1.0, -1.0)


def _sketch(delta: NDArray[np.float64], label: str) -> NDArray[np.float64]:
    """Elements with random signs added into SKETCH buckets; the label varies the bucket signs."""
    whole = len(delta) // SKETCH * SKETCH
    signed = delta * _SIGNS[: len(delta)]
    buckets = signed[:whole].reshape(-1, SKETCH).sum(axis=0)
    buckets[: len(delta) - whole] += signed[whole:]
    bits = np.frombuffer(hashlib.sha256(label.encode()).digest(), np.uint8)
    return np.asarray(buckets * (1.0 - 2.0 * np.unpackbits(bits)[:SKETCH]))
