"""`EdgeLink.Control`: hello and welcome, heartbeats, lease, operations and their results.

docs/concepts/sync-protocol.md, "Control", is what this does.
"""

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Iterator

import grpc
from google.protobuf import timestamp_pb2

from certs.identity import PeerIdentity
from common.clock import Clock
from common.log_fields import fields
from controlplane.domain.errors import InvalidMessageError
from controlplane.domain.ports import EdgeEvents, OperationEvents
from controlplane.gateway.authorization import peer_address, peer_identity
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from controlplane.gateway.edges.sessions import ControlOutgoing, EdgeSession, Job, SessionEvent
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import RefusedError, StreamEnd
from controlplane.gateway.streams.stream import Outgoing, Streams
from controlplane.store.errors import DatabaseUnavailableError, StoreError
from vsphere_gateway.v1 import link_pb2, operations_pb2

LOG = logging.getLogger(__name__)

PROTOCOL_MINIMUM = 1
PROTOCOL_MAXIMUM = 1
QUEUE_LIMIT = 4096
"""Messages to one edge; operations are small and few."""
RETRY_SECONDS = 2.0
"""Between attempts to store while the database is not available; the stream's end stops them."""

Requests = Iterator[link_pb2.ControlRequest]


@dataclasses.dataclass(frozen=True, slots=True)
class LinkTerms:
    """What the welcome tells every edge."""

    software_version: str
    heartbeat_interval: float
    """Seconds."""
    hello_timeout: float
    """Seconds within which the first message must come."""


class _SessionWorker:
    """Runs the jobs of one control stream, in order, in a thread of its own.

    A database that hangs delays the acknowledgement of results, and no heartbeat.
    """

    def __init__(
        self, session: EdgeSession, operations: OperationEvents, edges: EdgeEvents
    ) -> None:
        self._session = session
        self._operations = operations
        self._edges = edges

    def start(self, settle: Job) -> None:
        """Begin with ``settle``, which finds out who holds the lease."""
        self._session.events.put(settle)
        threading.Thread(
            target=self._run, name=f"operations of edge {self._session.name}", daemon=True
        ).start()

    def stop(self) -> None:
        """End after the job at hand; the edge repeats what is left when it has dialled again."""
        self._session.over.set()
        self._session.events.put(SessionEvent.ENDED)

    def report(self, request: link_pb2.ControlRequest) -> None:
        """Take a report about an operation.

        Whoever waits for a result has it at once; storing it waits for what was reported before.
        """
        name, events = self._session.name, self._session.events
        match request.WhichOneof("message"):
            case "operation_accepted":
                accepted = request.operation_accepted
                events.put(functools.partial(self._operations.accepted, name, accepted))
            case "operation_progress":
                progress = request.operation_progress
                events.put(functools.partial(self._operations.progress, name, progress))
            case "operation_result":
                result = request.operation_result
                store = self._operations.completed(name, result)
                events.put(functools.partial(self._store, store, result.operation_id))

    def _store(self, store: Job, operation_id: str) -> None:
        """Store a result and acknowledge it."""
        store()
        ack = operations_pb2.OperationResultAck(operation_id=operation_id)
        self._session.outgoing.put(link_pb2.ControlResponse(operation_result_ack=ack))

    def _lease_gained(self) -> None:
        session = self._session
        unsettled = list(session.hello.unsettled_operations)
        self._operations.edge_connected(session.name, session.vcenter_uuid, unsettled)
        self._edges.edge_online(session.vcenter_uuid, session.name)

    def _run(self) -> None:
        try:
            while (event := self._session.events.get()) is not SessionEvent.ENDED:
                self._do(self._lease_gained if event is SessionEvent.LEASE_GAINED else event)
        except Exception:  # the boundary of this thread
            LOG.exception("operations of an edge failed", extra=fields(edge=self._session.name))
            problem = "an error of the control plane, see its log"
            self._session.end(StreamEnd(grpc.StatusCode.INTERNAL, problem))

    def _do(self, job: Job) -> None:
        """Run a job, again and again while the database is not available."""
        over = self._session.over
        while not over.is_set():
            try:
                return job()
            except DatabaseUnavailableError as error:
                LOG.warning(
                    "report of an edge waits for the database",
                    extra=fields(edge=self._session.name, error=error),
                )
                over.wait(RETRY_SECONDS)
            except StoreError as error:
                # It would fail again. Without an acknowledgement the edge repeats it when it has
                # dialled again, and the operation is settled then.
                LOG.error(
                    "report of an edge cannot be stored",
                    extra=fields(edge=self._session.name, error=error),
                )
                return None
        return None


