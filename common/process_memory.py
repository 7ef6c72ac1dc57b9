"""Keeps the process small, and its threads from waiting long for each other.

A full read parses megabytes in short bursts, by several threads; glibc would keep all that they
ever used, in an arena for each. And Python's collector of reference cycles would walk through all
that is known of vCenter again and again, while every thread waits.
Sources: mallopt(3), malloc_trim(3), Python's ``gc`` module, ``sys.setswitchinterval``.
"""

import ctypes
import gc
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
"""mallopt(3)."""
_ARENAS: Final = 2
_SWITCH_SECONDS: Final = 0.0005
"""Python's own is ten times as long, and a change of vCenter's has to get past the parsing of what
else is read at each step."""

_libc = ctypes.CDLL(None)


def limit_arenas() -> None:
    """Let the threads of this process share few arenas; call it before they start."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, _ARENAS)


def switch_often() -> None:
    """Let a thread that computes give way soon to one that has got its answer."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def release() -> None:
    """Give memory back that is free, and take what is left out of the collector's sight.

    Some hundredths of a second, so call it after a burst only.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
