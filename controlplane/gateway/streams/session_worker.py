"""Hands what an edge reports about operations to the ledger, in order, in a thread of its own.

So a database that hangs delays results, whose acks it must precede, and never a heartbeat.
"""

import functools
import logging
import queue
import threading
from collections.abc import Callable

import grpc

from controlplane.config.log import keyed
from controlplane.domain.ports import EdgeEvents, OperationEvents
from controlplane.gateway.edges.edge_session import EdgeSession
from controlplane.gateway.status import StreamEnd
from controlplane.store.errors import StoreError
from vsphere_gateway.v1 import link_pb2, operations_pb2

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""Between attempts while the database is away; the stream's end stops them."""

Job = Callable[[], None]


class SessionWorker:
    """The thread of one control stream."""

    def __init__(
        self, session: EdgeSession, operations: OperationEvents, edges: EdgeEvents
    ) -> None:
        self._session = session
        self._operations = operations
        self._edges = edges
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        session.lease_gained = functools.partial(self._jobs.put, self._connected)

    def start(self, settle: Job) -> None:
        """Begin with ``settle``, which finds out who holds the lease."""
        self._jobs.put(settle)
        threading.Thread(
            target=self._run, name=f"operations of edge {self._session.name}", daemon=True
        ).start()

    def stop(self) -> None:
        """End after the job at hand; what is left is repeated by the edge when it is back."""
        self._session.over.set()
        self._jobs.put(None)

    def take(self, request: link_pb2.ControlRequest) -> None:
        """Queue a report about an operation.

        Who waits for a result has it at once, whatever is still to be stored of others.
        """
        name = self._session.name
        match request.WhichOneof("message"):
            case "operation_accepted":
                accepted = request.operation_accepted
                self._jobs.put(functools.partial(self._operations.accepted, name, accepted))
            case "operation_progress":
                progress = request.operation_progress
                self._jobs.put(functools.partial(self._operations.progress, name, progress))
            case "operation_result":
                self._operations.landed(request.operation_result)
                self._jobs.put(functools.partial(self._result, request.operation_result))

    def _connected(self) -> None:
        session = self._session
        unsettled = list(session.hello.unsettled_operations)
        self._operations.edge_connected(session.name, session.vcenter_uuid, unsettled)
        self._edges.edge_online(session.vcenter_uuid, session.name)

    def _result(self, result: operations_pb2.OperationResult) -> None:
        self._operations.result(self._session.name, result)
        ack = operations_pb2.OperationResultAck(operation_id=result.operation_id)
        self._session.outgoing.put(link_pb2.ControlResponse(operation_result_ack=ack))

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job)
        except Exception:
            LOG.exception("operations of an edge failed %s", keyed(edge=self._session.name))
            problem = "an error of the control plane, see its log"
            self._session.end(StreamEnd(grpc.StatusCode.INTERNAL, problem))

    def _do(self, job: Job) -> None:
        """Do a job, again and again while the database is away."""
        over = self._session.over
        while not over.is_set():
            try:
                return job()
            except StoreError as error:
                LOG.warning(
                    "report of an edge waits for the database %s",
                    keyed(edge=self._session.name, error=error),
                )
                over.wait(RETRY_SECONDS)
        return None
