"""A batch of servers in the cell database: its rows, locked and read, and what to write of them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection, RowMapping

from controlplane.domain.records import Origin
from controlplane.store import bulk
from controlplane.store.bulk import Row
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    COMPUTE_NODES,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    SYSTEM_METADATA,
)

ADOPTED_RESERVATION = "vsg-"
"""Begins the reservation id of every server that we adopted; Nova's own begin with `r-`."""

INSTANCE_COLUMNS = (
    "id",
    "uuid",
    "project_id",
    "user_id",
    "display_name",
    "host",
    "node",
    "compute_id",
    "vm_state",
    "power_state",
    "task_state",
    "vcpus",
    "memory_mb",
    "root_gb",
    "ephemeral_gb",
    "instance_type_id",
    "root_device_name",
    "disable_terminate",
    "locked",
    "locked_by",
    "deleted",
    "deleted_at",
    "terminated_at",
    "cleaned",
    "reservation_id",
)
_CHILDREN: dict[Table, tuple[str, ...]] = {
    INSTANCE_EXTRA: ("id", "instance_uuid", "flavor", "deleted", "deleted_at"),
    INFO_CACHES: ("id", "instance_uuid", "network_info", "deleted", "deleted_at"),
    METADATA: ("id", "instance_uuid", "key", "value", "deleted", "deleted_at"),
    SYSTEM_METADATA: ("id", "instance_uuid", "key", "value", "deleted", "deleted_at"),
    BLOCK_DEVICES: (
        "id",
        "instance_uuid",
        "uuid",
        "device_name",
        "volume_size",
        "boot_index",
        "disk_bus",
        "source_type",
        "destination_type",
        "deleted",
        "deleted_at",
    ),
}


@dataclass(slots=True)
class Existing:
    """The rows of one server as they are now."""

    columns: RowMapping
    extra: RowMapping | None = None
    info_cache: RowMapping | None = None
    metadata: dict[str, RowMapping] = field(default_factory=dict)
    system_metadata: dict[str, RowMapping] = field(default_factory=dict)
    devices: dict[str, RowMapping] = field(default_factory=dict)

    @property
    def origin(self) -> Origin:
        """Adopted if it has our reservation id, else created through OpenStack."""
        reservation = self.columns["reservation_id"] or ""
        return Origin.ADOPTED if reservation.startswith(ADOPTED_RESERVATION) else Origin.CREATED


def lock(connection: Connection, uuids: Collection[str]) -> dict[str, Existing]:
    """Lock instance rows in the order of their UUIDs, and read them with their children.

    Of a deleted server the children are those that were deleted with it; of any other those that
    are not deleted, and local disks that Nova has deleted.
    """
    rows = connection.execute(_LOCK, {"uuids": sorted(uuids)}).mappings().all()
    servers = {row["uuid"]: Existing(row) for row in rows}
    if not servers:
        return servers
    with_deleted = any(row["deleted"] for row in rows)
    statements = _ALL_CHILDREN if with_deleted else _LIVING_CHILDREN
    for table, statement in statements.items():
        for uuid, children in _children(connection, table, statement, servers).items():
            _attach(servers[uuid], table, children)
    return servers


# Built once: composing statements costs more than a single change's rows.
_UUIDS: sqlalchemy.BindParameter[Any] = sqlalchemy.bindparam("uuids", expanding=True)
_LOCK = (
    sqlalchemy.select(*(INSTANCES.c[column] for column in INSTANCE_COLUMNS))
    # Without the hint a small table is scanned, and the scan waits for rows of other servers.
    .with_hint(INSTANCES, "FORCE INDEX (uniq_instances0uuid)", "mysql")
    .where(INSTANCES.c.uuid.in_(_UUIDS))
    .order_by(INSTANCES.c.uuid)
    .with_for_update()
)
_ALL_CHILDREN = {
    table: sqlalchemy.select(*(table.c[column] for column in columns))
    .where(table.c.instance_uuid.in_(_UUIDS))
    .order_by(table.c.id)
    for table, columns in _CHILDREN.items()
}
_LOCAL_OR_LIVING = (BLOCK_DEVICES.c.deleted == 0) | (BLOCK_DEVICES.c.destination_type == "local")
_LIVING_CHILDREN = {
    table: _ALL_CHILDREN[table].where(
        # An API that ends in the middle of a local delete leaves a living server whose block
        # devices are deleted; their UUIDs are unique, so that they cannot be written anew.
        _LOCAL_OR_LIVING if table is BLOCK_DEVICES else table.c.deleted == 0
    )
    for table in _CHILDREN
    # Never compared, only restored.
    if table is not SYSTEM_METADATA
}


