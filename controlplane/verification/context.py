"""What one look compares with: decisions in the gateway database, and vCenter's structure."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.references import key_of
from controlplane.domain.mapping.servers import unknown_image_id
from controlplane.domain.ports import RecordedDeletes
from controlplane.domain.references import kind_of
from controlplane.inventory.model.topology import Topology
from controlplane.inventory.rules.adoption import Adoption
from controlplane.openstack.placement.client import PlacementClient
from controlplane.store.glance.readers import GlanceReader
from controlplane.store.nova.readers import HostRows, NovaReader
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.readers import GatewayDatabaseReader
from controlplane.verification.findings import Findings, Subject
from vsphere_gateway.v1 import inventory_pb2

KEPT = (ObjectStatus.HIDDEN, ObjectStatus.UNCONFIRMED)
"""Statuses of what vCenter no longer shows, without a confirmation that it is gone."""
CLOSED = (ClusterState.UNMANAGED, ClusterState.ALARM)


@dataclass(frozen=True, slots=True)
class Readers:
    """All that one control plane writes. Raise ``StoreError`` or ``PlacementError``."""

    own: GatewayDatabaseReader
    nova: NovaReader
    glance: GlanceReader
    placement: PlacementClient | None
    """None where no placement runs."""
    deletes: RecordedDeletes
    rules: Adoption
    """Which project owns what."""


class VerificationContext:
    """What everything in one vCenter is compared with during one look."""

    def __init__(self, readers: Readers, vcenter_uuid: str, findings: Findings) -> None:
        """Read what is few: clusters, quarantine, alarms. Raises ``StoreError``."""
        self.vcenter_uuid = vcenter_uuid
        self.findings = findings
        self.topology = Topology(vcenter_uuid)
        self.seen: set[str] = set()
        """Keys of what vCenter shows."""
        self.unreadable: set[str] = set()
        """Keys of what vCenter shows and the edge could not read."""
        self.agreed: set[str] = set()
        """Keys of what is held as vCenter shows it."""
        self.machines: set[str] = set()
        """Keys of virtual machines that vCenter shows."""
        self.templates: set[str] = set()
        self.clusters = {f"ClusterComputeResource:{row.moref}": row for row in
                         readers.own.clusters(vcenter_uuid)}  # fmt: skip
        self.quarantine = {row.reference: row for row in readers.own.quarantine(vcenter_uuid)}
        self.alarms = readers.own.alarms(vcenter_uuid)
        self.hosts: dict[str, HostRows] = readers.nova.hosts(
            [row.compute_host for row in self.clusters.values()]
        )
        everywhere = (row.uuid for row in readers.own.vcenters())
        self.unknown_images = frozenset(map(unknown_image_id, everywhere))

    def take(self, objects: Iterable[inventory_pb2.InventoryObject]) -> None:
        """Add a batch of what vCenter has."""
        for one in objects:
            key = key_of(one.reference)
            self.seen.add(key)
            if one.HasField("virtual_machine"):
                self.machines.add(key)
            elif one.HasField("template"):
                self.templates.add(key)
            elif kind_of(one):
                self.topology.learn(one)

    def subject(self, key: str, name: str = "") -> Subject:
        """What is compared under a key."""
        return Subject(self.vcenter_uuid, key, name)

    def cluster_of(self, machine: inventory_pb2.VirtualMachine) -> ClusterRow | None:
        """The cluster of a virtual machine as the gateway database have it."""
        return self.clusters.get(key_of(machine.cluster))

    def compute_id(self, cluster: ClusterRow) -> int | None:
        """``compute_nodes.id`` of a cluster's node."""
        nodes = self.hosts[cluster.compute_host].nodes
        return next((row["id"] for row in nodes if row["uuid"] == cluster.compute_node_uuid), None)

    def mounts(self, template: inventory_pb2.VirtualMachine) -> bool:
        """Whether a cluster that is open mounts a datastore that a template lies on."""
        wanted = {key_of(one) for one in template.datastores}
        return any(
            wanted & {key_of(one) for one in body.datastores}
            for key, row in self.clusters.items()
            if row.state not in CLOSED and (body := self.topology.get(key)) is not None
        )

    def why_kept(self, key: str) -> str:
        """Say why something stays that vCenter does not show."""
        held = [alarm for alarm in self.alarms if key in alarm.held]
        reason = "vCenter no longer shows it and did not confirm that it is gone: it is kept"
        return f"{reason}; {held[0].kind} is open" if held else reason

    def is_doubtful(self, cluster_uuid: str) -> bool:
        """Whether a cluster is stopped by an alarm: nothing of it is written."""
        return any(
            row.uuid == cluster_uuid and row.state is ClusterState.ALARM
            for row in self.clusters.values()
        )
