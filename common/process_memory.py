"""Keeps a process small, and its threads from waiting for Python's cyclic garbage collector.

A full read of a vCenter parses megabytes in short bursts, by several threads; glibc would keep all
that they ever used, in an arena for each. And the garbage collector would walk through all that is
known of vCenter, or through all of Nova's modules (0.1 to 0.4 s), again and again while every
thread waits.
Sources: mallopt(3), malloc_trim(3), Python's ``gc`` module and ``Modules/gcmodule.c``.
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


def freeze_gc() -> None:
    """Exclude what exists now from later garbage collections, what was excluded before included.

    Takes some hundredths of a second up to half a second, so call it after a burst only, or when
    everything has started. More objects between the collections were tried too: a first sync became
    slower.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def trim_memory() -> None:
    """Give free memory back to the system, and freeze what is left (``freeze_gc``)."""
    freeze_gc()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
