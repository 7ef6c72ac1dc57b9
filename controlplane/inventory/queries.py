"""The stored inventory as Nova asks for it. Answers from memory and one row, never from a site."""

from common.references import machine_key, reference_of
from controlplane.domain.ports import ComputeCluster, MachineLocation, StoredVirtualMachine
from controlplane.domain.references import machine_of
from controlplane.inventory.model import cluster_resources
from controlplane.inventory.model.state import cluster_key
from controlplane.inventory.service import Inventory
from controlplane.store.database import Connection, Database
from controlplane.store.own import clusters, objects, servers
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.servers import ServerState
from vsphere_gateway.v1 import compute_pb2, inventory_pb2


class InventoryQueries:
    """Implements ``controlplane.domain.ports.ComputeInventory``. Thread-safe."""

    def __init__(self, database: Database, inventory: Inventory) -> None:
        """``database`` holds the gateway database."""
        self._database = database
        self._inventory = inventory

    def cluster(self, compute_host: str) -> ComputeCluster | None:
        """The cluster of a compute host; None when it is not under management."""
        row = self._row(compute_host)
        if row is None:
            return None
        reference = reference_of(cluster_key(row.moref))
        return ComputeCluster(row.compute_host, row.uuid, row.vcenter_uuid, reference)

    def virtual_machine(self, server_uuid: str) -> StoredVirtualMachine | None:
        """The virtual machine behind a Nova server, in whatever cluster it is now."""
        with self._database.read() as connection:
            return self._behind(connection, server_uuid)

    def subject(
        self, compute_host: str, server_uuid: str
    ) -> tuple[ComputeCluster | None, MachineLocation | None]:
        """Both of an operation, from memory alone: somebody waits for it."""
        return self.cluster(compute_host), self._location(server_uuid)

    def instances(self, compute_host: str) -> list[compute_pb2.InstanceName]:
        """The servers of a compute host: adopted ones and those that OpenStack created."""
        row = self._row(compute_host)
        if row is None:
            return []
        with self._database.read() as connection:
            found = servers.with_bodies(connection, [row.uuid])
        return [
            compute_pb2.InstanceName(
                instance_uuid=one.uuid,
                name=one.name,
                power_state=inventory_pb2.InventoryObject.FromString(
                    body or b""
                ).virtual_machine.power_state,
            )
            for one, body in found
        ]

    def resources(self, compute_host: str) -> compute_pb2.GetClusterResourcesResponse | None:
        """Totals and usage of a compute host, without ``edge_online``."""
        row = self._row(compute_host)
        state = None if row is None else self._inventory.state(row.vcenter_uuid)
        if row is None or state is None:
            return None
        with self._database.read() as connection:
            stored = clusters.get(connection, row.uuid)  # it alone knows of the last parity
            usage = servers.usage(connection, row.uuid)
        return None if stored is None else cluster_resources.resources(state, stored, usage)

    def template(self, image_id: str) -> StoredVirtualMachine | None:
        """The template behind a Glance image."""
        with self._database.read() as connection:
            row = servers.get_image(connection, image_id)
            return None if row is None else _stored(connection, row.vcenter_uuid, row.moref)

    def _row(self, compute_host: str) -> ClusterRow | None:
        row = self._inventory.cluster(compute_host)
        return None if row is None or row.state is ClusterState.UNMANAGED else row

    def _location(self, server_uuid: str) -> MachineLocation | None:
        row = self._inventory.server(server_uuid)
        if row is None or row.state is not ServerState.ACTIVE:
            return None
        state = self._inventory.state(row.vcenter_uuid)
        managed = None if state is None else state.by_uuid(row.cluster_uuid)
        if managed is None:
            return None
        return MachineLocation(
            vcenter_uuid=row.vcenter_uuid,
            instance_uuid=row.instance_uuid,
            reference=reference_of(machine_key(row.moref)),
            cluster=reference_of(cluster_key(managed.row.moref)),
        )

    def _behind(self, connection: Connection, server_uuid: str) -> StoredVirtualMachine | None:
        row = self._inventory.server(server_uuid)
        if row is None or row.state is not ServerState.ACTIVE:
            return None
        return _stored(connection, row.vcenter_uuid, row.moref)


def _stored(connection: Connection, vcenter_uuid: str, moref: str) -> StoredVirtualMachine | None:
    key = machine_key(moref)
    body = objects.bodies(connection, vcenter_uuid, [key]).get(key)
    if body is None:
        return None
    one = inventory_pb2.InventoryObject.FromString(body)
    machine = machine_of(one)
    return StoredVirtualMachine(vcenter_uuid, one.reference, machine.cluster, machine)
