"""What Nova's own rows say of servers, for diagnostics: it may differ from vCenter for a while."""

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.store import bulk
from controlplane.store.database import Database
from controlplane.store.nova.tables import INSTANCES

_STATUS = {
    "active": "ACTIVE",
    "building": "BUILD",
    "stopped": "SHUTOFF",
    "suspended": "SUSPENDED",
    "paused": "PAUSED",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
    "error": "ERROR",
    "soft-delete": "SOFT_DELETED",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
}
"""nova/api/openstack/common.py:_STATE_MAP, where no task runs."""
_POWER = {0: "pending", 1: "running", 3: "paused", 4: "shutdown", 6: "crashed", 7: "suspended"}
"""nova/objects/fields.py:InstancePowerState."""


@dataclass(frozen=True, slots=True)
class ListedServer:
    """One server as `openstack server list` would show it."""

    status: str
    """With the task that runs, if one does: `ACTIVE (powering-off)`."""
    power_state: str
    compute_host: str


class ListedServers:
    """Reads servers out of a cell."""

    def __init__(self, cell: Database) -> None:
        """``cell`` is not closed here."""
        self._cell = cell

    def read(self, uuids: Collection[str]) -> dict[str, ListedServer]:
        """Return servers by UUID; those that Nova does not have are left out.

        Raises ``StoreError``.
        """
        columns = ("uuid", "vm_state", "task_state", "power_state", "host", "deleted")
        with self._cell.read() as connection:
            rows = [
                row
                for batch in bulk.batches(sorted(uuids))
                for row in bulk.select_in(connection, INSTANCES, columns, "uuid", batch)
            ]
        return {
            row["uuid"]: ListedServer(
                _status(row["vm_state"] or "", row["task_state"] or ""),
                _POWER.get(row["power_state"], "pending"),
                row["host"] or "",
            )
            for row in rows
            if not row["deleted"]
        }


def _status(vm_state: str, task_state: str) -> str:
    status = _STATUS.get(vm_state, vm_state.upper())
    return f"{status} ({task_state})" if task_state else status
