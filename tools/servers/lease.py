"""Who uses a shared server: the last one out stops it, unless it was started to stay."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.servers.state import folder, locked


class Lease:
    """Use of a server by this process.

    Several test runs of one checkout may share a server. Each holds a shared lock while it
    uses it; the kernel drops the lock even when a run is killed. A server that was started
    by hand is marked as kept and never stopped from here.
    """

    def __init__(self, name: str, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._name = name
        self._start = start
        self._stop = stop
        self._file = -1

    def __enter__(self) -> Self:
        with locked(f"{self._name}.start"):
            path = folder("locks") / f"{self._name}.users"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_SH)
            try:
                self._start()
            except BaseException:
                os.close(self._file)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with locked(f"{self._name}.start"):
            if not kept_file(self._name).exists() and self._is_last():
                self._stop()
            os.close(self._file)

    def _is_last(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def kept_file(name: str) -> Path:
    """Exists while a server is to outlive the runs that use it."""
    return folder("locks") / f"{name}.kept"


def keep(name: str, start: Callable[[], None]) -> None:
    """Start a server that stays until release()."""
    with locked(f"{name}.start"):
        start()
        kept_file(name).touch()


def release(name: str, stop: Callable[[], None]) -> None:
    """Stop a server, whoever started it."""
    with locked(f"{name}.start"):
        kept_file(name).unlink(missing_ok=True)
        stop()
