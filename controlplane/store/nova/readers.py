"""Reads Nova's rows for verification and diagnostics. Nothing is locked, nothing written."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection, RowMapping

from controlplane.store.database import Database
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    COMPUTE_NODES,
    HOST_MAPPINGS,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCE_MAPPINGS,
    INSTANCES,
    METADATA,
    MIGRATIONS,
    REQUEST_SPECS,
    SERVICES,
    SYSTEM_METADATA,
)

Row = RowMapping
AT_ONCE = 500

SERVER_COLUMNS = (
    "uuid", "deleted", "project_id", "user_id", "display_name", "host", "node", "compute_id",
    "vm_state", "power_state", "task_state", "vcpus", "memory_mb", "root_gb", "ephemeral_gb",
    "instance_type_id", "root_device_name", "disable_terminate", "image_ref", "reservation_id",
    "launched_at",
)  # fmt: skip
NODE_COLUMNS = (
    "id", "host", "uuid", "hypervisor_hostname", "vcpus", "memory_mb", "local_gb", "deleted",
)  # fmt: skip
_CELL = {
    "extra": (INSTANCE_EXTRA, ("flavor",)),
    "info_caches": (INFO_CACHES, ("network_info",)),
    "metadata": (METADATA, ("key", "value")),
    "system_metadata": (SYSTEM_METADATA, ("key", "value")),
    "devices": (
        BLOCK_DEVICES,
        (
            "uuid", "device_name", "volume_size", "boot_index", "disk_bus", "source_type",
            "destination_type",
        ),
    ),
}  # fmt: skip
_API = {
    "mappings": (INSTANCE_MAPPINGS, ("cell_id", "project_id", "user_id", "queued_for_delete")),
    "request_specs": (REQUEST_SPECS, ("spec",)),
}


@dataclass(slots=True)
class ServerRows:
    """All rows of one server; of its children those that are not deleted."""

    instance: Row
    extra: list[Row] = field(default_factory=list)
    info_caches: list[Row] = field(default_factory=list)
    metadata: list[Row] = field(default_factory=list)
    system_metadata: list[Row] = field(default_factory=list)
    devices: list[Row] = field(default_factory=list)
    mappings: list[Row] = field(default_factory=list)
    request_specs: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class HostRows:
    """The rows of one compute host that are not deleted."""

    services: list[Row] = field(default_factory=list)
    nodes: list[Row] = field(default_factory=list)
    mappings: list[Row] = field(default_factory=list)


class NovaReader:
    """Reads Nova's databases for verification. Every method raises ``StoreError``. Thread-safe."""

    def __init__(self, databases: NovaDatabases) -> None:
        """``databases`` are not closed here."""
        self._databases = databases

    @property
    def cell_id(self) -> int:
        """`cell_mappings.id` of the cell."""
        return self._databases.cell_id

    def servers(self, uuids: Collection[str]) -> dict[str, ServerRows]:
        """Read servers by UUID, deleted ones too; those that Nova does not have are left out."""
        with self._databases.cell.read() as connection:
            found = {
                row["uuid"]: ServerRows(row)
                for row in _select(connection, INSTANCES, SERVER_COLUMNS, "uuid", uuids)
            }
            _attach(connection, found, _CELL)
        with self._databases.api.read() as connection:
            _attach(connection, found, _API)
        return found

    def living(self, hosts: Collection[str]) -> Iterator[Row]:
        """Read the servers on some hosts that are not deleted."""
        query = (
            sqlalchemy.select(*(INSTANCES.c[name] for name in SERVER_COLUMNS))
            .where(INSTANCES.c.host.in_(sorted(hosts)), INSTANCES.c.deleted == 0)
            .order_by(INSTANCES.c.id)
        )
        yield from _streamed(self._databases.cell, query)

    def hosts(self, names: Collection[str]) -> dict[str, HostRows]:
        """Read the rows of some compute hosts."""
        found = {name: HostRows() for name in names}
        with self._databases.cell.read() as connection:
            columns = ("id", "host", "binary", "disabled", "deleted")
            for row in _select(connection, SERVICES, columns, "host", names):
                if not row["deleted"] and row["binary"] == "nova-compute":
                    found[row["host"]].services.append(row)
            for row in _select(connection, COMPUTE_NODES, NODE_COLUMNS, "host", names):
                if not row["deleted"]:
                    found[row["host"]].nodes.append(row)
        with self._databases.api.read() as connection:
            for row in _select(connection, HOST_MAPPINGS, ("host", "cell_id"), "host", names):
                found[row["host"]].mappings.append(row)
        return found

    def migrations(self, uuids: Collection[str]) -> set[str]:
        """Find which of some UUIDs are migrations', which hold allocations during a resize."""
        with self._databases.cell.read() as connection:
            rows = _select(connection, MIGRATIONS, ("uuid",), "uuid", uuids)
            return {row["uuid"] for row in rows}


def _attach(
    connection: Connection,
    servers: Mapping[str, ServerRows],
    tables: Mapping[str, tuple[Table, tuple[str, ...]]],
) -> None:
    for name, (table, columns) in tables.items():
        grouped: dict[str, list[Row]] = defaultdict(list)
        wanted = ("instance_uuid", *columns)
        for row in _select(connection, table, wanted, "instance_uuid", servers):
            grouped[row["instance_uuid"]].append(row)
        for uuid, rows in grouped.items():
            setattr(servers[uuid], name, rows)


def _select(
    connection: Connection,
    table: Table,
    columns: Collection[str],
    key: str,
    values: Collection[str],
) -> Iterator[Row]:
    """Read rows by one column, without the deleted ones of a server's children."""
    ordered = sorted(values)
    for start in range(0, len(ordered), AT_ONCE):
        query = sqlalchemy.select(*(table.c[name] for name in columns)).where(
            table.c[key].in_(ordered[start : start + AT_ONCE])
        )
        if key == "instance_uuid" and "deleted" in table.c:
            query = query.where(table.c.deleted == 0)
        yield from connection.execute(query).mappings()


def _streamed(database: Database, query: sqlalchemy.Select[Any]) -> Iterator[Row]:
    with database.read() as connection:
        options = connection.execution_options(yield_per=AT_ONCE)
        yield from options.execute(query).mappings()


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
    """Reads for diagnostics what Nova says of servers: it may differ from vCenter for a while."""

    def __init__(self, cell: Database) -> None:
        """``cell`` is not closed here."""
        self._cell = cell

    def read(self, uuids: Collection[str]) -> dict[str, ListedServer]:
        """Read servers by UUID; those that Nova does not have are left out.

        Raises ``StoreError``.
        """
        columns = ("uuid", "vm_state", "task_state", "power_state", "host", "deleted")
        with self._cell.read() as connection:
            rows = list(_select(connection, INSTANCES, columns, "uuid", uuids))
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