def _children(
    connection: Connection,
    table: Table,
    statement: sqlalchemy.Select[Any],
    servers: Mapping[str, Existing],
) -> dict[str, list[RowMapping]]:
    grouped: dict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(statement, {"uuids": list(servers)}).mappings():
        if _belongs(table, row, servers[row["instance_uuid"]].columns):
            grouped[row["instance_uuid"]].append(row)
    return grouped


def _belongs(table: Table, child: RowMapping, server: RowMapping) -> bool:
    if not server["deleted"]:
        local = table is BLOCK_DEVICES and child["destination_type"] == "local"
        return local or not child["deleted"]
    if table is BLOCK_DEVICES:
        # Nova's API marks them before the instance, with calls of other services in between, and
        # their UUIDs are unique: each still is the same disk's.
        return True
    if not child["deleted"] or not child["deleted_at"] or not server["deleted_at"]:
        return True
    # Nova marks the instance first, then its children, in one transaction.
    return bool(child["deleted_at"] >= server["deleted_at"])


def _attach(server: Existing, table: Table, rows: Sequence[RowMapping]) -> None:
    if table is INSTANCE_EXTRA:
        server.extra = rows[-1]
    elif table is INFO_CACHES:
        server.info_cache = rows[-1]
    elif table is METADATA:
        server.metadata = {row["key"]: row for row in rows}
    elif table is SYSTEM_METADATA:
        server.system_metadata = {row["key"]: row for row in rows}
    else:
        server.devices = {row["uuid"]: row for row in rows}


def compute_ids(connection: Connection, hosts: Collection[str]) -> dict[tuple[str, str], int]:
    """Read ``compute_nodes.id`` by host and node."""
    rows = connection.execute(_COMPUTE_IDS, {"hosts": sorted(hosts)})
    return {(host, node): number for host, node, number in rows}


_COMPUTE_IDS = sqlalchemy.select(
    COMPUTE_NODES.c.host, COMPUTE_NODES.c.hypervisor_hostname, COMPUTE_NODES.c.id
).where(
    COMPUTE_NODES.c.host.in_(sqlalchemy.bindparam("hosts", expanding=True)),
    COMPUTE_NODES.c.deleted == 0,
)


_ORDER = (INSTANCES, *_CHILDREN)
"""Parents first: the children have foreign keys."""


@dataclass(slots=True)
class Writes:
    """Rows to insert, rows to update by id, and ids of rows of ours to delete."""

    inserts: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    updates: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    deletes: dict[Table, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __bool__(self) -> bool:
        return any((*self.inserts.values(), *self.updates.values(), *self.deletes.values()))

    def add(self, other: "Writes") -> None:
        """Add the writes of one server."""
        for mine, theirs in (
            (self.inserts, other.inserts),
            (self.updates, other.updates),
        ):
            for table, rows in theirs.items():
                mine[table].extend(rows)
        for table, ids in other.deletes.items():
            self.deletes[table].extend(ids)

    def flush(self, connection: Connection) -> None:
        """Run all of it, one statement for each table and kind."""
        for table in _ORDER:
            bulk.delete(connection, table, self.deletes.get(table, []))
            bulk.update(connection, table, self.updates.get(table, []))
            bulk.insert(connection, table, self.inserts.get(table, []))
