"""The configuration of virtual machines as it was last read, kept on disk across restarts.

Their devices are most of what a full read reads. vCenter names each state of a configuration by
``config.changeVersion`` (vSphere Web Services API, VirtualMachineConfigInfo): while that is the
same, and the power state too, by which devices connect, they need not be read again.

It is a cache and nothing more. An edge without it reads everything; it is used only together with
what vCenter says at that moment; and what was taken from it is read again little by little.
"""

import contextlib
import dataclasses
import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from common.log_fields import fields
from common.references import Key
from common.version import SOFTWARE_VERSION
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE
from vsphere_gateway.v1 import inventory_pb2

log = logging.getLogger(__name__)

_PREFIX: Final = "configuration-"
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS machine"
    " (key TEXT PRIMARY KEY, change_version TEXT NOT NULL, state BLOB NOT NULL) WITHOUT ROWID"
)
_SELECT: Final = "SELECT key, change_version, state FROM machine"
_REPLACE: Final = "INSERT OR REPLACE INTO machine VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM machine WHERE key = ?"
_LOCKED_SECONDS: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class CachedConfiguration:
    """One virtual machine as it was last read."""

    change_version: str
    """``config.changeVersion`` of that state."""
    state: bytes
    """A ``VirtualMachine`` in the form in which ``machines.Machine`` keeps it."""


class ConfigurationCache:
    """One file for one vCenter and one version of this software. Used by one thread.

    No method raises because of the file: one that cannot be used is warned about and left alone
    until the next start.
    """

    def __init__(self, directory: Path | None) -> None:
        """``directory`` is made if it is missing; None keeps nothing."""
        self._directory = directory
        self._file = Path()
        self._stored: dict[Key, int] = {}
        """Hashes of what the file holds."""

    def load(self, vcenter_uuid: str) -> Mapping[Key, CachedConfiguration]:
        """Load what is kept of a vCenter; what is kept of any other is deleted."""
        self._stored = {}
        if self._directory is None:
            return {}
        self._file = self._directory / f"{_PREFIX}{vcenter_uuid}-{_fingerprint()}.sqlite"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._delete_others()
            found = self._read()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            return {}
        self._stored = {key: hash(cached) for key, cached in found.items()}
        return found

    def store(self, machines: Iterable[tuple[Key, CachedConfiguration]]) -> None:
        """Keep exactly these; only what has changed is written."""
        if self._directory is None:
            return
        changed: list[tuple[Key, str, bytes]] = []
        hashes: dict[Key, int] = {}
        for key, cached in machines:
            hashes[key] = hash(cached)
            if self._stored.get(key) != hashes[key]:
                changed.append((key, cached.change_version, cached.state))
        gone = self._stored.keys() - hashes.keys()
        if changed or gone:
            try:
                self._write(changed, gone)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)
                return
            self._stored = hashes

    def _read(self) -> dict[Key, CachedConfiguration]:
        with contextlib.closing(self._open()) as connection:
            return {
                key: CachedConfiguration(version, state)
                for key, version, state in connection.execute(_SELECT)
            }

    def _write(self, changed: list[tuple[Key, str, bytes]], gone: Iterable[Key]) -> None:
        with contextlib.closing(self._open()) as connection, connection:
            connection.executemany(_REPLACE, changed)
            connection.executemany(_DELETE, [(key,) for key in gone])
        log.debug("configurations kept", extra=fields(count=len(changed)))

    def _open(self) -> sqlite3.Connection:
        if not self._file.exists():
            self._file.touch(mode=0o600)
        connection = sqlite3.connect(self._file, timeout=_LOCKED_SECONDS)
        connection.execute(_TABLE)
        return connection

    def _delete_others(self) -> None:
        for file in self._file.parent.glob(f"{_PREFIX}*"):
            if not file.name.startswith(self._file.name):
                file.unlink()

    def _give_up(self, error: Exception) -> None:
        """Continue without a cache; a damaged file is deleted."""
        log.warning(
            "cache of configurations not usable, all is read from vCenter",
            extra=fields(name=self._file, error=error),
        )
        self._directory, self._stored = None, {}
        # A full disk or a locked file is an OperationalError.
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)


def _fingerprint() -> str:
    """Hash everything that decides what a kept state means."""
    digest = hashlib.sha256(SOFTWARE_VERSION.encode())
    digest.update("".join(VIRTUAL_MACHINE.all_paths).encode())
    digest.update(inventory_pb2.DESCRIPTOR.serialized_pb)
    return digest.hexdigest()[:16]
