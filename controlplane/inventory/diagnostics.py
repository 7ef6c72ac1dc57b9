"""What is held, as `vsphere_gateway.v1.Diagnostics` and the commands show it."""

from collections.abc import Collection, Mapping
from typing import Protocol

from controlplane.domain.ports import Workers
from controlplane.domain.references import BODY_BY_KIND
from controlplane.inventory.stream import Lags
from controlplane.store.database import Database
from controlplane.store.nova.readers import ListedServer
from controlplane.store.own import clusters, edges, objects, quarantine, servers
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.edges import VCenterRow
from controlplane.store.own.quarantine import AlarmRow, QuarantineRow
from controlplane.store.own.servers import ImageRow, ServerRow
from vsphere_gateway.v1 import diagnostics_pb2, inventory_pb2

_MISSING = ListedServer("MISSING", "", "")
"""A server that Nova does not have: deleted there, or not written yet."""


class NovaServers(Protocol):
    """What Nova's own rows say; raises ``StoreError``."""

    def read(self, uuids: Collection[str]) -> Mapping[str, ListedServer]:
        """Servers by UUID, without those that Nova does not have."""


class InventoryDiagnostics:
    """Reads the gateway database and Nova's; every method raises ``StoreError``. Thread-safe."""

    def __init__(
        self, database: Database, nova: NovaServers, lags: Lags, workers: Workers | None
    ) -> None:
        """``workers`` is None for a control plane tried alone."""
        self._database = database
        self._nova = nova
        self._lags = lags
        self._workers = workers

    def vcenters(self) -> list[VCenterRow]:
        """Every vCenter with its last parity."""
        with self._database.read() as connection:
            return edges.list_vcenters(connection)

    def clusters(self) -> list[diagnostics_pb2.ClusterStatus]:
        """Clusters by name."""
        with self._database.read() as connection:
            rows, counts = clusters.list_all(connection), servers.counts(connection)
            hosts = objects.members(connection, inventory_pb2.OBJECT_KIND_HOST)
        return [self._cluster(row, counts, hosts) for row in rows]

    def servers(self, cluster: str) -> list[diagnostics_pb2.ServerStatus]:
        """Servers by name; of one cluster when its name or UUID is given."""
        with self._database.read() as connection:
            rows = {row.uuid: row for row in clusters.list_all(connection)}
            wanted = [uuid for uuid, row in rows.items() if cluster in ("", uuid, row.name)]
            found = servers.with_bodies(connection, wanted)
        nova = self._nova.read([row.uuid for row, _ in found])
        return [_server(row, nova.get(row.uuid, _MISSING), body) for row, body in found]

    def images(self) -> list[diagnostics_pb2.ImageStatus]:
        """Images by name."""
        with self._database.read() as connection:
            rows = servers.images_with_bodies(connection)
        return [_image(row, body) for row, body in rows]

    def quarantine(self) -> list[diagnostics_pb2.QuarantineEntry]:
        """Objects in quarantine and alarms, newest first."""
        with self._database.read() as connection:
            entries = [_entry(row) for row in quarantine.list_all(connection)]
            entries += [_alarm(row) for row in quarantine.open_alarms(connection)]
        return sorted(entries, key=lambda one: one.since.ToNanoseconds(), reverse=True)

    def inventory_counts(self) -> list[diagnostics_pb2.InventoryCount]:
        """Objects and lag by vCenter and kind."""
        with self._database.read() as connection:
            counts = objects.counts(connection)
        return [
            diagnostics_pb2.InventoryCount(
                vcenter_uuid=vcenter_uuid,
                kind=BODY_BY_KIND[kind],
                objects=count,
                lag_median_ms=self._lags.quantile(vcenter_uuid, kind, 0.5),
                lag_p99_ms=self._lags.quantile(vcenter_uuid, kind, 0.99),
            )
            for vcenter_uuid, kind, count in sorted(counts)
        ]

    def _cluster(
        self, row: ClusterRow, counts: Mapping[str, int], hosts: Mapping[tuple[str, str], int]
    ) -> diagnostics_pb2.ClusterStatus:
        status = diagnostics_pb2.ClusterStatus(
            uuid=row.uuid,
            name=row.name,
            moref=row.moref,
            vcenter_uuid=row.vcenter_uuid,
            compute_host=row.compute_host,
            state=row.state.value,
            state_reason=row.state_reason,
            policy=row.policy,
            servers=counts.get(row.uuid, 0),
            hosts=hosts.get((row.vcenter_uuid, row.moref), 0),
        )
        if self._workers is not None:
            worker = self._workers.worker_status(row.uuid)
            status.worker_pid, status.worker_state = worker.pid, worker.state
        return status


def _server(row: ServerRow, nova: ListedServer, body: bytes | None) -> diagnostics_pb2.ServerStatus:
    one = inventory_pb2.InventoryObject.FromString(body or b"")
    return diagnostics_pb2.ServerStatus(
        uuid=row.uuid,
        name=row.name,
        status=nova.status,
        power_state=nova.power_state,
        compute_host=nova.compute_host,
        project_id=row.project_id,
        moref=row.moref,
        cpus=row.cpus,
        memory_mb=row.memory_mb,
        disk_gb=row.disk_gb,
        addresses=[address for nic in one.virtual_machine.nics for address in nic.ip_addresses],
        origin=row.origin,
    )


def _image(row: ImageRow, body: bytes | None) -> diagnostics_pb2.ImageStatus:
    template = inventory_pb2.InventoryObject.FromString(body or b"").template
    return diagnostics_pb2.ImageStatus(
        id=row.id,
        name=row.name,
        status="active",
        size_bytes=template.disks[0].capacity_bytes if template.disks else 0,
        visibility=row.visibility,
        owner=row.owner,
        moref=row.moref,
        vcenter_uuid=row.vcenter_uuid,
    )


def _entry(row: QuarantineRow) -> diagnostics_pb2.QuarantineEntry:
    entry = diagnostics_pb2.QuarantineEntry(
        vcenter_uuid=row.vcenter_uuid,
        object=row.reference,
        name=row.name,
        reason=row.reason,
        message=row.message,
        attempts=row.attempts,
    )
    entry.since.FromDatetime(row.since)
    return entry


def _alarm(row: AlarmRow) -> diagnostics_pb2.QuarantineEntry:
    entry = diagnostics_pb2.QuarantineEntry(
        vcenter_uuid=row.vcenter_uuid,
        object=f"alarm:{row.id}",
        reason=row.kind,
        message=row.message,
    )
    entry.since.FromDatetime(row.raised_at)
    return entry
