"""Servers in Nova's databases, whole: what the pipeline calls."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import sqlalchemy

from common.timestamps import naive_utc_now
from controlplane.domain.records import (
    AllocationRecord,
    RemovalOutcome,
    ServerOutcome,
    ServerRecord,
)
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.changes import SETTLED_STATES
from controlplane.store.nova.compute_hosts import ended_servers
from controlplane.store.nova.existing import ADOPTED_RESERVATION
from controlplane.store.nova.removal import NovaDeletion, ServerRemoval
from controlplane.store.nova.servers import ServerStore
from controlplane.store.nova.tables import COMPUTE_NODES, INSTANCES


class NovaServers:
    """A ``controlplane.domain.writers.ServerWriter``. Thread-safe."""

    def __init__(
        self,
        databases: NovaDatabases,
        nova: NovaDeletion | None = None,
        default_availability_zone: str = "nova",
        clock: Callable[[], datetime] = naive_utc_now,
    ) -> None:
        """``nova`` deletes servers with ports or volumes; None where no Nova runs."""
        self._databases = databases
        self._store = ServerStore(databases, default_availability_zone, clock)
        self._removal = ServerRemoval(databases, nova, clock)

    def apply(
        self, records: Sequence[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        """Make the rows say what the records say (``ServerWriter.apply``)."""
        return self._store.apply(records, restore)

    def delete(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Delete servers whose virtual machines are gone (``ServerWriter.delete``)."""
        return self._removal.delete(uuids)

    def unmanage(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Take servers out whose virtual machines live on (``ServerWriter.unmanage``)."""
        return self._removal.unmanage(uuids)

    def ended(self, compute_host: str) -> frozenset[str]:
        """UUIDs of the servers that ended on a host (``ServerWriter.ended``)."""
        with self._databases.cell.read() as connection:
            return ended_servers(connection, compute_host)

    def allocations(self, compute_host: str) -> list[AllocationRecord]:
        """What placement should hold for the adopted servers of a host.

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
