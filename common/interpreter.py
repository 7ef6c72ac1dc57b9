"""Keeps Python's interpreter from letting one thread wait long for another.

Source: Python's ``gc`` module, ``Modules/gcmodule.c``; ``sys.setswitchinterval``.
"""

import gc
import sys
from typing import Final

_SWITCH_SECONDS: Final = 0.0005
"""Python's own is ten times as long. What a change passes on its way to the database gives the
interpreter away each time it waits, and has to wait so long for it while a first sync computes."""


def switch_often() -> None:
    """Let a thread that computes give way soon to one that has got its answer."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def leave_out_present() -> None:
    """Take what is there now out of the sight of the collector of reference cycles.

    Modules live as long as the process. With Nova's, a walk through everything takes 0.1 to 0.4 s,
    in which no thread runs, and one comes each time that the objects have grown by a quarter. Call
    this when everything has started; it is such a walk itself. More objects between the walks were
    tried too: a first sync became slower.
    """
    gc.collect()
    gc.freeze()
