"""A running inventory on given databases, with what it tells others written down.

Nova's and Glance's tables, the own tables and the ledger's rows are real. Placement, the bus and
the supervisor of workers are not here: what they would be told is recorded.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy

from common.background import ThreadMonitor
from common.clock import Clock
from common.timestamps import naive_utc
from controlplane.domain.records import (
    AllocationRecord,
    Announced,
    ComputeHostRecord,
    HostAllocations,
    ServerAnnouncement,
)
from controlplane.domain.writers import ServerWriter, Writers
from controlplane.inventory.diagnostics import InventoryDiagnostics
from controlplane.inventory.queries import InventoryQueries
from controlplane.inventory.rules.adoption import Adoption, ProjectRule
from controlplane.inventory.rules.mass_removal_guard import MassRemovalLimits
from controlplane.inventory.service import Inventory
from controlplane.openstack.compute_hosts import ComputeHosts
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.errors import ServersLeftError
from controlplane.store.glance.images import GlanceImages
from controlplane.store.glance.readers import GlanceReader
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.nova.readers import ListedServers, NovaReader
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import COMPUTE_NODES, INSTANCES
from controlplane.store.own import clusters, migration, quarantine, servers
from controlplane.store.own.clusters import ClusterState
from controlplane.store.own.readers import GatewayDatabaseReader
from controlplane.verification.context import Readers
from controlplane.verification.findings import Findings
from controlplane.verification.verifier import look
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import compute_pb2, link_pb2

PROJECT = "5f3c1d1e9a0b4c2f8d7e6a5b4c3d2e1f"
SHOP_PROJECT = "77777777777777777777777777777777"
USER = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
ADOPTION = Adoption(PROJECT, USER, (ProjectRule.parse(f"folder:/DC0/shop={SHOP_PROJECT}"),))


class Told:
    """What the supervisor of workers, the bus, placement and quota were told, in order."""

    def __init__(self) -> None:
        self.clusters: list[tuple[str, str]] = []
        self.said: list[tuple[Announced, str]] = []
        self.allocations: dict[str, AllocationRecord] = {}
        self.released: list[str] = []
        self.projects: list[str] = []
        self.provision: Callable[[str], None] = lambda _uuid: None
        self.dismiss: Callable[[str], None] = lambda _uuid: None

    def cluster_found(self, cluster_uuid: str) -> None:
        self.clusters.append(("found", cluster_uuid))
        self.provision(cluster_uuid)

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        self.clusters.append(("synchronised", cluster_uuid))

    def allocations_written(self, cluster_uuid: str) -> None:
        self.clusters.append(("allocated", cluster_uuid))

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        self.clusters.append(("gone", cluster_uuid))
        self.dismiss(cluster_uuid)

    def adopted(self, project_ids: Collection[str]) -> None:
        self.projects += sorted(project_ids)

    def announce(self, announcements: Iterable[ServerAnnouncement]) -> None:
        self.said += [(one.kind, one.uuid) for one in announcements]

    def submit(
        self, records: Iterable[AllocationRecord], done: Callable[[], None] | None = None
    ) -> None:
        self.allocations.update({one.consumer_uuid: one for one in records})
        if done is not None:
            done()

    def reconcile(
        self,
        provider_uuid: str,
        read: Callable[[], HostAllocations],
        done: Callable[[], None] | None = None,
    ) -> None:
        expected = read()
        self.released += sorted(expected.ended)
        self.submit(expected.records, done)

    def release(self, consumer_uuids: Iterable[str]) -> None:
        self.released += consumer_uuids


class InventoryStage:
    """One control plane's inventory, which can be stopped and started again."""

    def __init__(
        self,
        nova: NovaDatabases,
        glance: Database,
        own_url: str,
        *,
        adoption: Adoption = ADOPTION,
        limits: MassRemovalLimits = MassRemovalLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.nova = nova
        self.glance = glance
        self.own_url = own_url
        self.own = Database(own_url)
        self.told = Told()
        self.servers: ServerWriter = NovaServers(nova)
        self.history = OperationHistory(self.own)
        self.adoption = adoption
        self.limits = limits
        self.inventory: Inventory
        self.monitor = ThreadMonitor()
        self._clock = Clock()
        self._left: set[str] = set()
        self.told.provision = self._provision
        self.told.dismiss = self._dismiss
        migration.upgrade(self.own)

    def start(self) -> None:
        """Start, as a process would."""
        writers = Writers(self.servers, GlanceImages(self.glance), *[self.told] * 3)
        self.inventory = Inventory(
            self.own,
            writers,
            self.told,
            self.history,
            self.adoption,
            self.limits,
            self._clock,
            self.monitor,
        )
        self.inventory.start()

    def stop(self) -> None:
        """Stop after the unit under way."""
        self.inventory.stop(30.0)

    def restart(self) -> None:
        """Stop and start: nothing is kept in memory."""
        self.stop()
        self.start()

    def edge(self, site: GeneratedVCenter, *, epoch: int = 1) -> FeedEdge:
        """Return an edge of a site that has not dialled yet."""
        return FeedEdge(self.inventory, site, epoch=epoch)

    @property
    def queries(self) -> InventoryQueries:
        """What Nova's driver asks."""
        return InventoryQueries(self.own, self.inventory)

    @property
    def diagnostics(self) -> InventoryDiagnostics:
        """What operators see."""
        return InventoryDiagnostics(
            self.own, ListedServers(self.nova.cell), self.inventory.lags, None
        )

    def look(self, site: GeneratedVCenter, hidden: Collection[str] = ()) -> Findings:
        """Compare everything with what a site has now, once."""
        self._dismiss_left()
        readers = Readers(
            GatewayDatabaseReader(self.own),
            NovaReader(self.nova),
            GlanceReader(self.glance),
            None,
            self.history,
            self.adoption,
        )
        return look(readers, site.vcenter_uuid, lambda _: read_of(site, hidden), self._clock)

    def servers_of(self, site: GeneratedVCenter) -> dict[str, Mapping[str, Any]]:
        """Return Nova's rows of a site's servers that are not deleted, by UUID."""
        return {uuid: row for uuid, row in self.rows_of(site).items() if row["deleted"] == 0}

    def rows_of(self, site: GeneratedVCenter) -> dict[str, Mapping[str, Any]]:
        """Return Nova's rows of a site's servers, deleted ones too, by UUID."""
        nodes = INSTANCES.c.node.like(f"%.{site.vcenter_uuid}")
        with self.nova.cell.read() as connection:
            found = connection.execute(sqlalchemy.select(INSTANCES).where(nodes)).mappings()
            return {row["uuid"]: dict(row) for row in found}

    def row(self, uuid: str) -> Mapping[str, Any]:
        """Return Nova's row of one server."""
        with self.nova.cell.read() as connection:
            query = sqlalchemy.select(INSTANCES).where(INSTANCES.c.uuid == uuid)
            return dict(connection.execute(query).mappings().one())

    def node(self, compute_host: str) -> Mapping[str, Any]:
        """Return the row of a compute host's node."""
        with self.nova.cell.read() as connection:
            query = sqlalchemy.select(COMPUTE_NODES).where(COMPUTE_NODES.c.host == compute_host)
            return dict(connection.execute(query).mappings().one())

    def change_row(self, uuid: str, **values: Any) -> None:
        """Write columns of a server's row, as Nova would."""
        self.nova.cell.run(
            lambda connection: connection.execute(
                INSTANCES.update().where(INSTANCES.c.uuid == uuid).values(**values)
            )
        )

    def clusters(self, site: GeneratedVCenter) -> list[clusters.ClusterRow]:
        """Return the clusters of a site as the own tables have them."""
        with self.own.read() as connection:
            return clusters.list_all(connection, site.vcenter_uuid)

    def images_of(self, site: GeneratedVCenter) -> list[servers.ImageRow]:
        """Return the active images of a site as the own tables have them."""
        with self.own.read() as connection:
            return servers.list_images(connection, site.vcenter_uuid)

    def quarantined(self, site: GeneratedVCenter) -> dict[str, str]:
        """Return reasons by key of what is in quarantine."""
        with self.own.read() as connection:
            rows = quarantine.list_all(connection, site.vcenter_uuid)
        return {row.reference: row.reason for row in rows}

    def alarms(self, site: GeneratedVCenter) -> list[quarantine.AlarmRow]:
        """Return the open alarms of a site."""
        with self.own.read() as connection:
            return quarantine.open_alarms(connection, site.vcenter_uuid)

    def eventually(self, condition: Callable[[], bool], what: str, patience: float = 30.0) -> None:
        """Wait until the pipeline has brought something about by itself."""
        eventually_true(condition, what, patience, poll=0.02)

    def _provision(self, cluster_uuid: str) -> None:
        """Do what the supervisor does, without placement: the compute host is there now."""
        self._left.discard(cluster_uuid)
        with self.own.read() as connection:
            row = clusters.get(connection, cluster_uuid)
        assert row is not None
        found = self.queries.resources(row.compute_host)
        assert found is not None
        self._hosts().provision(_host_record(row, found))
        now = naive_utc(time.time())
        self.own.run(
            lambda connection: clusters.set_state(
                connection,
                cluster_uuid,
                ClusterState.PROVISIONED,
                "",
                now,
                among=(ClusterState.NEW,),
            )
        )

    def _dismiss(self, cluster_uuid: str) -> None:
        """Do what the supervisor does when a cluster leaves, and once its worker has ended."""
        self._left.add(cluster_uuid)
        with self.own.read() as connection:
            row = clusters.get(connection, cluster_uuid)
        assert row is not None
        if self._hosts().status(row.compute_host) is not None:
            self._hosts().disable(row.compute_host, f"AUTO: {row.state_reason}")
        self._dismiss_left()

    def _dismiss_left(self) -> None:
        """Try, and again with the next look: servers may have to go elsewhere before."""
        for cluster_uuid in sorted(self._left):
            with self.own.read() as connection:
                row = clusters.get(connection, cluster_uuid)
            assert row is not None
            try:
                self._hosts().remove(row.compute_host)
            except ServersLeftError:
                continue
            self._left.discard(cluster_uuid)

    def _hosts(self) -> ComputeHosts:
        return ComputeHosts(ComputeHostRows(self.nova), None, GlanceImages(self.glance))


def read_of(site: GeneratedVCenter, hidden: Collection[str] = ()) -> Iterator[link_pb2.AuditBatch]:
    """Yield what a new read of a site would say: what machines refer to comes before them."""
    shown = [one for key, one in site.objects.items() if key not in hidden]
    around = [one for one in shown if one.reference.type != "VirtualMachine"]
    machines = [one for one in shown if one.reference.type == "VirtualMachine"]
    for some in (around, machines):
        for start in range(0, len(some), 50):
            yield link_pb2.AuditBatch(objects=some[start : start + 50])


def _host_record(
    row: clusters.ClusterRow, found: compute_pb2.GetClusterResourcesResponse
) -> ComputeHostRecord:
    return ComputeHostRecord(
        host=row.compute_host,
        node=row.hypervisor_hostname,
        node_uuid=row.compute_node_uuid,
        cpus=found.cpus,
        memory_mb=found.memory_mb,
        disk_gb=found.disk_gb,
        largest_cpus=found.largest_cpus,
        largest_memory_mb=found.largest_memory_mb,
        largest_disk_gb=found.largest_disk_gb,
        cpus_used=found.cpus_used,
        memory_mb_used=found.memory_mb_used,
        disk_gb_used=found.disk_gb_used,
        hypervisor_version=found.hypervisor_version,
        cpu_info=found.cpu_info,
        traits=frozenset(found.traits),
    )
