"""What nova-compute workers ask of the control plane, on a unix socket.

Questions are answered from the inventory that is held; operations go through the ledger. The server
needs a thread for every operation under way: `controlplane.gateway.servers.bridge_server`.
"""

import logging
import time
import uuid
from collections.abc import Callable

import grpc

from controlplane.domain.ports import (
    ComputeCluster,
    ComputeInventory,
    EdgeDispatcher,
    MachineLocation,
)
from controlplane.operations import faults
from controlplane.operations.ledger import Ledger
from controlplane.operations.pending import Request
from controlplane.store.errors import StoreError
from vsphere_gateway.v1 import compute_pb2, compute_pb2_grpc, operations_pb2

log = logging.getLogger(__name__)

STATE_SECONDS = 5.0
"""How long the edge has to read a virtual machine's state before the stored one is used."""


class ComputeBridgeServicer(compute_pb2_grpc.ComputeBridgeServicer):
    """Serves every worker of this control plane."""

    def __init__(
        self,
        ledger: Ledger,
        inventory: ComputeInventory,
        dispatcher: EdgeDispatcher,
        started: Callable[[str], None] = lambda compute_host: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``started`` is called with the compute host whose worker has loaded its servers."""
        self._ledger = ledger
        self._inventory = inventory
        self._dispatcher = dispatcher
        self._started = started
        self._now = now

    def Execute(
        self, request: compute_pb2.ExecuteRequest, context: grpc.ServicerContext
    ) -> compute_pb2.ExecuteResponse:
        """Run one operation to its end: ledger, edge, vCenter, result."""
        operation = request.operation
        cluster, found = self._inventory.subject(request.compute_host, _server_uuid(operation))
        if cluster is None:
            result = _not_managed(operation, request.compute_host)
        else:
            result = self._ledger.execute(_ledger_request(request, cluster, found))
        if self._ledger.stopping:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping; ask again")
        return compute_pb2.ExecuteResponse(result=result)

    def GetInstance(
        self, request: compute_pb2.GetInstanceRequest, context: grpc.ServicerContext
    ) -> compute_pb2.GetInstanceResponse:
        """Read the state of one virtual machine, from the edge if asked for and connected."""
        fresh = None if request.use_cache else self._fresh(request)
        if fresh is not None:
            return fresh
        try:
            stored = self._inventory.virtual_machine(request.instance_uuid)
        except StoreError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if stored is None:
            return compute_pb2.GetInstanceResponse(found=False)
        return compute_pb2.GetInstanceResponse(found=True, virtual_machine=stored.virtual_machine)

    def ListInstances(
        self, request: compute_pb2.ListInstancesRequest, context: grpc.ServicerContext
    ) -> compute_pb2.ListInstancesResponse:
        """List the instances of one cluster."""
        try:
            instances = self._inventory.instances(request.compute_host)
        except StoreError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return compute_pb2.ListInstancesResponse(instances=instances)

    def GetClusterResources(
        self, request: compute_pb2.GetClusterResourcesRequest, context: grpc.ServicerContext
    ) -> compute_pb2.GetClusterResourcesResponse:
        """Read totals and usage of one cluster."""
        if request.started:
            self._started(request.compute_host)
        try:
            cluster = self._inventory.cluster(request.compute_host)
            found = self._inventory.resources(request.compute_host)
        except StoreError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if found is None or cluster is None:
            problem = f"{request.compute_host} stands for no cluster under management"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        response = compute_pb2.GetClusterResourcesResponse()
        response.CopyFrom(found)
        response.edge_online = self._dispatcher.online(cluster.vcenter_uuid)
        return response

    def GetTemplate(
        self, request: compute_pb2.GetTemplateRequest, context: grpc.ServicerContext
    ) -> compute_pb2.GetTemplateResponse:
        """Find the template behind a Glance image."""
        try:
            stored = self._inventory.template(request.image_id)
        except StoreError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if stored is None:
            return compute_pb2.GetTemplateResponse(found=False)
        return compute_pb2.GetTemplateResponse(
            found=True,
            reference=stored.reference,
            template=stored.virtual_machine,
            vcenter_uuid=stored.vcenter_uuid,
        )

    def _fresh(
        self, request: compute_pb2.GetInstanceRequest
    ) -> compute_pb2.GetInstanceResponse | None:
        """Read the state from vCenter; None when the edge cannot."""
        cluster, found = self._inventory.subject(request.compute_host, request.instance_uuid)
        if cluster is None:
            return None
        question = operations_pb2.Operation(
            idempotency_key=str(uuid.uuid4()), get_state=operations_pb2.GetState()
        )
        question.deadline.FromNanoseconds(int((self._now() + STATE_SECONDS) * 1e9))
        question.target.instance_uuid = request.instance_uuid
        execute = compute_pb2.ExecuteRequest(compute_host=request.compute_host, operation=question)
        wanted = _ledger_request(execute, cluster, found)
        if not self._dispatcher.online(wanted.vcenter_uuid):
            return None
        return _state(self._ledger.execute(wanted))


def _server_uuid(operation: operations_pb2.Operation) -> str:
    """The Nova UUID of the server that an operation is about."""
    if operation.HasField("clone_virtual_machine"):
        return operation.clone_virtual_machine.instance_uuid
    return operation.target.instance_uuid


def _ledger_request(
    request: compute_pb2.ExecuteRequest,
    cluster: ComputeCluster,
    found: MachineLocation | None,
) -> Request:
    """Aim at the cluster that the virtual machine is in now, which may not be Nova's."""
    operation = operations_pb2.Operation()
    operation.CopyFrom(request.operation)
    operation.cluster.CopyFrom(cluster.reference)
    vcenter_uuid = cluster.vcenter_uuid
    if found is not None and not operation.HasField("clone_virtual_machine"):
        vcenter_uuid = found.vcenter_uuid
        _aim(operation, found)
    return Request(
        operation=operation,
        vcenter_uuid=vcenter_uuid,
        instance_uuid=_server_uuid(request.operation),
        compute_host=request.compute_host,
        project_id=request.project_id,
        user_id=request.user_id,
        recorded_delete=request.user_requested_delete,
    )


def _aim(operation: operations_pb2.Operation, found: MachineLocation) -> None:
    """Set the target to what vCenter knows the virtual machine by."""
    operation.target.instance_uuid = found.instance_uuid
    operation.target.reference.CopyFrom(found.reference)
    operation.cluster.CopyFrom(found.cluster)


def _state(result: operations_pb2.OperationResult) -> compute_pb2.GetInstanceResponse | None:
    fault = faults.fault_of(result)
    if fault is None:
        machine = result.virtual_machine.virtual_machine
        return compute_pb2.GetInstanceResponse(found=True, virtual_machine=machine)
    if fault.reason == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
        return compute_pb2.GetInstanceResponse(found=False)
    return None


def _not_managed(
    operation: operations_pb2.Operation, compute_host: str
) -> operations_pb2.OperationResult:
    return faults.failure(
        operation,
        operations_pb2.FAULT_REASON_CLUSTER_NOT_MANAGED,
        f"{compute_host} stands for no cluster under management",
        "see `vsg-controlplane clusters`",
    )
