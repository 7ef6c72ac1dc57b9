"""The directory of one control plane, which only one process uses at a time."""

import fcntl
import os
import uuid
from pathlib import Path
from typing import IO

from controlplane.domain.errors import StartError

LOCK_FILE = "lock"
ID_FILE = "id"


class StateDirectory:
    """Holds a lock in the directory for as long as this object is open."""

    def __init__(self, path: Path) -> None:
        """Make and lock the directory. Raises ``StartError``."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock: IO[str] = (path / LOCK_FILE).open("a+")
        except OSError as error:
            raise StartError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise StartError(
                f"{path} is in use by another control plane (process {holder})"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def instance_id(self) -> str:
        """Read the id of this directory's control plane, which a restart does not change.

        Raises ``StartError``.
        """
        file = self.path / ID_FILE
        try:
            if not file.exists():
                draft = file.with_suffix(".new")
                draft.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
                draft.replace(file)
            return file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise StartError(f"{file}: {error.strerror}") from error

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()
