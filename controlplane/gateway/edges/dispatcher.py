"""Sends operations down to the edge that holds a vCenter's lease."""

import logging

from controlplane.config.log import keyed
from controlplane.domain.errors import EdgeOfflineError
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from vsphere_gateway.v1 import link_pb2, operations_pb2

LOG = logging.getLogger(__name__)


class Dispatcher:
    """Implements ``controlplane.domain.ports.EdgeDispatcher``. Safe from any thread."""

    def __init__(self, registry: EdgeRegistry) -> None:
        self._registry = registry

    def send(self, vcenter_uuid: str, operation: operations_pb2.Operation) -> str:
        """Queue an operation, its fencing epoch filled in; return the edge's name.

        Raises ``EdgeOfflineError`` when no stream lives.
        """
        session, lease = self._registry.holder(vcenter_uuid)
        operation.fencing_epoch = lease.fencing_epoch
        if not session.outgoing.put(link_pb2.ControlResponse(operation=operation)):
            raise EdgeOfflineError(vcenter_uuid, session.name)
        LOG.info(
            "operation sent %s",
            keyed(
                operation=operation.operation_id,
                action=operation.WhichOneof("action"),
                request=operation.request_id or None,
                edge=session.name,
                cluster=operation.cluster.value or None,
            ),
        )
        return session.name

    def cancel(self, vcenter_uuid: str, operation_id: str, reason: str) -> None:
        """Ask the edge to stop an operation; silently nothing when it is offline."""
        try:
            session, _ = self._registry.holder(vcenter_uuid)
        except EdgeOfflineError:
            return
        cancel = operations_pb2.CancelOperation(operation_id=operation_id, reason=reason)
        session.outgoing.put(link_pb2.ControlResponse(cancel_operation=cancel))

    def online(self, vcenter_uuid: str) -> bool:
        """Tell whether an edge with a live control stream holds the lease."""
        return self._registry.leases.holder(vcenter_uuid) is not None

    def expected(self, vcenter_uuid: str) -> float:
        """Return for how many seconds more an edge that is away may be about to dial again."""
        return self._registry.expected(vcenter_uuid)
