"""Answers audits beside `Control`: one `Audit` call for each request, one after another."""

import logging
import queue
import threading

import grpc

from common.log_fields import fields
from edge.interfaces import OnDemandReadSource
from edge.link.faults import translate
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

log = logging.getLogger(__name__)


class AuditCalls:
    """The `Audit` calls of one channel. Lives as long as one `Control` call."""

    def __init__(self, stub: link_pb2_grpc.EdgeLinkStub, source: OnDemandReadSource) -> None:
        self._stub = stub
        self._source = source
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._call: grpc.Future[link_pb2.AuditResponse] | None = None

    def requested(self, request: link_pb2.StartAudit) -> None:
        """Answer a request when those before it are answered; never blocks."""
        self._requests.put(request.audit_id)

    def stop(self) -> None:
        """End the call under way; ``run`` returns soon after. May be called more than once."""
        self._stopped.set()
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()

    def run(self) -> None:
        """Answer requests until ``stop``. What breaks one is the asker's to notice."""
        while (audit_id := self._requests.get()) is not None and not self._stopped.is_set():
            over = threading.Event()
            call = self._stub.Audit.future(self._source.messages(audit_id, over))
            self._call = call
            try:
                if self._stopped.is_set():
                    call.cancel()
                call.result()
            except grpc.FutureCancelledError:
                log.debug("audit cancelled")
            except grpc.RpcError as error:
                reason = translate(error, opened=True)
                log.info("audit interrupted", extra=fields(reason=reason))
            finally:
                over.set()
                self._call = None