class ControlStreams:
    """Serves the control streams of all edges."""

    def __init__(
        self,
        registry: EdgeRegistry,
        operations: OperationEvents,
        edges: EdgeEvents,
        refusals: Refusals,
        terms: LinkTerms,
        clock: Clock,
        new_session_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._operations = operations
        self._edges = edges
        self._refusals = refusals
        self.streams = Streams("Control", refusals)
        self._terms = terms
        self._clock = clock
        self._new_session_id = new_session_id

    def serve(
        self, requests: Requests, context: grpc.ServicerContext
    ) -> Iterator[link_pb2.ControlResponse]:
        """Answer one call, until either side ends it."""
        identity, peer = peer_identity(context), peer_address(context)
        outgoing: ControlOutgoing = Outgoing(QUEUE_LIMIT)
        timeout = self._terms.hello_timeout
        missing = StreamEnd(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello within {timeout:g} s")
        read = functools.partial(self._read, identity, peer, requests, outgoing)
        yield from self.streams.run(context, outgoing, read, timeout, missing)

    def _read(
        self, identity: PeerIdentity, peer: str, requests: Requests, outgoing: ControlOutgoing
    ) -> None:
        """Read the edge's messages to their end. Raises one of ``KNOWN_ERRORS``."""
        first = next(requests, None)
        if first is None:
            return
        session = self._session(identity, peer, _hello(first, identity), outgoing)
        worker = _SessionWorker(session, self._operations, self._edges)
        self._registry.connect(session)
        self._refusals.accepted(f"{identity.role.value}:{identity.name}")
        worker.start(functools.partial(self._registry.settle, session))
        reason = "the link broke"
        try:
            for request in requests:
                self._take(session, worker, request)
            reason = "the edge ended it"
        except InvalidMessageError as error:
            reason = str(error)
            raise
        finally:
            worker.stop()
            end = outgoing.ended
            self._registry.disconnect(session, (end.details if end else "") or reason)

    def _take(
        self, session: EdgeSession, worker: _SessionWorker, request: link_pb2.ControlRequest
    ) -> None:
        match request.WhichOneof("message"):
            case "heartbeat":
                self._registry.heard(session, request.heartbeat)
                echo = link_pb2.HeartbeatEcho(
                    sequence=request.heartbeat.sequence,
                    sent_at=request.heartbeat.sent_at,
                    received_at=timestamp(self._clock.wall()),
                )
                session.outgoing.put(link_pb2.ControlResponse(heartbeat_echo=echo))
            case "operation_accepted" | "operation_progress" | "operation_result":
                worker.report(request)
            case "hello":
                raise InvalidMessageError("a second hello on one control stream")
            case None:
                raise InvalidMessageError(
                    f"a message that protocol version {PROTOCOL_MAXIMUM} does not know"
                )

    def _session(
        self, identity: PeerIdentity, peer: str, hello: link_pb2.Hello, outgoing: ControlOutgoing
    ) -> EdgeSession:
        now = self._clock.wall()
        session_id = self._new_session_id()
        welcome = link_pb2.Welcome(
            control_plane_version=self._terms.software_version,
            protocol_version=min(hello.protocol_maximum, PROTOCOL_MAXIMUM),
            heartbeat_interval_ms=round(self._terms.heartbeat_interval * 1000),
            session_id=session_id,
        )
        return EdgeSession(
            identity=identity,
            hello=hello,
            peer=peer,
            session_id=session_id,
            outgoing=outgoing,
            welcome=welcome,
            opened_at=now,
            heard_at=now,
            deadline=self._registry.next_deadline(),
        )


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Convert a Unix time in seconds to a message."""
    moment = timestamp_pb2.Timestamp()
    moment.FromNanoseconds(round(seconds * 1e9))
    return moment


def _hello(first: link_pb2.ControlRequest, identity: PeerIdentity) -> link_pb2.Hello:
    """Check the first message. Raises ``InvalidMessageError`` or ``RefusedError``."""
    if not first.HasField("hello"):
        raise InvalidMessageError("the first message on a control stream must be a hello")
    hello = first.hello
    if hello.edge_name != identity.name:
        raise RefusedError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the hello is of edge {hello.edge_name!r}, the certificate of edge {identity.name!r}",
        )
    least = max(hello.protocol_minimum, PROTOCOL_MINIMUM)
    if least > min(hello.protocol_maximum, PROTOCOL_MAXIMUM):
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"edge {hello.edge_version or 'of unknown version'} speaks protocol versions "
            f"{hello.protocol_minimum} to {hello.protocol_maximum}, this control plane "
            f"{PROTOCOL_MINIMUM} to {PROTOCOL_MAXIMUM}: upgrade the older one",
        )
    if not hello.epoch:
        raise InvalidMessageError("hello.epoch is not set")
    return hello
