"""`vsphere_gateway.v1.Diagnostics`: what an operator may see of a running control plane."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import grpc

from common.clock import Clock
from common.timestamps import unix_seconds
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from controlplane.gateway.edges.sessions import EdgeSession
from controlplane.gateway.status import RefusedError, abort
from controlplane.gateway.streams.control_stream import timestamp
from controlplane.store.errors import StoreError
from controlplane.store.own.edges import EdgeRow, VCenterRow
from vsphere_gateway.v1 import diagnostics_pb2, diagnostics_pb2_grpc

Response = TypeVar("Response")


class DiagnosticsSource(Protocol):
    """What is read for diagnostics; every method raises ``StoreError``."""

    def vcenters(self) -> Sequence[VCenterRow]:
        """List all vCenters, each with the time at which it was last in sync."""

    def clusters(self) -> Sequence[diagnostics_pb2.ClusterStatus]:
        """List clusters by name."""

    def servers(self, cluster: str) -> Sequence[diagnostics_pb2.ServerStatus]:
        """List servers by name, of one cluster when its name or UUID is given."""

    def images(self) -> Sequence[diagnostics_pb2.ImageStatus]:
        """List images by name."""

    def quarantine(self) -> Sequence[diagnostics_pb2.QuarantineEntry]:
        """List objects in quarantine and alarms, newest first."""

    def inventory_counts(self) -> Sequence[diagnostics_pb2.InventoryCount]:
        """Count objects and lag by vCenter and kind."""


class OperationSource(Protocol):
    """The ledger as diagnostics read it; raises ``StoreError``."""

    def recent(self, limit: int = 0) -> Sequence[diagnostics_pb2.OperationStatus]:
        """List operations, newest first; 0 means the default number."""


class VerificationSource(Protocol):
    """Implemented by ``controlplane.verification``."""

    def verify(self, wanted: Callable[[], bool]) -> Iterator[diagnostics_pb2.VerifyResponse]:
        """Yield the differences for as long as ``wanted()`` is true. Raises ``StoreError``."""


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServicer):
    """Answers from the registry and from what is stored."""

    def __init__(
        self,
        registry: EdgeRegistry,
        source: DiagnosticsSource,
        operations: OperationSource,
        verification: VerificationSource,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._source = source
        self._operations = operations
        self._verification = verification
        self._verifying = threading.Lock()
        self._clock = clock

    def ListEdges(
        self, request: diagnostics_pb2.ListEdgesRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListEdgesResponse:
        """Edges that have ever dialled."""
        return _answer(context, lambda: diagnostics_pb2.ListEdgesResponse(edges=self._edges()))

    def ListClusters(
        self, request: diagnostics_pb2.ListClustersRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListClustersResponse:
        """Clusters under management."""
        make = diagnostics_pb2.ListClustersResponse
        return _answer(context, lambda: make(clusters=self._source.clusters()))

    def ListServers(
        self, request: diagnostics_pb2.ListServersRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListServersResponse:
        """Servers that stand for virtual machines."""
        make = diagnostics_pb2.ListServersResponse
        return _answer(context, lambda: make(servers=self._source.servers(request.cluster)))

    def ListImages(
        self, request: diagnostics_pb2.ListImagesRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListImagesResponse:
        """Images that stand for templates."""
        make = diagnostics_pb2.ListImagesResponse
        return _answer(context, lambda: make(images=self._source.images()))

    def ListOperations(
        self, request: diagnostics_pb2.ListOperationsRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListOperationsResponse:
        """Recent operations."""
        make = diagnostics_pb2.ListOperationsResponse
        return _answer(context, lambda: make(operations=self._operations.recent(request.limit)))

    def ListQuarantine(
        self, request: diagnostics_pb2.ListQuarantineRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.ListQuarantineResponse:
        """Objects that an edge could not read, or that could not be applied here."""
        make = diagnostics_pb2.ListQuarantineResponse
        return _answer(
            context, lambda: make(entries=[*self._unreadable(), *self._source.quarantine()])
        )

    def GetInventoryCounts(
        self, request: diagnostics_pb2.GetInventoryCountsRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.GetInventoryCountsResponse:
        """Counts and lag by kind."""
        make = diagnostics_pb2.GetInventoryCountsResponse
        return _answer(context, lambda: make(counts=self._source.inventory_counts()))

    def Verify(
        self, request: diagnostics_pb2.VerifyRequest, context: grpc.ServicerContext
    ) -> Iterator[diagnostics_pb2.VerifyResponse]:
        """What differs between vCenter, the gateway database, Nova, Glance and placement."""
        if not self._verifying.acquire(blocking=False):
            text = "another verification is running: wait until it has ended"
            abort(context, RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
        try:
            yield from self._verification.verify(context.is_active)
        except StoreError as error:
            abort(context, error)
        finally:
            self._verifying.release()

    def _edges(self) -> list[diagnostics_pb2.EdgeStatus]:
        vcenters = {row.uuid: row for row in self._source.vcenters()}
        return [
            self._edge(row, session, vcenters.get(row.vcenter_uuid or ""))
            for row, session in self._registry.known()
        ]

    def _edge(
        self, row: EdgeRow, session: EdgeSession | None, vcenter: VCenterRow | None
    ) -> diagnostics_pb2.EdgeStatus:
        heard_at = session.heard_at if session else unix_seconds(row.last_seen_at)
        status = diagnostics_pb2.EdgeStatus(
            name=row.name,
            online=session is not None,
            link_age_ms=max(0, round((self._clock.wall() - heard_at) * 1000)),
            epoch=row.epoch,
            version=row.version,
            vcenter_uuid=row.vcenter_uuid or "",
            vcenter_state=row.vcenter_state,  # type: ignore[arg-type]  # an open enum
            vcenter_message=row.vcenter_message,
            peer=row.peer,
            since=timestamp(unix_seconds(row.since)),
            lease_held=session is not None and self._registry.leases.held_by(session),
        )
        if row.certificate_not_after and row.certificate_not_before:
            status.certificate_not_after.FromDatetime(row.certificate_not_after)
            status.certificate_not_before.FromDatetime(row.certificate_not_before)
        if vcenter is not None:
            status.vcenter_name = vcenter.full_name
            status.parity_generation = vcenter.parity_generation
            if vcenter.parity_at is not None:
                status.parity_at.FromDatetime(vcenter.parity_at)
        if session is not None:
            status.outbox_objects = session.heartbeat.outbox_objects
            status.resident_bytes = session.heartbeat.resident_bytes
            status.failing_threads.extend(session.heartbeat.failing_threads)
        return status

    def _unreadable(self) -> list[diagnostics_pb2.QuarantineEntry]:
        """List what connected edges could not read, according to their last heartbeats."""
        return [
            diagnostics_pb2.QuarantineEntry(
                vcenter_uuid=session.vcenter_uuid,
                object=f"{unreadable.reference.type}:{unreadable.reference.value}",
                reason="NOT_READABLE_AT_SITE",
                message=unreadable.reason,
                since=timestamp(session.heard_at),
            )
            for session in self._registry.sessions.list_all()
            for unreadable in session.heartbeat.unreadable_objects
        ]


def _answer(context: grpc.ServicerContext, make: Callable[[], Response]) -> Response:
    try:
        return make()
    except StoreError as error:
        abort(context, error)
