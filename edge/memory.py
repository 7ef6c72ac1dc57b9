"""Keeps the process small: what was freed goes back to the system.

A full read parses megabytes in short bursts, by several threads; glibc would keep all that they
ever used, in an arena for each.
"""

import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8
"""mallopt(3)."""
_ARENAS: Final = 2

_libc = ctypes.CDLL(None)


def limit_arenas() -> None:
    """Let the threads of this process share few arenas; call it before they start."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, _ARENAS)


def release() -> None:
    """Give memory back that is free; some milliseconds, so call it after a burst only."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
