"""The rows of a compute host: service, compute node, and the host's mapping to its cell."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection, RowMapping

from common.timestamps import naive_utc_now
from controlplane.domain.records import ComputeHostRecord, ServiceStatus
from controlplane.store import bulk
from controlplane.store.errors import ComputeHostError, ServersLeftError
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.tables import (
    AGGREGATE_HOSTS,
    COMPUTE_NODES,
    HOST_MAPPINGS,
    INSTANCES,
    SERVICES,
)

BINARY = "nova-compute"
TOPIC = "compute"
SERVICE_VERSION = 74
"""nova/objects/service.py:SERVICE_VERSION of Nova 34; a worker that starts writes its own."""
AUTOMATIC = "AUTO:"
"""Begins the reason of every disable that no operator made."""
FIRST_SYNC = "AUTO: first sync"
HYPERVISOR_TYPE = "VMware vCenter Server"
"""As nova/virt/vmwareapi/host.py."""

_MINE = (SERVICES.c.binary == BINARY) & (SERVICES.c.deleted == 0)


class ComputeHostRows:
    """Compute hosts in the API database and one cell."""

    def __init__(
        self, databases: NovaDatabases, clock: Callable[[], datetime] = naive_utc_now
    ) -> None:
        """``databases`` are not closed here."""
        self._databases = databases
        self._clock = clock

    def provision(self, record: ComputeHostRecord) -> ServiceStatus:
        """Make or restore the rows; a new service is disabled, an old one left as it is."""
        now = self._clock()
        self._databases.api.run(lambda connection: self._map_host(connection, record.host, now))

        def work(connection: Connection) -> ServiceStatus:
            service = _service(connection, record.host, now)
            _compute_node(connection, record, service["id"], now)
            return _status(service)

        return self._databases.cell.run(work)

    def status(self, host: str) -> ServiceStatus | None:
        """Read the service's row; None when there is none."""
        with self._databases.cell.read() as connection:
            row = _select_service(connection, host)
        return _status(row) if row else None

    def disable(self, host: str, reason: str) -> ServiceStatus:
        """Disable the service unless an operator has. Raises ``ComputeHostError`` without one."""
        if not reason.startswith(AUTOMATIC):
            raise ValueError(f"the reason must start with {AUTOMATIC}: {reason}")
        ours = SERVICES.c.disabled.is_not(True) | SERVICES.c.disabled_reason.startswith(AUTOMATIC)
        return self._switch(host, ours, disabled=True, disabled_reason=reason[:255])

    def enable(self, host: str) -> ServiceStatus:
        """Enable the service unless an operator disabled it. Raises ``ComputeHostError``."""
        ours = SERVICES.c.disabled_reason.startswith(AUTOMATIC)
        return self._switch(host, ours, disabled=False, disabled_reason=None)

    def node_uuid(self, host: str) -> str | None:
        """Read the UUID of the host's compute node, None when it has none."""
        statement = sqlalchemy.select(COMPUTE_NODES.c.uuid).where(
            COMPUTE_NODES.c.host == host, COMPUTE_NODES.c.deleted == 0
        )
        with self._databases.cell.read() as connection:
            return connection.execute(statement).scalars().first()

    def require_empty(self, host: str) -> None:
        """Raise ``ServersLeftError`` when servers are left on a host."""
        with self._databases.cell.read() as connection:
            _require_empty(connection, host)

    def ended(self, host: str) -> frozenset[str]:
        """Read the UUIDs of a host's deleted servers, as far as Nova still has their rows."""
        with self._databases.cell.read() as connection:
            return ended_servers(connection, host)

    def remove(self, host: str) -> None:
        """Remove the rows as Nova's `compute service delete` does. Raises ``ServersLeftError``."""
        now = self._clock()

        def in_cell(connection: Connection) -> None:
            _require_empty(connection, host)
            for table in (SERVICES, COMPUTE_NODES):
                connection.execute(
                    table.update()
                    .where(table.c.host == host, table.c.deleted == 0)
                    .values(deleted=table.c.id, deleted_at=now)
                )

        def in_api(connection: Connection) -> None:
            connection.execute(HOST_MAPPINGS.delete().where(HOST_MAPPINGS.c.host == host))
            connection.execute(AGGREGATE_HOSTS.delete().where(AGGREGATE_HOSTS.c.host == host))

        self._databases.cell.run(in_cell)
        self._databases.api.run(in_api)

    def _switch(self, host: str, ours: Any, **values: Any) -> ServiceStatus:
        def work(connection: Connection) -> ServiceStatus:
            connection.execute(
                SERVICES.update()
                .where(_MINE, SERVICES.c.host == host, ours)
                .values(**values, updated_at=SERVICES.c.updated_at)
            )
            row = _select_service(connection, host)
            if row is None:
                raise ComputeHostError(
                    f"Nova has no service {BINARY} on host {host}: it was deleted, and is made "
                    "again when a host of the cluster changes"
                )
            return _status(row)

        return self._databases.cell.run(work)

    def _map_host(self, connection: Connection, host: str, now: datetime) -> None:
        known = bulk.select_in(connection, HOST_MAPPINGS, ("id", "host", "cell_id"), "host", [host])
        if not known:
            row = {"created_at": now, "host": host, "cell_id": self._databases.cell_id}
            bulk.insert(connection, HOST_MAPPINGS, [row])
        elif known[0]["cell_id"] != self._databases.cell_id:
            raise ComputeHostError(
                f"compute host {host} is mapped to another cell than {self._databases.cell_name}: "
                "set [nova] cell to that one, or run nova-manage cell_v2 delete_host there"
            )


