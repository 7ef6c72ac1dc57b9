"""Writes adopted virtual machines into Nova's databases, and keeps them as vCenter has them."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy
from sqlalchemy.engine import Connection

from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.domain.records import (
    AllocationRecord,
    Announced,
    ServerAnnouncement,
    ServerChange,
    ServerOutcome,
    ServerRecord,
)
from controlplane.store import bulk
from controlplane.store.nova import api_rows, cell_rows, changes
from controlplane.store.nova.cell_rows import ADOPTED_RESERVATION, Existing, Writes
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.changes import SETTLED_STATES, ServerPlan
from controlplane.store.nova.compute_hosts import ended_servers
from controlplane.store.nova.removal import NovaDeletion, ServerRemoval
from controlplane.store.nova.tables import COMPUTE_NODES, INSTANCES

LOG = logging.getLogger(__name__)

_ANNOUNCED = {
    ServerChange.ADOPTED: Announced.CREATE,
    ServerChange.RESTORED: Announced.CREATE,
    ServerChange.UPDATED: Announced.UPDATE,
}


class NovaServers(ServerRemoval):
    """The ``ServerWriter`` of the API database and one cell. Thread-safe."""

    def __init__(
        self,
        databases: NovaDatabases,
        nova: NovaDeletion | None = None,
        default_availability_zone: str = "nova",
        clock: Callable[[], datetime] = naive_utc_now,
    ) -> None:
        """``nova`` deletes servers with ports or volumes; None where no Nova runs.

        ``default_availability_zone`` is Nova's option of that name.
        """
        super().__init__(databases, nova, clock)
        self._default_zone = default_availability_zone

    def apply(
        self, records: Sequence[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        """Make the rows say what the records say (``ServerWriter.apply``)."""
        allowed = frozenset(restore)
        outcomes: list[ServerOutcome] = []
        for batch in bulk.batches(records):
            outcomes += bulk.bisect_rejected(
                batch, lambda part: self._apply(part, allowed), self._refuse
            )
        return outcomes

    def ended(self, compute_host: str) -> frozenset[str]:
        """Read which servers ended on a host (``ServerWriter.ended``)."""
        with self._databases.cell.read() as connection:
            return ended_servers(connection, compute_host)

    def allocations(self, compute_host: str) -> list[AllocationRecord]:
        """Read what placement should hold for the adopted servers of a host.

        Servers that OpenStack created, and those that Nova is moving, are Nova's own business.
        """
        statement = (
            sqlalchemy.select(
                INSTANCES.c.uuid.label("consumer_uuid"),
                COMPUTE_NODES.c.uuid.label("provider_uuid"),
                INSTANCES.c.project_id,
                INSTANCES.c.user_id,
                INSTANCES.c.vcpus,
                INSTANCES.c.memory_mb,
                (INSTANCES.c.root_gb + INSTANCES.c.ephemeral_gb).label("disk_gb"),
            )
            .join(
                COMPUTE_NODES,
                (COMPUTE_NODES.c.host == INSTANCES.c.host)
                & (COMPUTE_NODES.c.hypervisor_hostname == INSTANCES.c.node)
                & (COMPUTE_NODES.c.deleted == 0),
            )
            .where(INSTANCES.c.host == compute_host, INSTANCES.c.deleted == 0)
            .where(INSTANCES.c.task_state.is_(None))
            .where(INSTANCES.c.vm_state.in_(sorted(SETTLED_STATES)))
            .where(INSTANCES.c.reservation_id.startswith(ADOPTED_RESERVATION))
            .order_by(INSTANCES.c.uuid)
        )
        with self._databases.cell.read() as connection:
            found = [AllocationRecord(**row) for row in connection.execute(statement).mappings()]
        # Placement refuses a consumer of nothing.
        return [one for one in found if one.vcpus or one.memory_mb or one.disk_gb]

    def _apply(
        self, records: Sequence[ServerRecord], restore: frozenset[str]
    ) -> list[ServerOutcome]:
        return self._databases.cell.run(
            lambda connection: self._write(connection, records, restore)
        )

    def _write(
        self, connection: Connection, records: Sequence[ServerRecord], restore: frozenset[str]
    ) -> list[ServerOutcome]:
        stored = cell_rows.lock(connection, [record.uuid for record in records])
        compute_ids = cell_rows.compute_ids(connection, {record.compute_host for record in records})
        zones = self._zones(record.compute_host for record in records if record.uuid not in stored)
        now = self._clock()
        plans = [
            self._plan(record, stored.get(record.uuid), restore, compute_ids, zones, now)
            for record in records
        ]
        # First the API database: a mapping without an instance is harmless, the reverse is not. All
        # of this is idempotent, so it may be repeated with the cell's transaction.
        api_rows.write(self._databases, plans, now)
        writes = Writes()
        for plan in plans:
            writes.add(plan.writes)
        writes.flush(connection)
        return [_outcome(plan, stored.get(plan.record.uuid)) for plan in plans]

    def _plan(
        self,
        record: ServerRecord,
        stored: Existing | None,
        restore: frozenset[str],
        compute_ids: Mapping[tuple[str, str], int],
        zones: Mapping[str, str],
        now: datetime,
    ) -> ServerPlan:
        compute_id = compute_ids.get((record.compute_host, record.node))
        if stored is None:
            zone = zones.get(record.compute_host, self._default_zone)
            return changes.adopt(record, compute_id, zone, now)
        if not stored.columns["deleted"]:
            return changes.compare(record, stored, compute_id, now)
        if record.uuid in restore:
            return changes.restore(record, stored, compute_id, now)
        return ServerPlan(record, ServerChange.GONE, origin=stored.origin, reason="deleted in Nova")

    def _zones(self, hosts: Iterable[str]) -> dict[str, str]:
        wanted = set(hosts)
        return api_rows.availability_zones(self._databases.api, wanted) if wanted else {}

    def _refuse(self, record: ServerRecord, reason: str) -> ServerOutcome:
        LOG.warning("server refused by a database", extra=fields(server=record.uuid, reason=reason))
        api_rows.delete_orphan_mapping(self._databases, record.uuid)
        return ServerOutcome(record.uuid, ServerChange.REFUSED, reason=reason)


def _outcome(plan: ServerPlan, stored: Existing | None) -> ServerOutcome:
    record = plan.record
    project, user = record.project_id, record.user_id
    if stored is not None:
        project, user = stored.columns["project_id"], stored.columns["user_id"]
    return ServerOutcome(
        uuid=record.uuid,
        change=plan.change,
        reason=plan.reason,
        origin=plan.origin,
        project_id=project,
        user_id=user,
        allocation=_allocation(plan, stored, project, user),
        announcement=_announcement(plan),
    )


def _allocation(
    plan: ServerPlan, stored: Existing | None, project: str, user: str
) -> AllocationRecord | None:
    if plan.flavor is None and not plan.moved:
        return None
    amounts = plan.flavor or plan.record.flavor
    vcpus, memory_mb = amounts.vcpus, amounts.memory_mb
    disk_gb = amounts.root_gb + amounts.ephemeral_gb
    if plan.flavor is None and stored is not None:
        columns = stored.columns
        vcpus, memory_mb = columns["vcpus"], columns["memory_mb"]
        disk_gb = columns["root_gb"] + columns["ephemeral_gb"]
    if not (vcpus or memory_mb or disk_gb):
        return None  # placement refuses a consumer of nothing
    return AllocationRecord(
        consumer_uuid=plan.record.uuid,
        provider_uuid=plan.record.compute_node_uuid,
        project_id=project,
        user_id=user,
        vcpus=vcpus,
        memory_mb=memory_mb,
        disk_gb=disk_gb,
    )


def _announcement(plan: ServerPlan) -> ServerAnnouncement | None:
    kind = _ANNOUNCED.get(plan.change, Announced.UPDATE if plan.writes else None)
    if kind is None:
        return None
    return ServerAnnouncement(kind, plan.record.uuid, plan.old_vm_state, plan.old_display_name)
