"""The floating-point environment of the definition: ties to even, subnormals kept.

Both belong to a thread, which takes them over from the one that starts it, and both can be changed
by anybody in the process: `torch.set_flush_denormal(True)`, a library built with -ffast-math.
numpy and torch compute in whatever they find; the compiled kernel sets its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl
_ROOM = 256  # bytes of an fenv_t, at most
_C = ctypes.CDLL(None)


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """What the calling thread computes within is not rounded or flushed by others' settings, which
    it has again after it. Also a decorator."""
    callers = ctypes.create_string_buffer(_ROOM)
    _C.fegetenv(callers)
    _C.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        _C.fesetenv(callers)