def ended_servers(connection: Connection, host: str) -> frozenset[str]:
    """Read the UUIDs of a host's deleted servers: Nova has one row a UUID, deleted or not."""
    statement = sqlalchemy.select(INSTANCES.c.uuid).where(
        INSTANCES.c.host == host, INSTANCES.c.deleted != 0
    )
    return frozenset(connection.execute(statement).scalars())


def _require_empty(connection: Connection, host: str) -> None:
    left = connection.execute(
        sqlalchemy.select(sqlalchemy.func.count())
        .select_from(INSTANCES)
        .where(INSTANCES.c.host == host, INSTANCES.c.deleted == 0)
    ).scalar_one()
    if left:
        raise ServersLeftError(f"{left} servers are left on compute host {host}")


def _select_service(connection: Connection, host: str) -> RowMapping | None:
    statement = sqlalchemy.select(SERVICES).where(_MINE, SERVICES.c.host == host)
    return connection.execute(statement).mappings().first()


def _service(connection: Connection, host: str, now: datetime) -> RowMapping:
    """Read the service's row; make or restore it where there is none."""
    row = _select_service(connection, host)
    if row is not None:
        return row
    fresh = {"disabled": True, "disabled_reason": FIRST_SYNC, "updated_at": None}
    former = (
        connection.execute(
            sqlalchemy.select(SERVICES.c.id)
            .where(SERVICES.c.host == host, SERVICES.c.binary == BINARY)
            .order_by(SERVICES.c.id.desc())
        )
        .scalars()
        .first()
    )
    if former is not None:
        alive = {**fresh, "deleted": 0, "deleted_at": None}
        connection.execute(SERVICES.update().where(SERVICES.c.id == former).values(**alive))
    else:
        new = {
            **fresh,
            "created_at": now,
            "uuid": str(uuid.uuid4()),
            "host": host,
            "binary": BINARY,
            "topic": TOPIC,
            "report_count": 0,
            "forced_down": False,
            "version": SERVICE_VERSION,
        }
        connection.execute(SERVICES.insert(), new)
    made = _select_service(connection, host)
    assert made is not None
    return made


def _compute_node(
    connection: Connection, record: ComputeHostRecord, service_id: int, now: datetime
) -> None:
    totals = {
        "host": record.host,
        "hypervisor_hostname": record.node,
        "service_id": service_id,
        "vcpus": record.cpus,
        "memory_mb": record.memory_mb,
        "local_gb": record.disk_gb,
        "hypervisor_version": record.hypervisor_version,
        "cpu_info": record.cpu_info,
        "deleted": 0,
        "deleted_at": None,
    }
    columns = ("id", *totals)
    known = bulk.select_in(connection, COMPUTE_NODES, columns, "uuid", [record.node_uuid])
    if not known:
        connection.execute(COMPUTE_NODES.insert(), {**totals, **_first_usage(record, now)})
    elif any(known[0][name] != value for name, value in totals.items()):
        statement = COMPUTE_NODES.update().where(COMPUTE_NODES.c.id == known[0]["id"])
        connection.execute(statement.values(**totals, updated_at=now))


def _first_usage(record: ComputeHostRecord, now: datetime) -> dict[str, Any]:
    """Make the columns that the worker's resource tracker keeps up to date once it runs."""
    return {
        "created_at": now,
        "uuid": record.node_uuid,
        "vcpus_used": record.cpus_used,
        "memory_mb_used": record.memory_mb_used,
        "local_gb_used": record.disk_gb_used,
        "free_ram_mb": record.memory_mb - record.memory_mb_used,
        "free_disk_gb": record.disk_gb - record.disk_gb_used,
        "current_workload": 0,
        "running_vms": 0,
        "hypervisor_type": HYPERVISOR_TYPE,
        "supported_instances": '[["x86_64", "vmware", "hvm"]]',
        "metrics": "[]",
        # Without it the API asks the worker, for a minute if it is not there yet
        # (nova/api/openstack/compute/hypervisors.py).
        "stats": '{"uptime": null}',
        "mapped": 1,
    }


def _status(row: RowMapping) -> ServiceStatus:
    disabled, reason = bool(row["disabled"]), row["disabled_reason"] or ""
    return ServiceStatus(
        host=row["host"],
        disabled=disabled,
        disabled_reason=reason,
        by_operator=disabled and not reason.startswith(AUTOMATIC),
    )
