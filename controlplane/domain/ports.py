"""The seams of the control plane: what its parts ask of each other."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from vsphere_gateway.v1 import compute_pb2, inventory_pb2, link_pb2, operations_pb2


class InventorySink(Protocol):
    """The edge's end of an inventory stream (implemented by the gateway)."""

    def send(self, response: link_pb2.InventoryResponse) -> None:
        """Queue a response to the edge; never blocks; ignored after the stream has ended."""


class InventoryStream(Protocol):
    """The pipeline's end of one open inventory stream (implemented by the pipeline)."""

    def holdings(self) -> link_pb2.Holdings:
        """What is held for this vCenter: the first answer on the stream."""

    def receive(self, request: link_pb2.InventoryRequest) -> None:
        """Take a batch, bucket query or snapshot end. Queues; answers come through the sink.

        Raises ``controlplane.domain.errors.FlowControlError`` when the edge exceeds its window.
        """

    def close(self) -> None:
        """End of the stream; queued batches that were not applied are dropped, unacked."""


class InventoryPipeline(Protocol):
    """Applies inventory to Nova, Glance, placement and the gateway database."""

    def open(
        self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink
    ) -> InventoryStream:
        """Begin the stream of one edge for one vCenter."""

    def observed(self, vcenter_uuid: str, state: inventory_pb2.InventoryObject) -> None:
        """Take a state that came back with an operation's result, as if it were a change."""

    def reassert(self, instance_uuids: Sequence[str]) -> None:
        """Compare the fields that vCenter owns again, once Nova's task on them has ended."""


class EdgeDispatcher(Protocol):
    """Sends operations to the edge that holds a vCenter's lease (implemented by the gateway)."""

    def send(self, vcenter_uuid: str, operation: operations_pb2.Operation) -> str:
        """Queue an operation, its fencing epoch filled in; return the edge's name.

        Raises ``controlplane.domain.errors.EdgeOfflineError`` when no stream lives.
        """

    def cancel(self, vcenter_uuid: str, operation_id: str, reason: str) -> None:
        """Ask the edge to stop an operation; silently nothing when it is offline."""

    def online(self, vcenter_uuid: str) -> bool:
        """Whether an edge with a live control stream holds the lease."""

    def expected(self, vcenter_uuid: str) -> float:
        """For how many seconds more an edge that is away may be about to dial again.

        For one that is here: for how long it would be expected if it left now.
        """


class OperationEvents(Protocol):
    """What edges report about operations (implemented by the ledger)."""

    def accepted(self, edge_name: str, accepted: operations_pb2.OperationAccepted) -> None:
        """The edge has taken an operation on."""

    def progress(self, edge_name: str, progress: operations_pb2.OperationProgress) -> None:
        """How far it is."""

    def completed(
        self, edge_name: str, result: operations_pb2.OperationResult
    ) -> Callable[[], None]:
        """Give a terminal result to whoever waits for it, at once and without blocking.

        What is returned stores the result, and raises ``controlplane.store.errors.StoreError`` when
        it could not; the gateway acknowledges the result after that.
        """

    def edge_connected(
        self,
        edge_name: str,
        vcenter_uuid: str,
        unsettled: Sequence[operations_pb2.OperationProgress],
    ) -> None:
        """Settle operations that were under way when the link broke."""


class EdgeEvents(Protocol):
    """Hears that an edge came or went (implemented by the cluster supervisor)."""

    def edge_online(self, vcenter_uuid: str, edge_name: str) -> None:
        """A leaseholder's control stream lives."""

    def edge_offline(self, vcenter_uuid: str, edge_name: str, since: float) -> None:
        """The leaseholder has been silent too long; ``since`` is Unix time in seconds."""


class ClusterEvents(Protocol):
    """Hears about managed clusters (implemented by the cluster supervisor)."""

    def cluster_found(self, cluster_uuid: str) -> None:
        """A cluster came under management, its hosts changed, or an alarm stopped it.

        Read its row: provision its compute host, or take it out of service.
        """

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Parity was reached and every server of the cluster is in the cell database."""

    def allocations_written(self, cluster_uuid: str) -> None:
        """Placement holds the allocations of every server of the cluster."""

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """A cluster left management; ``reason`` is for a person.

        Told when it leaves, and again when the last of its servers has ended.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class ComputeCluster:
    """The managed cluster behind a Nova compute host."""

    compute_host: str
    cluster_uuid: str
    vcenter_uuid: str
    reference: inventory_pb2.ObjectReference


@dataclasses.dataclass(frozen=True, slots=True)
class StoredVirtualMachine:
    """A virtual machine or a template as the inventory holds it."""

    vcenter_uuid: str
    reference: inventory_pb2.ObjectReference
    cluster: inventory_pb2.ObjectReference
    """The managed cluster that it is in now; unset for a template."""
    virtual_machine: inventory_pb2.VirtualMachine


@dataclasses.dataclass(frozen=True, slots=True)
class MachineLocation:
    """Which virtual machine stands behind a server, and where it is now."""

    vcenter_uuid: str
    instance_uuid: str
    """`config.instanceUuid`."""
    reference: inventory_pb2.ObjectReference
    cluster: inventory_pb2.ObjectReference


class ComputeInventory(Protocol):
    """The stored inventory as Nova asks for it (implemented by the pipeline). Never waits.

    Raises ``controlplane.store.errors.StoreError`` when the own database is away.
    """

    def cluster(self, compute_host: str) -> ComputeCluster | None:
        """The cluster of a compute host; None when it is not under management. From memory."""

    def virtual_machine(self, server_uuid: str) -> StoredVirtualMachine | None:
        """The virtual machine behind a Nova server, in whatever cluster it is now."""

    def subject(
        self, compute_host: str, server_uuid: str
    ) -> tuple[ComputeCluster | None, MachineLocation | None]:
        """Both of an operation: where Nova has it run, and what on. From memory alone."""

    def instances(self, compute_host: str) -> list[compute_pb2.InstanceName]:
        """The servers of a compute host: adopted ones and those that OpenStack created."""

    def resources(self, compute_host: str) -> compute_pb2.GetClusterResourcesResponse | None:
        """Totals and usage of a compute host, without `edge_online`."""

    def template(self, image_id: str) -> StoredVirtualMachine | None:
        """The template behind a Glance image."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedDelete:
    """The last destroy of a server that the ledger recorded."""

    state: str
    """`pending`, `sent`, `accepted`, `unknown` or `done`; a refused one is not reported."""
    recorded_at: float
    """Unix time in seconds."""
    finished_at: float
    """Unix time in seconds, 0 while it runs."""


class RecordedDeletes(Protocol):
    """Which virtual machines may be destroyed (implemented by the ledger)."""

    def delete_recorded(self, instance_uuid: str) -> bool:
        """Whether a delete of this server is recorded that was not refused."""

    def deletes_recorded(self, instance_uuids: Sequence[str]) -> dict[str, RecordedDelete]:
        """The same in bulk, with what became of them; servers without one are left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One cluster's nova-compute worker."""

    state: str
    """`stopped`, `starting`, `running` or `failed`."""
    pid: int
    """0 if there is none."""
    message: str = ""
    """Why it failed, for a person."""


class Workers(Protocol):
    """The workers, for diagnostics (implemented by the cluster supervisor)."""

    def worker_status(self, cluster_uuid: str) -> WorkerStatus:
        """State of a cluster's worker."""
