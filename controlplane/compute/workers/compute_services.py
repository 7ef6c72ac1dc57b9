"""Writes a cluster's compute host into Nova: provisioned, enabled or disabled, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from common.timestamps import naive_utc
from controlplane.compute.workers.worker import ComputeWorker
from controlplane.domain.ports import ComputeInventory
from controlplane.domain.records import ComputeHostRecord
from controlplane.domain.writers import ComputeHostWriter
from controlplane.store.database import Database
from controlplane.store.own import clusters as store
from controlplane.store.own.clusters import ClusterRow, ClusterState
from vsphere_gateway.v1 import compute_pb2

CLOSED = (ClusterState.UNMANAGED, ClusterState.ALARM)
FIRST_SYNC = "AUTO: first sync"
_KNOWN = (ClusterState.PROVISIONED, ClusterState.ACTIVE, ClusterState.OFFLINE)


class TotalsUnknownError(Exception):
    """The inventory does not know a cluster's totals yet."""


class Fact(Enum):
    """What the inventory reports about a cluster."""

    FOUND = "found"
    """It came under management, or its hosts changed."""
    SYNCHRONISED = "synchronised"
    """Every server of it is in the cell database."""
    ALLOCATED = "allocated"
    """Placement holds the allocations of every server of it."""


@dataclass(slots=True, eq=False)
class ComputeHost:
    """What is known of one cluster's compute host. The supervisor's thread alone changes it."""

    row: ClusterRow
    worker: ComputeWorker
    provision: bool
    """Its rows have to be created or updated."""
    provisioned: bool
    synchronised: bool
    allocated: bool
    edge_online: bool | None = None
    """None until the gateway has reported the edge."""
    offline: str = ""
    """Why the edge's absence disables the service."""
    gone: str = ""
    """Why the cluster left management."""
    applied: str | None = None
    """The state of the service as last written: empty for enabled, else the reason."""
    retry: float = 0.0
    """When what failed is tried again, in monotonic seconds."""
    delay: float = 0.0
    """Seconds from the last failure to the next attempt."""
    worker_retry: float = 0.0
    """When the worker is looked after again that met an unexpected error, in monotonic seconds."""
    occupied: bool = False
    """It was logged that it is kept while it has servers."""
    removed: bool = False
    """Nova no longer has it."""

    def learn(self, fact: Fact) -> None:
        """Note a fact."""
        match fact:
            case Fact.FOUND:
                self.provision = True
            case Fact.SYNCHRONISED:
                self.synchronised = True
            case Fact.ALLOCATED:
                self.allocated = True


def compute_host(row: ClusterRow, worker: ComputeWorker) -> ComputeHost:
    """Build a compute host from its cluster's row."""
    open_ = row.state not in CLOSED
    left = row.state is ClusterState.UNMANAGED
    return ComputeHost(
        row=row,
        worker=worker,
        provision=row.state is ClusterState.NEW,
        provisioned=row.state in _KNOWN,
        synchronised=open_ and row.synchronised_at is not None,
        allocated=open_ and row.allocations_at is not None,
        # Its host may not have been removed before the last control plane ended.
        gone=row.state_reason or "it left management" if left else "",
    )


class ComputeServices:
    """Writes what the facts about a host call for, and only what differs.

    Every method raises ``StoreError``, ``PlacementError`` or ``TotalsUnknownError``; the same call
    may then be repeated.
    """

    def __init__(
        self,
        database: Database,
        writer: ComputeHostWriter,
        inventory: ComputeInventory,
        wall: Callable[[], float],
    ) -> None:
        """``database`` is the gateway database."""
        self._database = database
        self._writer = writer
        self._inventory = inventory
        self._wall = wall

    def read(self, cluster_uuid: str) -> ClusterRow | None:
        """A cluster's row."""
        with self._database.read() as connection:
            return store.get(connection, cluster_uuid)

    def list_all(self) -> list[ClusterRow]:
        """The rows of all clusters."""
        with self._database.read() as connection:
            return store.list_all(connection)

    def apply(self, host: ComputeHost) -> None:
        """Make Nova's rows agree with what is known of a host."""
        if host.gone:
            self._dismiss(host)
        elif host.row.state in CLOSED:
            if host.provisioned:
                self._disable(host, f"AUTO: {host.row.state_reason or 'stopped by an alarm'}")
        else:
            if host.provision:
                self._provision(host)
            if host.provisioned:
                self._decide(host)

    def _provision(self, host: ComputeHost) -> None:
        found = self._inventory.resources(host.row.compute_host)
        if found is None:
            raise TotalsUnknownError(f"the inventory has no totals of {host.row.compute_host} yet")
        self._writer.provision(_record(host.row, found))
        host.provision, host.provisioned = False, True
        self._note(host, ClusterState.PROVISIONED, "", (ClusterState.NEW,))

    def _decide(self, host: ComputeHost) -> None:
        """Enable or disable the service; it stays as it is until the edge's state is known."""
        if host.edge_online is False:
            if self._disable(host, host.offline):
                self._note(host, ClusterState.OFFLINE, host.offline, _KNOWN)
        elif host.edge_online and host.synchronised and host.allocated:
            self._enable(host)
        elif host.edge_online and host.applied and self._disable(host, FIRST_SYNC):
            self._note(host, ClusterState.PROVISIONED, "", _KNOWN)

    def _enable(self, host: ComputeHost) -> None:
        if host.applied == "":
            return
        status = self._writer.enable(host.row.compute_host)
        why = f"disabled by an operator: {status.disabled_reason}" if status.disabled else ""
        self._note(host, ClusterState.ACTIVE, why, _KNOWN)
        host.applied = ""

    def _disable(self, host: ComputeHost, reason: str) -> bool:
        """Disable with a reason; False when that was done before."""
        if host.applied == reason:
            return False
        self._writer.disable(host.row.compute_host, reason)
        host.applied = reason
        return True

    def _dismiss(self, host: ComputeHost) -> None:
        """Disable, and remove the host from Nova once the worker has ended."""
        if self._writer.status(host.row.compute_host) is None:
            host.removed = host.worker.over
            return
        self._disable(host, f"AUTO: cluster {host.row.name}: {host.gone}")
        if host.worker.over:
            self._writer.remove(host.row.compute_host)
            host.removed = True

    def _note(
        self, host: ComputeHost, state: ClusterState, reason: str, among: Sequence[ClusterState]
    ) -> None:
        now = naive_utc(self._wall())
        self._database.run(
            lambda c: store.set_state(c, host.row.uuid, state, reason, now, among=among)
        )


def _record(row: ClusterRow, found: compute_pb2.GetClusterResourcesResponse) -> ComputeHostRecord:
    return ComputeHostRecord(
        host=row.compute_host,
        node=found.hypervisor_hostname,
        node_uuid=found.compute_node_uuid,
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
