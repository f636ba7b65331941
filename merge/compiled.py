"""The compiled kernel: `merge/blend.c` with its headers, built by the installation where it can be.

It is declared as an optional extension, so pip builds it into a wheel or beside this file and goes
on without it where there is no compiler; nothing is ever compiled when the program runs. It is a
plain shared object for ctypes rather than an extension module: no Python header is needed to build
it, one build serves every Python, and a call lets go of the interpreter's lock. A file that cannot
be loaded, or whose `soup_version` is another, counts as absent. `merge.kernel` then gives the same
bytes, several times slower.

The environment variable STOCKPOT_KERNEL says `torch` to do without it, or `compiled` to insist.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merge.direct import room
from merge.lora import LowRank
from merge.ranges import FORMATS, Magnitudes, may_overflow

VERSION = 4
"""As `soup_version` of the sources."""
VARIABLE = "STOCKPOT_KERNEL"

_PAD = 8
"""Numbers between the rows of A: rows a power of two apart share a few lines of the cache."""
Floats = tuple[NDArray[np.uint8], str]
"""Bytes of a block, naturally aligned, and their safetensors dtype."""
_NUMBERS = {"BF16": 0, "F16": 1, "F32": 2, "F64": 3}


class _Block(ctypes.Structure):
    """`struct block` of the sources."""

    _fields_ = (
        ("inputs", ctypes.c_void_p),
        ("formats", ctypes.c_void_p),
        ("numerators", ctypes.c_void_p),
        ("terms", ctypes.c_int),
        ("denominator", ctypes.c_double),
        ("out", ctypes.c_void_p),
        ("out_format", ctypes.c_int),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
    )


class _Adapted(ctypes.Structure):
    """`struct adapted` of the sources."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("format", ctypes.c_int),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("rank", ctypes.c_size_t),
        ("columns", ctypes.c_size_t),
        ("stride", ctypes.c_size_t),
        ("step", ctypes.c_size_t),
        ("scale", ctypes.c_double),
        ("out", ctypes.c_void_p),
    )


def load() -> ctypes.CDLL | None:
    """The library, or None where `merge.kernel` must do. Raises ImportError if insisted on."""
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "torch", "compiled"):
        raise ImportError(f"{VARIABLE} is {wish!r}, neither 'torch' nor 'compiled'")
    if wish == "torch":
        return None
    library = open_library(Path(__file__).parent)
    if library is None and wish == "compiled":
        raise ImportError("merge.blend was not compiled: install again where a C compiler is")
    return library


@cache
def open_library(folder: Path) -> ctypes.CDLL | None:
    """The first loadable build of these sources in `folder`."""
    for suffix in EXTENSION_SUFFIXES:
        try:
            library = ctypes.CDLL(str(folder / f"_blend{suffix}"))
            if library.soup_version() == VERSION:
                for call in (library.soup_block, library.soup_adapt):
                    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
                    call.restype = None
                return library
        except (OSError, AttributeError):
            continue
    return None


class CompiledKernel:
    """One thread's arguments for blocks of at most `terms` terms.

    level: instruction set, 0 to `library.soup_level()`, which is the default; the bytes are equal.
    """

    def __init__(self, library: ctypes.CDLL, terms: int, level: int | None = None) -> None:
        self._run, self._adapt = library.soup_block, library.soup_adapt
        self._level = library.soup_level() if level is None else level
        self._space = np.empty(0)
        self._inputs = (ctypes.c_void_p * terms)()
        self._formats = (ctypes.c_int * terms)()
        self._numerators = (ctypes.c_double * terms)()
        self._low = (ctypes.c_uint64 * (terms + 1))()
        self._high = (ctypes.c_uint64 * (terms + 1))()
        self._block = _Block(
            ctypes.addressof(self._inputs),
            ctypes.addressof(self._formats),
            ctypes.addressof(self._numerators),
        )

    def mix(
        self,
        inputs: Sequence[Floats],
        numerators: Sequence[int],
        denominator: int,
        out: Floats,
        known: Sequence[Magnitudes] | None = None,
    ) -> list[Magnitudes]:
        """As `merge.kernel.TorchKernel.mix`."""
        form = FORMATS[out[1]]
        measure = known is None or may_overflow(known, numerators, denominator, form)
        block, count = self._block, len(out[0]) * 8 // form.width
        for k, (data, dtype) in enumerate(inputs):
            if len(data) * 8 != count * FORMATS[dtype].width:
                raise ValueError(f"term {k} has {len(data)} bytes for {count} elements")
            self._inputs[k], self._formats[k] = data.ctypes.data, _NUMBERS[dtype]
            self._numerators[k] = numerators[k]
        block.terms, block.denominator = len(inputs), denominator
        block.out, block.out_format = out[0].ctypes.data, _NUMBERS[out[1]]
        block.low = ctypes.addressof(self._low) if measure else None
        block.high = ctypes.addressof(self._high) if measure else None
        self._run(ctypes.addressof(block), count, self._level)
        if known is not None and not measure:
            return [*known, Magnitudes(form, 0, 0)]
        forms = [FORMATS[dtype] for _, dtype in (*inputs, out)]
        return [Magnitudes(f, self._low[k], self._high[k]) for k, f in enumerate(forms)]

    def adapt(self, weight: Floats, parts: Iterable[LowRank], out: NDArray[np.float64]) -> None:
        """As `merge.lora.adapted`: out = W + s B A, fp64 [n], for the n elements of `weight`."""
        data, dtype = weight
        item = FORMATS[dtype].width // 8
        for part in parts:
            rank, columns = part.a.shape
            a = self._near(part.a)
            block = _Adapted(
                data.ctypes.data + part.at * item, _NUMBERS[dtype], a.ctypes.data,
                part.b.ctypes.data, rank, columns, columns + _PAD, part.step, part.scale,
                out.ctypes.data + part.at * 8,
            )  # fmt: skip
            self._adapt(ctypes.addressof(block), len(part.b), self._level)

    def _near(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """A copy in the caches of this core; its rows, taken one after the other, are far apart."""
        rank, columns = a.shape
        if self._space.size < rank * (columns + _PAD):
            self._space = room(rank * (columns + _PAD) * 8).view(np.float64)
        copy = self._space[: rank * (columns + _PAD)].reshape(rank, -1)
        copy[:, :columns] = a
        return copy
