"""Runs operations: recorded, sent to the edge, waited for, settled. One row an operation.

An operation is recorded before it is sent, so whatever happens in vCenter on our account can be
found here afterwards; above all, no virtual machine is destroyed without a row that says for whom.
"""

import functools
import logging
import threading
import uuid
from collections.abc import Callable, Collection, Sequence

from common.background import ThreadMonitor
from common.log_fields import fields
from controlplane.domain.errors import EdgeOfflineError
from controlplane.domain.ports import EdgeDispatcher, InventoryPipeline
from controlplane.operations import faults
from controlplane.operations.clock import Clock, SystemClock
from controlplane.operations.journal import Journal
from controlplane.operations.pending import EARLIER_PROCESS, PendingOperation, Request, from_row
from controlplane.operations.records import OperationRecords
from controlplane.operations.settler import Settler
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own.operations import Mark, OperationRow, OperationState
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger(__name__)

RESULT_GRACE = 5.0
"""Seconds after the deadline, which the edge observes too, for its result to arrive."""


class Ledger:
    """Implements ``OperationEvents``. Every method may be called from any thread."""

    def __init__(
        self,
        database: Database,
        dispatcher: EdgeDispatcher,
        pipeline: InventoryPipeline,
        monitor: ThreadMonitor,
        clock: Clock | None = None,
        deferred: Callable[[], None] | None = None,
    ) -> None:
        """``deferred`` is called for every delete that waits for the edge's return.

        Without it a delete that finds the edge offline has failed.
        """
        self._dispatcher = dispatcher
        self._defers = deferred is not None
        self._pipeline = pipeline
        self._clock = clock or SystemClock()
        self._records = OperationRecords(database, self._clock, deferred)
        self._journal = Journal(database, monitor, self._clock)
        self._settler = Settler(self, database, monitor, self._clock)
        self._lock = threading.Lock()
        self._by_key: dict[str, PendingOperation] = {}
        self._by_id: dict[str, PendingOperation] = {}
        self._connections: dict[str, int] = {}
        self._stopping = False

    def start(self) -> None:
        """Begin to write marks and to settle."""
        self._journal.start()
        self._settler.start()

    def stop(self) -> None:
        """Fail every waiting call so that its caller repeats it; then end the threads."""
        with self._lock:
            self._stopping = True
            for pending in self._by_key.values():
                pending.ended.notify_all()
        self._settler.stop()
        self._journal.stop()

    @property
    def stopping(self) -> bool:
        """Whether results may be missing because this process is about to end."""
        return self._stopping

    # What Nova asks for

    def execute(self, request: Request) -> operations_pb2.OperationResult:
        """Run one operation and return its result, at the latest a little after its deadline.

        A repeated idempotency key joins the first call, or returns its result. Failures come back
        as results with an ``OperationFault``; nothing is raised.
        """
        pending, first = self._enter(request)
        if first and not self._stopping:
            self._begin(pending, request)
        if self._await(pending, pending.deadline):
            return self._outcome(pending)
        self._dispatcher.cancel(
            pending.vcenter_uuid, pending.operation.operation_id, "the deadline has passed"
        )
        online = self._dispatcher.online(pending.vcenter_uuid)
        grace = RESULT_GRACE if online and pending.durable else 0.0
        if grace and self._await(pending, pending.deadline + grace):
            return self._outcome(pending)
        return self._give_up(pending, online=online)

    def _enter(self, request: Request) -> tuple[PendingOperation, bool]:
        """The operation with this key, and whether this caller is the first."""
        operation = operations_pb2.Operation()
        operation.CopyFrom(request.operation)
        with self._lock:
            known = self._by_key.get(operation.idempotency_key)
            if known is not None:
                return known, False
            operation.operation_id = str(uuid.uuid4())
            pending = PendingOperation(
                operation=operation,
                vcenter_uuid=request.vcenter_uuid,
                instance_uuid=request.instance_uuid,
                ended=threading.Condition(self._lock),
                cleanup=operation.HasField("destroy") and not request.recorded_delete,
            )
            self._by_key[operation.idempotency_key] = pending
            self._by_id[operation.operation_id] = pending
        return pending, True

    def _begin(self, pending: PendingOperation, request: Request) -> None:
        """Record the operation and send it."""
        try:
            if pending.cleanup and not self._records.cloned_here(pending.instance_uuid):
                self._leave(pending, faults.not_recorded(pending.operation))
                return
            earlier = self._records.begin(pending, request) if pending.durable else None
            if earlier is not None:
                self._take_up(pending, earlier)
                return
        except StoreError as error:
            log.error("operation not recorded", extra=pending.log_fields(error=error))
            self._leave(pending, faults.no_ledger(pending.operation, str(error)))
            return
        self._dispatch(pending)

    def _dispatch(self, pending: PendingOperation) -> None:
        """Send an operation; wait for an edge that is expected back soon."""
        while not self._stopping:
            with self._lock:
                number = self._connections.get(pending.vcenter_uuid, 0)
            # Asked before it is sent: afterwards the edge may be back, and no longer expected.
            expected = self._dispatcher.expected(pending.vcenter_uuid) if pending.durable else 0.0
            until = min(self._clock.time() + expected, pending.deadline)
            try:
                self.send(pending)
            except EdgeOfflineError as error:
                if not self._await_edge(pending, number, until):
                    self._offline(pending, error)
                    return
            else:
                return

    def _await_edge(self, pending: PendingOperation, number: int, until: float) -> bool:
        """Wait for a connection after ``number``; False when none comes until ``until``.

        True also when this process is about to end: the next one takes the row up again.
        """
        with self._lock:
            pending.connection = None
            while self._connections.get(pending.vcenter_uuid, 0) == number and not self._stopping:
                remaining = until - self._clock.time()
                if remaining <= 0:
                    return False
                self._clock.wait(pending.ended, remaining)
        return True

    def _take_up(self, pending: PendingOperation, row: OperationRow) -> None:
        """Continue what an earlier process, or an earlier call, began under the same key."""
        with self._lock:
            self._by_id.pop(pending.operation.operation_id, None)
            pending.operation.ParseFromString(row.request)
            pending.state = row.state
            pending.edge = row.edge
            pending.connection = EARLIER_PROCESS
            self._by_id[row.operation_id] = pending
        # Read after the operation can be found: a result that came before is in the row.
        stored = self._records.stored_result(row.operation_id)
        if stored is not None:
            self._leave(pending, stored)
        log.info("operation taken up again", extra=pending.log_fields(state=row.state.value))

    def _await(self, pending: PendingOperation, until: float) -> bool:
        """Wait for the result; False when ``until`` has passed."""
        with self._lock:
            while pending.result is None and not self._stopping:
                remaining = until - self._clock.time()
                if remaining <= 0:
                    return False
                self._clock.wait(pending.ended, remaining)
        return True

    def _outcome(self, pending: PendingOperation) -> operations_pb2.OperationResult:
        if pending.result is not None:
            return pending.result
        return faults.stopping(pending.operation)

    def _give_up(
        self, pending: PendingOperation, *, online: bool
    ) -> operations_pb2.OperationResult:
        """A timeout to the caller. What became of the operation is settled later."""
        if online and pending.orphaned:
            self._settler.check(pending)
        result = faults.timed_out(pending.operation, pending.edge, online=online)
        with self._lock:
            if pending.result is not None:
                return pending.result
            pending.result = result
            pending.state = OperationState.UNKNOWN
            pending.ended.notify_all()
        log.warning("operation not settled in time", extra=pending.log_fields())
        if pending.durable:
            self._records.unknown(result, pending.edge)
        self._forget(pending)
        return result

    # Sending, also asked for by the settler

    def send(self, pending: PendingOperation) -> None:
        """Hand an operation to the edge's stream. Raises ``EdgeOfflineError``."""
        with self._lock:
            pending.connection = self._connections.get(pending.vcenter_uuid, 0)
            pending.state = OperationState.PENDING
        edge = self._dispatcher.send(pending.vcenter_uuid, pending.operation)
        with self._lock:
            pending.edge = edge
            if pending.state is OperationState.PENDING:
                pending.state = OperationState.SENT
        self._note(pending)

    def under_way(self) -> frozenset[str]:
        """The ids of operations that somebody here waits for."""
        with self._lock:
            return frozenset(self._by_id)

    def lost(
        self, vcenter_uuid: str, number: int, named: Collection[str]
    ) -> list[PendingOperation]:
        """What was sent before connection ``number`` and is not ``named`` by the edge."""
        lost = []
        with self._lock:
            for pending in self._by_id.values():
                if pending.vcenter_uuid != vcenter_uuid or not pending.sent_before(number):
                    continue
                if pending.operation.operation_id in named:
                    pending.connection = number
                    pending.state = OperationState.ACCEPTED
                else:
                    lost.append(pending)
        return lost

    def unowned(self, row: OperationRow) -> PendingOperation:
        """The operation of an open row that nobody waits for."""
        return from_row(row, self._lock)

    def current(self, vcenter_uuid: str, number: int) -> bool:
        """Whether a connection of a vCenter's edge is the latest."""
        with self._lock:
            return not self._stopping and self._connections.get(vcenter_uuid, 0) == number

    def _offline(self, pending: PendingOperation, error: EdgeOfflineError) -> None:
        again = self._defers and pending.recorded_delete
        result = faults.edge_offline(pending.operation, str(error), deferred=again)
        if pending.cleanup:
            self._leave(pending, result)
        else:
            self.finish(pending, result)

    def _note(self, pending: PendingOperation) -> None:
        if pending.durable:
            self._journal.note(
                Mark(
                    pending.operation.operation_id,
                    pending.state,
                    pending.edge,
                    pending.operation.fencing_epoch,
                )
            )

    # What edges report

    def accepted(self, edge_name: str, accepted: operations_pb2.OperationAccepted) -> None:
        """Note that the edge has accepted an operation."""
        self._advance(edge_name, accepted.operation_id)

    def progress(self, edge_name: str, progress: operations_pb2.OperationProgress) -> None:
        """Note that an operation is under way."""
        self._advance(edge_name, progress.operation_id)
        log.debug(
            "operation under way",
            extra=fields(
                operation=progress.operation_id,
                percent=progress.percent,
                edge=edge_name,
                task=progress.task.value or None,
            ),
        )

    def _advance(self, edge_name: str, operation_id: str) -> None:
        with self._lock:
            pending = self._by_id.get(operation_id)
            if pending is None or pending.state is OperationState.ACCEPTED:
                return
            pending.state = OperationState.ACCEPTED
            pending.edge = edge_name
        self._note(pending)

    def completed(
        self, edge_name: str, result: operations_pb2.OperationResult
    ) -> Callable[[], None]:
        """Give a result to the waiting call at once, and return the function that stores it.

        The function raises ``StoreError``. Then the result must not be acknowledged, and the edge
        sends it again on its next connection.
        """
        return functools.partial(self._store, edge_name, result, self._complete(result))

    def _store(
        self,
        edge_name: str,
        result: operations_pb2.OperationResult,
        pending: PendingOperation | None,
    ) -> None:
        log.info(
            "operation ended",
            extra=fields(
                operation=result.operation_id,
                code=result.status.code,
                edge=edge_name,
                vcenter_ms=result.vcenter_time_us // 1000,
                error=result.status.message or None,
            ),
        )
        if pending is None or pending.durable:
            self._records.end(result, edge_name)
        # A repeated call may have come since.
        pending = pending or self._complete(result)
        if pending is not None:
            self._forget(pending)
            self._tell_pipeline(pending, result)

    def edge_connected(
        self,
        edge_name: str,
        vcenter_uuid: str,
        unsettled: Sequence[operations_pb2.OperationProgress],
    ) -> None:
        """Settle, from the settler's thread, what was under way when the link broke."""
        with self._lock:
            number = self._connections.get(vcenter_uuid, 0) + 1
            self._connections[vcenter_uuid] = number
            for pending in self._by_key.values():
                pending.ended.notify_all()
        named = frozenset(progress.operation_id for progress in unsettled)
        self._settler.edge_connected(edge_name, vcenter_uuid, number, named)

    # Ends

    def finish(self, pending: PendingOperation, result: operations_pb2.OperationResult) -> None:
        """End an operation with a result that was made on this side."""
        completed = self._complete(result)
        if pending.durable:
            self._records.end_if_possible(result, pending.edge)
        if completed is not None:
            self._forget(completed)
        self._tell_pipeline(pending, result)

    def _complete(self, result: operations_pb2.OperationResult) -> PendingOperation | None:
        """Wake whoever waits for this result."""
        with self._lock:
            pending = self._by_id.get(result.operation_id)
            if pending is not None and pending.result is None:
                pending.result = result
                pending.ended.notify_all()
            return pending

    def _leave(self, pending: PendingOperation, result: operations_pb2.OperationResult) -> None:
        """End the call and leave the row, if there is one, as it is."""
        self._complete(result)
        self._forget(pending)

    def _forget(self, pending: PendingOperation) -> None:
        with self._lock:
            self._by_id.pop(pending.operation.operation_id, None)
            self._by_key.pop(pending.operation.idempotency_key, None)

    def _tell_pipeline(
        self, pending: PendingOperation, result: operations_pb2.OperationResult
    ) -> None:
        if result.HasField("virtual_machine"):
            self._pipeline.observed(pending.vcenter_uuid, result.virtual_machine)
        if pending.durable:
            self._pipeline.reassert([pending.instance_uuid])
