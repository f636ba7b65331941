"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685) as members: W + s B A, never made whole.

An adapter folder holds `adapter_config.json` and `adapter_model.safetensors` in peft's format. Its
member is the base with the adapter on top; per element, in fp64,

    x = fl64(W + fl64(s * sum_j fl64(B[i, j] A[j, k])))     j = 0, 1, ..., r - 1 in this order

with s = alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732). x enters the
soup unrounded, so a soup of adapters is closer to the trained models than one of merged copies.
r is taken from the tensors, alpha from `alpha_pattern` where a plain name there ends the module's.

Refused, with the key at fault: whatever is not W + s B A (DoRA, other peft types, biases, fully
trained modules, embeddings, transposed layers, initialisations that change W), patterns of alpha
that are regular expressions, and keys that nobody here has heard of. Not promised: that the adapter
was trained on this very base; peft records a name only.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from merge.arithmetic import plain_arithmetic
from merge.checkpoint import (
    BITS,
    INDEX,
    SINGLE,
    Layout,
    Stamp,
    TensorSpec,
    open_regular,
    read_config,
    read_file_layout,
)
from merge.compat import FLOATS
from merge.definition import decode
from merge.direct import room
from merge.errors import Code, Refused, brief, changed

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SIDE = 1 << 18
"""Numbers of a pair's halves that are in memory at once, each: 2 MiB in fp64."""

