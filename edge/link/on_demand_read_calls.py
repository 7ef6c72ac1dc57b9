"""Answers on-demand reads beside `Control`: one `Audit` call a request, one after another."""

import collections
import logging
import threading
from collections.abc import Iterator

import grpc
from google.rpc import code_pb2, status_pb2

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from edge.interfaces import OnDemandReadSource
from edge.link.faults import translate
from edge.scrub import scrub
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

WAIT_SECONDS = 60.0
"""Longest wait for a request; its only purpose is that no thread waits without end."""

log = logging.getLogger(__name__)


class OnDemandReadCalls:
    """The `Audit` calls of one channel after another."""

    def __init__(self, source: OnDemandReadSource, monitor: ThreadMonitor) -> None:
        self.thread = BackgroundThread("on-demand-read", self._step, monitor, wake=self.close)
        self._source = source
        self._changed = threading.Condition()
        self._stub: link_pb2_grpc.EdgeLinkStub | None = None
        self._waiting: collections.deque[str] = collections.deque()
        self._call: OnDemandReadCall | None = None

    def open(self, stub: link_pb2_grpc.EdgeLinkStub) -> None:
        """The control plane can be reached over ``stub``'s channel."""
        with self._changed:
            self._stub = stub

    def requested(self, request: link_pb2.StartAudit) -> None:
        """Answer a request when those before it are answered; never blocks."""
        with self._changed:
            self._waiting.append(request.audit_id)
            self._changed.notify_all()

    def close(self) -> None:
        """End the call under way and forget the requests; none begins until ``open``."""
        with self._changed:
            self._stub = None
            self._waiting.clear()
            if self._call is not None:
                self._call.end()
            self._changed.notify_all()

    def _step(self) -> None:
        """Answer one request. What breaks the answer is the asker's to notice."""
        call = self._next_call()
        if call is None:
            return
        try:
            call.run()
        except grpc.FutureCancelledError:
            log.debug("on-demand read cancelled")
        except grpc.RpcError as error:
            lost = translate(error, opened=True)
            log.info("on-demand read interrupted", extra=fields(error=lost))

    def _next_call(self) -> "OnDemandReadCall | None":
        with self._changed:
            self._call = None
            self._changed.wait_for(
                lambda: self._waiting or self.thread.stopping.is_set(), WAIT_SECONDS
            )
            if self._stub is None or not self._waiting:
                return None
            # Under the lock: `close` comes before it, or finds a call that it can end.
            self._call = OnDemandReadCall(self._stub, self._source, self._waiting.popleft())
            return self._call


class OnDemandReadCall:
    """One call, which begins when it is made. Used once."""

    def __init__(
        self, stub: link_pb2_grpc.EdgeLinkStub, source: OnDemandReadSource, audit_id: str
    ) -> None:
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._call: grpc.Future[link_pb2.AuditResponse] | None = None
        messages = self._messages(source.messages(audit_id, self._over))
        self._call = self._response = stub.Audit.future(messages)
        if self._over.is_set():
            self.end()  # it was too early for `end` to do so

    def run(self) -> None:
        """Wait until the answer is sent. Raises ``grpc.RpcError`` and ``FutureCancelledError``."""
        try:
            self._response.result()
        finally:
            self.end()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """End the call. Any thread may call it, at any time."""
        self._over.set()
        if self._call is not None:
            self._call.cancel()

    def _messages(self, answer: Iterator[link_pb2.AuditRequest]) -> Iterator[link_pb2.AuditRequest]:
        """What gRPC sends; it runs this in a thread of its own."""
        try:
            yield from answer
        except Exception as error:  # noqa: BLE001 - raised again by the thread that runs the call
            self._failure = error
            status = status_pb2.Status(
                code=code_pb2.INTERNAL,
                message="unexpected error in the edge, its log has more: " + scrub(repr(error)),
            )
            yield link_pb2.AuditRequest(failure=status)
