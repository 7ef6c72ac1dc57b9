"""Who uses a shared server: the last one out stops it, unless somebody keeps it."""

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
    uses it; the kernel drops the lock even when a run is killed. A server that somebody
    keeps, by hand or because it serves the cloud, is never stopped from here.
    """

    def __init__(self, name: str, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._name = name
        self._start = start
        self._stop = stop
        self._file = -1

    def __enter__(self) -> Self:
        with locked(f"{self._name}.start"):
            self._file = _users_file(self._name)
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
            if not keepers(self._name) and _is_last(self._file):
                self._stop()
            os.close(self._file)


def keep(name: str, keeper: str, start: Callable[[], None]) -> None:
    """Start a server that stays until the keeper releases it."""
    with locked(f"{name}.start"):
        start()
        _mark(name, keeper).touch()


def release(name: str, keeper: str, stop: Callable[[], None]) -> bool:
    """Stop a server unless somebody else keeps or uses it; returns whether it was stopped."""
    with locked(f"{name}.start"):
        _mark(name, keeper).unlink(missing_ok=True)
        if keepers(name) or _is_used(name):
            return False
        stop()
        return True


def keepers(name: str) -> list[str]:
    """Who keeps a server."""
    return sorted(path.name for path in _marks(name).iterdir())


def _marks(name: str) -> Path:
    return folder(f"locks/{name}.keepers")


def _mark(name: str, keeper: str) -> Path:
    return _marks(name) / keeper


def _users_file(name: str) -> int:
    return os.open(folder("locks") / f"{name}.users", os.O_RDWR | os.O_CREAT, 0o600)


def _is_used(name: str) -> bool:
    file = _users_file(name)
    try:
        return not _is_last(file)
    finally:
        os.close(file)


def _is_last(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