_FREE = frozenset(
    {
        "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules",
        "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
        "loftq_config", "lora_alpha", "lora_dropout", "megatron_config", "megatron_core",
        "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
        "runtime_config", "target_modules", "task_type", "use_rslora", "ensure_weight_tying",
    }
)  # fmt: skip
"""Keys that are read here or only steer training; every other one must be empty or false."""
_INITS = (None, True, False, "gaussian", "eva", "orthogonal")
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """One adapted matrix. a: [r, in]; b: [out, r]; scale: s, fp64."""

    a: TensorSpec
    b: TensorSpec
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """name: how refusals call it; pairs: by the name of the base's tensor, e.g.
    `model.layers.0.self_attn.q_proj.weight`; stamps: of its files."""

    name: str
    folder: Path
    pairs: Mapping[str, Pair]
    stamps: Mapping[str, Stamp]

    @plain_arithmetic()
    def digest(self, base: str) -> str:
        """Content digest of the member: base digest, then every pair's scale and bytes."""
        total = hashlib.sha256(f"stockpot adapter 1\n{base}\n".encode())
        for name, pair in sorted(self.pairs.items()):
            total.update(repr((name, pair.scale, pair.a.shape, pair.b.shape)).encode())
            for spec in (pair.a, pair.b):
                rows, columns = spec.shape
                step = max(1, SIDE // max(1, columns))
                for top in range(0, rows, step):
                    total.update(self.rows(spec, top, min(top + step, rows)).tobytes())
        return total.hexdigest()

    def rows(self, spec: TensorSpec, first: int, last: int) -> NDArray[np.float64]:
        """Rows first : last of half a pair, fp64 [last - first, columns].

        Raises Refused: `changed`, `non-finite`.
        """
        return _read(self, spec, range(first, last), range(spec.shape[1]))


def is_adapter(folder: Path) -> bool:
    """True if the folder offers an adapter and no model; False where it cannot be listed."""
    try:
        return lists_adapter(os.listdir(folder))
    except OSError:
        return False  # whoever opens it says what is wrong


def lists_adapter(names: Collection[str]) -> bool:
    """The same of the names of its files."""
    return CONFIG in names and not {SINGLE, INDEX} & set(names)


def open_adapter(folder: Path, base: Layout, name: str = "") -> Adapter:
    """Pairs of an adapter that fits `base`; headers only. Raises Refused.

    name: by default the folder's.
    """
    config = read_config(folder / CONFIG, Code.UNSUPPORTED_ADAPTER)
    _check_config(config)
    halves: dict[str, dict[str, TensorSpec]] = {}
    most = 4 * len(base.tensors)  # two halves a matrix is what an honest one has
    layout = read_file_layout(folder / WEIGHTS, max_tensors=most)
    for key, spec in layout.tensors.items():
        found = _KEY.fullmatch(key)
        if found is None or spec.dtype not in FLOATS:
            raise _unsupported(key, f"{spec.dtype} tensor is not half of a LoRA pair")
        halves.setdefault(found["module"], {})[found["half"]] = spec
    pairs = {f"{m}.weight": _pair(m, both, config, base) for m, both in sorted(halves.items())}
    return Adapter(name or folder.name, folder, pairs, layout.stamps)


@dataclass(frozen=True, slots=True)
class LowRank:
    """What a rectangle of an adapted matrix takes from its pair, and where it lies among elements.

    a: fp64 [r, columns]; b: fp64 [rows, r]; scale: s. Of some consecutive elements of the flattened
    matrix the `at`th is the rectangle's first; its rows begin `step` elements apart.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    scale: float
    at: int
    step: int


class Tiles:
    """Columns of A that threads have read for one another; SIDE numbers each, 48 MiB in all."""

    MOST = 24

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Path, str, range], NDArray[np.float64]] = OrderedDict()

    def columns(self, adapter: Adapter, spec: TensorSpec, across: range) -> NDArray[np.float64]:
        """All rows of these columns, fp64 [r, columns]. Raises Refused: `changed`, `non-finite`."""
        key = adapter.folder, spec.name, across
        with self._lock:  # also while reading: many threads want the same one at once
            if key not in self._held:
                self._held[key] = _kept(_read(adapter, spec, range(spec.shape[0]), across))
            self._held.move_to_end(key)
            if len(self._held) > self.MOST:
                self._held.popitem(last=False)
            return self._held[key]


def _kept(a: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = room(a.nbytes).view(np.float64).reshape(a.shape)
    kept[:] = a
    return kept


def low_rank(
    adapter: Adapter, name: str, start: int, count: int, tiles: Tiles
) -> Iterator[LowRank]:
    """Rectangles that make up elements start : start + count of the flattened matrix, none empty.

    Small ones, so that memory does not grow with rank or matrix. Raises Refused: `changed`,
    `non-finite`.
    """
    pair = adapter.pairs[name]
    rank, width = pair.a.shape
    most = max(1, SIDE // rank)
    for rows, columns in _rectangles(start, count, width):
        for top in range(rows.start, rows.stop, most):
            b = adapter.rows(pair.b, top, min(top + most, rows.stop))
            for left in range(columns.start // most * most, columns.stop, most):
                tile = range(left, min(left + most, width))
                wanted = range(max(left, columns.start), min(tile.stop, columns.stop))
                whole = tiles.columns(adapter, pair.a, tile)
                a = whole[:, wanted.start - left : wanted.stop - left]
                yield LowRank(a, b, pair.scale, top * width + wanted.start - start, width)


def adapted(weight: NDArray[np.float64], parts: Iterable[LowRank]) -> NDArray[np.float64]:
    """x of the module docstring, fp64 [n]. weight: W's elements, fp64 [n], which `parts` cover."""
    result = np.empty_like(weight)
    for part in parts:
        shape, strides = (len(part.b), part.a.shape[1]), (8 * part.step, 8)
        total, product = np.zeros(shape), np.empty(shape)
        for j in range(len(part.a)):  # the definition's order; a matrix product has none
            np.multiply(part.b[:, j : j + 1], part.a[j], out=product)
            total += product
        total *= part.scale
        given, wanted = (as_strided(x[part.at :], shape, strides) for x in (weight, result))
        np.add(given, total, out=wanted)
    return result


def _rectangles(start: int, count: int, width: int) -> Iterator[tuple[range, range]]:
    """Rows and columns of the first row where it is cut, of the whole ones, of the last one."""
    end = start + count
    while start < end:
        row, column = divmod(start, width)
        if column or end - start < width:
            stop = min(end, (row + 1) * width)
            yield range(row, row + 1), range(column, column + stop - start)
        else:
            stop = end - end % width
            yield range(row, stop // width), range(width)
        start = stop


def _pair(
    module: str, both: Mapping[str, TensorSpec], config: Mapping[str, object], base: Layout
) -> Pair:
    target = base.tensors.get(f"{module}.weight")
    if set(both) != {"A", "B"}:
        raise _unsupported(module, "has only one half of a LoRA pair")
    if target is None or target.dtype not in FLOATS or len(target.shape) != 2:
        raise Refused(
            Code.WRONG_TENSORS, f"{module}.weight", "adapted, but no matrix of the base",
            "give the base that the adapter was trained on",
        )  # fmt: skip
    a, b = both["A"], both["B"]
    ranks = a.shape[:1] == b.shape[1:] and len(a.shape) == len(b.shape) == 2
    if not ranks or (b.shape[0], a.shape[1]) != target.shape or not a.shape[0]:
        shapes = f"{list(b.shape)} times {list(a.shape)}"
        raise Refused(
            Code.WRONG_SHAPES, f"{module}.weight", f"{shapes} for {list(target.shape)}",
            "give the base that the adapter was trained on",
        )  # fmt: skip
    rank = a.shape[0]
    return Pair(a, b, _alpha(module, config) / (sqrt(rank) if config.get("use_rslora") else rank))


def _alpha(module: str, config: Mapping[str, object]) -> float:
    alpha: object = config.get("lora_alpha", 8)
    patterns = config.get("alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise _unsupported("lora_alpha", f"is {brief(alpha)}")
    return float(alpha)


def _check_config(config: Mapping[str, object]) -> None:
    if config.get("peft_type") != "LORA":
        raise _unsupported("peft_type", f"is {brief(config.get('peft_type'))}, not 'LORA'")
    if config.get("init_lora_weights") not in _INITS:
        raise _unsupported("init_lora_weights", "may have changed the base's own weights")
    for key, value in sorted(config.items()):
        if key not in _FREE and value and not (key == "bias" and value == "none"):
            raise _unsupported(key, f"is {brief(value)}: more than W + s B A")
    patterns = config.get("alpha_pattern")
    for pattern in patterns if isinstance(patterns, Mapping) else ():
        if not _PLAIN.fullmatch(pattern):
            raise _unsupported("alpha_pattern", f"{pattern!r:.60} is a regular expression")


def _unsupported(subject: str, detail: str) -> Refused:
    remedy = "merge the adapter into its base (merge_and_unload) and use the full checkpoint"
    return Refused(Code.UNSUPPORTED_ADAPTER, subject, detail, remedy)


def _read(adapter: Adapter, spec: TensorSpec, rows: range, columns: range) -> NDArray[np.float64]:
    item, width = BITS[spec.dtype] // 8, spec.shape[1]
    found = np.empty((len(rows), len(columns)))
    at_once = len(rows) if len(columns) == width else 1  # whole rows lie one behind the other
    fd = open_regular(adapter.folder / spec.file)
    try:
        if Stamp.of(os.fstat(fd)) != adapter.stamps[spec.file]:
            raise changed(f"{adapter.name}: {spec.file}")
        for i in range(0, len(rows), at_once):
            begin = spec.begin + ((rows.start + i) * width + columns.start) * item
            raw = os.pread(fd, at_once * len(columns) * item, begin)
            if len(raw) != at_once * len(columns) * item:
                raise changed(f"{adapter.name}: {spec.file}")
            found[i : i + at_once] = decode(raw, spec.dtype).reshape(at_once, -1)
    finally:
        os.close(fd)
    if not np.isfinite(found).all():
        subject = f"{adapter.name}: {spec.name}"
        raise Refused(Code.NON_FINITE, subject, "NaN or infinity", "leave it out")
    return found
