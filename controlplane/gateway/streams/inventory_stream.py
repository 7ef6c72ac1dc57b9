"""`EdgeLink.Inventory`: from the edge's messages to the pipeline, and its answers back.

What this carries is specified in docs/concepts/sync-protocol.md, "Inventory". The pipeline
interprets the messages; here is checked that each is one that may come now.
"""

import functools
from collections.abc import Iterator

import grpc

from certs.identity import PeerIdentity
from controlplane.domain.errors import InvalidMessageError
from controlplane.domain.ports import InventoryPipeline
from controlplane.gateway.authorization import peer_identity
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from controlplane.gateway.edges.sessions import EdgeSession, InventoryOutgoing
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import NotLeaseholderError, StreamEnd
from controlplane.gateway.streams.stream import Outgoing, Streams
from vsphere_gateway.v1 import link_pb2

QUEUE_LIMIT = 2048
"""Responses to one edge; there are at most as many acks as batches under way."""
DIGESTS_BYTES = 256 * 8
BUCKETS = 256

Requests = Iterator[link_pb2.InventoryRequest]


class InventoryStreams:
    """Serves the inventory streams of all edges."""

    def __init__(
        self,
        registry: EdgeRegistry,
        pipeline: InventoryPipeline,
        refusals: Refusals,
        open_timeout: float,
    ) -> None:
        """``open_timeout`` is in seconds."""
        self._registry = registry
        self._pipeline = pipeline
        self.streams = Streams("Inventory", refusals)
        self._open_timeout = open_timeout

    def serve(
        self, requests: Requests, context: grpc.ServicerContext
    ) -> Iterator[link_pb2.InventoryResponse]:
        """Answer one call, until either side ends it."""
        identity = peer_identity(context)
        outgoing: InventoryOutgoing = Outgoing(QUEUE_LIMIT)
        missing = StreamEnd(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"not opened within {self._open_timeout:g} s"
        )
        read = functools.partial(self._read, identity, requests, outgoing)
        yield from self.streams.run(context, outgoing, read, self._open_timeout, missing)

    def _read(
        self, identity: PeerIdentity, requests: Requests, outgoing: InventoryOutgoing
    ) -> None:
        """Read the edge's messages to their end. Raises one of ``KNOWN_ERRORS``."""
        first = next(requests, None)
        if first is None:
            return
        if not first.HasField("open"):
            raise InvalidMessageError("the first message on an inventory stream must be open")
        session = self._leaseholder(identity, first.open)
        session.begin_inventory(outgoing)
        feed = self._pipeline.open(identity.name, first.open, _Sink(outgoing))
        try:
            outgoing.put(link_pb2.InventoryResponse(holdings=feed.holdings()))
            sequences = _Sequences()
            for request in requests:
                sequences.check(request)
                feed.receive(request)
        finally:
            feed.close()

    def _leaseholder(self, identity: PeerIdentity, opened: link_pb2.InventoryOpen) -> EdgeSession:
        session = self._registry.sessions.get(identity.name)
        if session is None or session.epoch != opened.epoch:
            raise NotLeaseholderError(f"edge {identity.name} has no control stream: open it first")
        vcenter_uuid = opened.vcenter.instance_uuid
        if not vcenter_uuid or vcenter_uuid != session.vcenter_uuid:
            raise InvalidMessageError(
                f"inventory of vCenter {vcenter_uuid or 'without UUID'}, but the hello named "
                f"{session.vcenter_uuid or 'none'}"
            )
        if not self._registry.leases.held_by(session):
            holder = self._registry.leases.last_holder(vcenter_uuid)
            raise NotLeaseholderError(
                f"edge {holder} holds the lease of vCenter {vcenter_uuid}: edge {identity.name} "
                "stands by, and opens its inventory when a Lease message gives it the lease"
                if holder and holder != identity.name
                else f"edge {identity.name} has not been given the lease of vCenter "
                f"{vcenter_uuid} yet: it must wait for a Lease message"
            )
        return session


class _Sink:
    """Queues the pipeline's responses to the edge."""

    def __init__(self, outgoing: InventoryOutgoing) -> None:
        self._outgoing = outgoing

    def send(self, response: link_pb2.InventoryResponse) -> None:
        """Queue a response; ignored after the stream has ended."""
        self._outgoing.put(response)


class _Sequences:
    """Checks the form of messages, and that each lane is numbered without gaps within this call."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def check(self, request: link_pb2.InventoryRequest) -> None:
        """Raise ``InvalidMessageError`` for a message that may not come now."""
        match request.WhichOneof("message"):
            case "batch":
                self._batch(request.batch)
            case "bucket_query":
                if any(bucket >= BUCKETS for bucket in request.bucket_query.buckets):
                    raise InvalidMessageError(f"a bucket number of {BUCKETS} or above")
            case "snapshot_end":
                if len(request.snapshot_end.bucket_digests) not in (0, DIGESTS_BYTES):
                    raise InvalidMessageError(f"digests must be {DIGESTS_BYTES} bytes or none")
            case "open":
                raise InvalidMessageError("a second open on one inventory stream")
            case None:
                raise InvalidMessageError("a message that this protocol version does not know")

    def _batch(self, batch: link_pb2.ObjectBatch) -> None:
        if batch.lane not in (link_pb2.LANE_CHANGES, link_pb2.LANE_SNAPSHOT):
            raise InvalidMessageError(f"a batch in lane {batch.lane}")
        expected = self._last.get(batch.lane, batch.sequence - 1) + 1
        if batch.sequence < 1 or batch.sequence != expected:
            lane = link_pb2.Lane.Name(batch.lane)
            raise InvalidMessageError(
                f"batch {batch.sequence} in {lane}, expected {max(1, expected)}"
            )
        self._last[batch.lane] = batch.sequence
