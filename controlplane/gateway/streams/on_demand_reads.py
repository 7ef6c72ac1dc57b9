"""`EdgeLink.Audit`: on-demand reads, in which an edge reads its vCenter afresh because we asked.

docs/concepts/sync-protocol.md, "On-demand reads", is what this does.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator

import grpc

from certs.identity import PeerIdentity
from controlplane.domain.errors import EdgeOfflineError, InvalidMessageError, OnDemandReadError
from controlplane.gateway.authorization import peer_identity
from controlplane.gateway.edges.edge_registry import EdgeRegistry
from controlplane.gateway.edges.sessions import EdgeSession
from controlplane.gateway.status import KNOWN_ERRORS, RefusedError, abort
from vsphere_gateway.v1 import link_pb2

CAPABILITY = "audit"
SILENCE_SECONDS = 300.0
"""Longest time without a message: a vCenter may take minutes for its first page."""
MESSAGES_AHEAD = 4
"""Messages that wait for whoever asked; more are held back at the edge."""
_LOOK_SECONDS = 0.5

Requests = Iterator[link_pb2.AuditRequest]


@dataclasses.dataclass(slots=True, eq=False)
class _Answer:
    """What arrives in answer to one request. None means that the call broke."""

    session: EdgeSession
    messages: queue.Queue[link_pb2.AuditRequest | None]
    over: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set when nobody waits for it any longer."""


class OnDemandReader:
    """Asks edges to read their vCenter and takes their answers. Safe from any thread.

    The messages are named after the call, `Audit`.
    """

    def __init__(self, registry: EdgeRegistry, new_id: Callable[[], str]) -> None:
        """``new_id`` makes the ids of requests, which nobody can guess."""
        self._registry = registry
        self._new_id = new_id
        self._answers: dict[str, _Answer] = {}

    def read(self, vcenter_uuid: str) -> Iterator[link_pb2.AuditBatch]:
        """Have a vCenter read afresh and yield what its edge sends.

        Raises ``OnDemandReadError``, also when the answer ends before it is complete.
        """
        session = self._asked(vcenter_uuid)
        answer = _Answer(session, queue.Queue(MESSAGES_AHEAD))
        audit_id = self._new_id()
        self._answers[audit_id] = answer
        try:
            request = link_pb2.StartAudit(audit_id=audit_id)
            session.outgoing.put(link_pb2.ControlResponse(start_audit=request))
            yield from _batches(answer)
        finally:
            answer.over.set()
            del self._answers[audit_id]

    def serve(self, requests: Requests, context: grpc.ServicerContext) -> link_pb2.AuditResponse:
        """Receive one answer."""
        try:
            answer = self._answer(requests, peer_identity(context))
            _forward_all(requests, answer)
        except KNOWN_ERRORS as error:
            abort(context, error)
        return link_pb2.AuditResponse()

    def _asked(self, vcenter_uuid: str) -> EdgeSession:
        try:
            session, _ = self._registry.holder(vcenter_uuid)
        except EdgeOfflineError as error:
            raise OnDemandReadError(str(error)) from error
        if CAPABILITY not in session.hello.capabilities:
            raise OnDemandReadError(
                f"edge {session.name} of version {session.hello.edge_version} cannot read its "
                "vCenter on demand: upgrade it"
            )
        return session

    def _answer(self, requests: Requests, identity: PeerIdentity) -> _Answer:
        """Find what a call answers. Raises ``InvalidMessageError`` or ``RefusedError``."""
        first = next(requests, None)
        if first is None or not first.HasField("open"):
            raise InvalidMessageError("the first message of an on-demand read must be open")
        answer = self._answers.get(first.open.audit_id)
        if answer is None or answer.session.name != identity.name:
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND, "nobody waits for this read; it may have been cancelled"
            )
        return answer


def _forward_all(requests: Requests, answer: _Answer) -> None:
    """Forward messages as fast as they are read."""
    try:
        for message in requests:
            _forward(answer, message)
    except grpc.RpcError:
        pass  # that ``end`` is missing says so
    finally:
        if not answer.over.is_set():
            _forward(answer, None)


def _forward(answer: _Answer, message: link_pb2.AuditRequest | None) -> None:
    while not answer.over.is_set():
        try:
            answer.messages.put(message, timeout=_LOOK_SECONDS)
        except queue.Full:
            continue
        return
    raise RefusedError(grpc.StatusCode.CANCELLED, "nobody waits for this read any longer")


def _batches(answer: _Answer) -> Iterator[link_pb2.AuditBatch]:
    count = 0
    while True:
        message = _next_message(answer)
        kind = message.WhichOneof("message") if message is not None else None
        if message is None or kind is None:
            raise OnDemandReadError(f"edge {answer.session.name} did not read all of its vCenter")
        if kind == "failure":
            raise OnDemandReadError(f"edge {answer.session.name}: {message.failure.message}")
        if kind == "end":
            if message.end.object_count != count:
                raise OnDemandReadError(
                    f"edge {answer.session.name} sent {count} of {message.end.object_count} objects"
                )
            return
        count += len(message.batch.objects)
        yield message.batch


def _next_message(answer: _Answer) -> link_pb2.AuditRequest | None:
    """Wait for the next message. Raises ``OnDemandReadError`` when none comes."""
    for _ in range(round(SILENCE_SECONDS / _LOOK_SECONDS)):
        try:
            return answer.messages.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if answer.session.over.is_set():
                raise OnDemandReadError(f"edge {answer.session.name} disconnected") from None
    raise OnDemandReadError(f"edge {answer.session.name} sent nothing for {SILENCE_SECONDS:.0f} s")
