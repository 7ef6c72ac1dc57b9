"""The listener that edges dial, from its start to its ordered end."""

import logging
import uuid
from collections.abc import Iterator

import grpc

from certs.credentials import TlsMaterial
from certs.identity import Role
from common.background import BackgroundThread, ThreadMonitor
from common.clock import Clock
from common.log_fields import fields
from common.version import SOFTWARE_VERSION
from controlplane.config.settings import GatewaySettings
from controlplane.domain.ports import EdgeEvents, InventoryPipeline, OperationEvents
from controlplane.gateway.authorization import RoleInterceptor
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.servers import edge_server, listen
from controlplane.gateway.streams.control_stream import ControlStreams, LinkTerms
from controlplane.gateway.streams.inventory_stream import InventoryStreams
from controlplane.gateway.streams.on_demand_reads import OnDemandReader
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

LOG = logging.getLogger(__name__)

STOP_GRACE = 2.0
"""Seconds for calls to end by themselves after the drain."""


class EdgeLinkServicer(link_pb2_grpc.EdgeLinkServicer):
    """`vsphere_gateway.v1.EdgeLink`."""

    def __init__(
        self, control: ControlStreams, inventory: InventoryStreams, on_demand_reads: OnDemandReader
    ) -> None:
        self._control = control
        self._inventory = inventory
        self._on_demand_reads = on_demand_reads

    def Control(
        self,
        request_iterator: Iterator[link_pb2.ControlRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[link_pb2.ControlResponse]:
        """Exchange hello, heartbeats, leases and operations."""
        return self._control.serve(request_iterator, context)

    def Inventory(
        self,
        request_iterator: Iterator[link_pb2.InventoryRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[link_pb2.InventoryResponse]:
        """Receive snapshots and changes."""
        return self._inventory.serve(request_iterator, context)

    def Audit(
        self, request_iterator: Iterator[link_pb2.AuditRequest], context: grpc.ServicerContext
    ) -> link_pb2.AuditResponse:
        """Receive an on-demand read of a vCenter."""
        return self._on_demand_reads.serve(request_iterator, context)


class Gateway:
    """Serves edges, and checks in a thread of its own which are silent."""

    def __init__(
        self,
        settings: GatewaySettings,
        tls: TlsMaterial,
        registry: EdgeRegistry,
        on_demand_reads: OnDemandReader,
        pipeline: InventoryPipeline,
        operations: OperationEvents,
        edges: EdgeEvents,
        refusals: Refusals,
        clock: Clock,
        monitor: ThreadMonitor,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._registry = registry
        terms = LinkTerms(SOFTWARE_VERSION, settings.heartbeat_interval, settings.hello_timeout)
        control = ControlStreams(
            registry, operations, edges, refusals, terms, clock, lambda: str(uuid.uuid4())
        )
        inventory = InventoryStreams(registry, pipeline, refusals, settings.hello_timeout)
        self._streams = (inventory.streams, control.streams)
        roles = RoleInterceptor(tls.identity.customer, [Role.EDGE], refusals)
        self._server: grpc.Server = edge_server(settings.max_edges, [roles])
        link_pb2_grpc.add_EdgeLinkServicer_to_server(
            EdgeLinkServicer(control, inventory, on_demand_reads), self._server
        )
        self._watcher = BackgroundThread("edge-watch", self._watch, monitor)
        self._check_after = 0.0
        self.port = 0

    def start(self) -> None:
        """Listen; the registry has been loaded. Raises ``StartError``."""
        host = self._settings.bind_address
        credentials = self._tls.server_credentials()
        self.port = listen(self._server, host, self._settings.bind_port, credentials)
        self._server.start()
        self._watcher.start()
        LOG.info(
            "listening for edges",
            extra=fields(address=host, port=self.port, customer=self._tls.identity.customer),
        )

    def drain(self, reason: str) -> None:
        """Ask edges to finish what runs, and wait for them for a while."""
        seconds = self._settings.drain_timeout
        self._registry.drain(reason, seconds)
        if not self._registry.sessions.wait_until_empty(seconds):
            names = [session.name for session in self._registry.sessions.list_all()]
            LOG.warning("edges did not finish in time", extra=fields(edges=",".join(names)))

    def stop(self) -> None:
        """End every call and stop listening."""
        self._watcher.stopping.set()
        self._server.stop(grace=STOP_GRACE).wait()
        for streams in self._streams:
            streams.join(STOP_GRACE)
        self._watcher.stop()

    def _watch(self) -> None:
        """Wait until something is due, then check the edges."""
        if not self._watcher.stopping.wait(self._check_after):
            self._check_after = 0.0  # also when an unexpected error ends the check
            self._check_after = self._registry.check()
