"""What is known of one vCenter while the control plane runs; rebuilt from the gateway database."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from common.references import key_of
from controlplane.domain.references import CONTEXT_KINDS
from controlplane.inventory.model.replica_digest import Held, ReplicaDigest
from controlplane.inventory.model.topology import Topology, Waiting
from controlplane.inventory.rules import cluster_identity
from controlplane.inventory.rules.mass_removal_guard import MassRemovalGuard, MassRemovalLimits
from controlplane.store.database import Connection
from controlplane.store.own import clusters, edges, objects, quarantine, servers
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.quarantine import REFUSALS, AlarmKind, AlarmRow
from vsphere_gateway.v1 import inventory_pb2

CLOSED = (ClusterState.UNMANAGED, ClusterState.ALARM)
"""Nothing is written for the virtual machines of such clusters."""


@dataclass(slots=True)
class ManagedCluster:
    """A cluster, and which of its changes are not written or reported yet."""

    row: ClusterRow
    touched: bool = False
    """It or its hosts changed: the supervisor of workers does not know yet."""
    unsaved: bool = False
    unsaved_state: bool = False
    touched_at: float = 0.0
    """Monotonic time of the last change."""
    leaving: bool = False
    """It left management and still has servers."""


class VCenterState:
    """Everything in memory about one vCenter. Changed by its worker's thread alone."""

    def __init__(
        self,
        vcenter_uuid: str,
        limits: MassRemovalLimits,
        new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        """Start empty."""
        self.uuid = vcenter_uuid
        self.replica = ReplicaDigest()
        self.topology = Topology(vcenter_uuid)
        self.clusters: dict[str, ManagedCluster] = {}
        self.images: dict[str, str] = {}
        """Image ids of templates, by the template's moref."""
        self.waiting = Waiting()
        self.complete = False
        """Parity has been reached once."""
        self.allocated: set[str] = set()
        """Resource providers that hold the allocations of their servers, or soon will."""
        self.unallocated: set[str] = set()
        """Clusters that are synchronised, and wait for their compute host before allocations."""
        self.renamed: set[str] = set()
        """Objects whose names stand in servers that have not been looked at since."""
        self.quarantined: dict[str, int] = {}
        """Attempts, by key."""
        self.refused: set[str] = set()
        """Rejected (nacked); neither side holds them."""
        self.alarms: dict[tuple[str, str | None], AlarmRow] = {}
        """Open ones, by kind and cluster."""
        self.unsaved_alarms: set[tuple[str, str | None]] = set()
        self._guards: dict[str, MassRemovalGuard] = {}
        self._limits = limits
        self._new_uuid = new_uuid

    def load(self, connection: Connection) -> None:
        """Fill it from the gateway database."""
        for held in objects.held(connection, self.uuid):
            self.replica.put(
                held.reference,
                Held(held.kind, held.content_hash, held.epoch, held.revision, held.status),
            )
        for body in objects.bodies_of_kinds(connection, self.uuid, CONTEXT_KINDS):
            self.topology.learn(inventory_pb2.InventoryObject.FromString(body))
        for row in clusters.list_all(connection, self.uuid):
            self.clusters[cluster_key(row.moref)] = ManagedCluster(row)
        images = servers.list_images(connection, self.uuid)
        self.images = {row.moref: row.id for row in images}
        for entry in quarantine.list_all(connection, self.uuid):
            self.quarantined[entry.reference] = entry.attempts
            if entry.reason in REFUSALS:
                self.refused.add(entry.reference)
        for alarm in quarantine.open_alarms(connection, self.uuid):
            self.alarms[alarm.kind, alarm.cluster_uuid] = alarm
        vcenter = edges.get_vcenter(connection, self.uuid)
        self.complete = vcenter is not None and vcenter.parity_at is not None

    def guard(self, cluster_uuid: str) -> MassRemovalGuard:
        """What is missing from a cluster since a short while, unconfirmed."""
        return self._guards.setdefault(cluster_uuid, MassRemovalGuard(self._limits))

    def open_cluster(self, key: str) -> ClusterRow | None:
        """A cluster whose virtual machines become servers."""
        managed = self.clusters.get(key)
        return None if managed is None or managed.row.state in CLOSED else managed.row

    def is_stopped(self, key: str) -> bool:
        """Whether a cluster is stopped by an alarm."""
        managed = self.clusters.get(key)
        return managed is not None and managed.row.state is ClusterState.ALARM

    def open_clusters(self) -> list[ClusterRow]:
        """Every cluster whose virtual machines become servers."""
        return [one.row for one in self.clusters.values() if one.row.state not in CLOSED]

    def by_uuid(self, cluster_uuid: str) -> ManagedCluster | None:
        """A cluster by its own UUID."""
        return next((c for c in self._snapshot() if c.row.uuid == cluster_uuid), None)

    def by_compute_host(self, compute_host: str) -> ManagedCluster | None:
        """The cluster behind a Nova compute host."""
        return next((c for c in self._snapshot() if c.row.compute_host == compute_host), None)

    def _snapshot(self) -> list[ManagedCluster]:
        """A copy of the list of clusters, for any thread."""
        return list(self.clusters.values())

    def mounts(self, template: inventory_pb2.VirtualMachine) -> bool:
        """Whether a managed cluster mounts a datastore that a template lies on."""
        wanted = {key_of(one) for one in template.datastores}
        for key, managed in self.clusters.items():
            body = self.topology.get(key)
            if body is None or managed.row.state in CLOSED:
                continue
            if wanted & {key_of(one) for one in body.datastores}:
                return True
        return False

    def mounting(self, datastore: str) -> list[str]:
        """The keys of the clusters that mount a datastore."""
        bodies = ((key, self.topology.get(key)) for key in self.clusters)
        return [
            key
            for key, body in bodies
            if body is not None and datastore in map(key_of, body.datastores)
        ]

    def host_uuids(self, key: str) -> tuple[str, ...]:
        """The hardware UUIDs of a cluster's hosts as far as they are known, sorted."""
        body = self.topology.get(key)
        hosts = [] if body is None else [self.topology.get(key_of(one)) for one in body.hosts]
        return tuple(sorted({host.hardware_uuid for host in hosts if host and host.hardware_uuid}))

    def upsert_cluster(
        self, key: str, body: inventory_pb2.Cluster, policy: str, now: datetime, clock: float
    ) -> bool:
        """Take a cluster's present state; return whether it has (again) come under management."""
        managed = self.clusters.get(key)
        if managed is None:
            moref = key.partition(":")[2]
            row = cluster_identity.found(
                self.uuid, moref, body.name[:255], policy, now, str(self._new_uuid())
            )
            managed = self.clusters[key] = ManagedCluster(row, unsaved=True)
            came = True
        else:
            came = managed.row.state is ClusterState.UNMANAGED
            if came:
                self.change_state(managed, ClusterState.NEW, "")
                managed.leaving = False
            row = replace(managed.row, name=body.name[:255], policy=policy)
            managed.unsaved |= row != managed.row
            managed.row = replace(row, updated_at=now)
        managed.touched, managed.touched_at = True, clock
        return came

    def change_state(self, managed: ManagedCluster, state: ClusterState, reason: str) -> None:
        """Put a cluster into another state, to be written with the next unit."""
        managed.row = replace(managed.row, state=state, state_reason=reason)
        managed.unsaved_state = True

    def identity_mismatch(self, key: str) -> str:
        """Why a cluster is not the one that its reference named before; empty if it is."""
        managed = self.clusters[key]
        return cluster_identity.identity_mismatch(
            managed.row, managed.row.name, self.host_uuids(key)
        )

    def settle_identities(self, before: float) -> None:
        """Take the present name and hosts of clusters that have not changed since as theirs."""
        for key, managed in self.clusters.items():
            if managed.touched_at > before or managed.row.state in CLOSED:
                continue
            hosts = self.host_uuids(key) or managed.row.host_uuids
            row = replace(managed.row, known_name=managed.row.name, host_uuids=hosts)
            managed.unsaved |= row != managed.row
            managed.row = row

    def touch(self, key: str, clock: float) -> None:
        """Note that a cluster's hosts changed; ``clock`` is a monotonic time in seconds."""
        managed = self.clusters[key]
        managed.touched, managed.touched_at = True, clock

    def raise_alarm(
        self,
        kind: AlarmKind,
        cluster_uuid: str | None,
        message: str,
        held: tuple[str, ...],
        now: datetime,
    ) -> None:
        """Raise an alarm, about a cluster or the whole vCenter, or add to the one that is open."""
        before = self.alarms.get((kind.value, cluster_uuid))
        if before is None:
            before = AlarmRow(
                str(self._new_uuid()), self.uuid, kind.value, cluster_uuid, "", (), now
            )
        held = tuple(dict.fromkeys(before.held + held))
        self.alarms[kind.value, cluster_uuid] = replace(before, message=message, held=held)
        self.unsaved_alarms.add((kind.value, cluster_uuid))

    def clear_from_alarms(self, keys: Iterable[str]) -> None:
        """Take objects out of the alarms that are reported again or confirmed gone."""
        if not self.alarms:
            return
        seen = set(keys)
        for name, alarm in self.alarms.items():
            if seen & set(alarm.held):
                held = tuple(key for key in alarm.held if key not in seen)
                self.alarms[name] = replace(alarm, held=held)
                self.unsaved_alarms.add(name)


def cluster_key(moref: str) -> str:
    """The key of a cluster."""
    return f"ClusterComputeResource:{moref}"
