"""The service that edges call."""

from collections.abc import Iterator

import grpc

from controlplane.gateway.streams.control_stream import ControlStreams
from controlplane.gateway.streams.inventory_stream import InventoryStreams
from controlplane.gateway.streams.on_demand_reads import Audits
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc


class EdgeLinkServicer(link_pb2_grpc.EdgeLinkServicer):
    """`vsphere_gateway.v1.EdgeLink`."""

    def __init__(
        self, control: ControlStreams, inventory: InventoryStreams, audits: Audits
    ) -> None:
        self._control = control
        self._inventory = inventory
        self._audits = audits

    def Control(
        self,
        request_iterator: Iterator[link_pb2.ControlRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[link_pb2.ControlResponse]:
        """Hello, heartbeats, lease, operations."""
        return self._control.serve(request_iterator, context)

    def Inventory(
        self,
        request_iterator: Iterator[link_pb2.InventoryRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[link_pb2.InventoryResponse]:
        """Snapshots and changes."""
        return self._inventory.serve(request_iterator, context)

    def Audit(
        self, request_iterator: Iterator[link_pb2.AuditRequest], context: grpc.ServicerContext
    ) -> link_pb2.AuditResponse:
        """A vCenter read afresh."""
        return self._audits.serve(request_iterator, context)
