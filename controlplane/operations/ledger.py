"""Runs operations: recorded, sent to the edge, waited for, settled. One row an operation.

An operation is recorded before it is sent, so whatever happens in vCenter on our account can be
found here afterwards; above all, no virtual machine is destroyed without a row that says who asked.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Collection, Sequence

from controlplane.domain.errors import EdgeOfflineError
from controlplane.domain.ports import EdgeDispatcher, InventoryPipeline
from controlplane.operations import faults
from controlplane.operations.clock import Clock, SystemClock
from controlplane.operations.journal import Journal
from controlplane.operations.pending import EARLIER_PROCESS, Flight, Request, from_row
from controlplane.operations.records import OperationRecords
from controlplane.operations.settler import Settler
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own.operations import Mark, OperationRow, OperationState
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger("controlplane.operations.ledger")

RESULT_GRACE = 5.0
"""Seconds after the deadline for the edge, which keeps the same one, to say how it ended."""


class Ledger:
    """Implements ``OperationEvents``. Every method may be called from any thread."""

    def __init__(
        self,
        database: Database,
        dispatcher: EdgeDispatcher,
        pipeline: InventoryPipeline,
        clock: Clock | None = None,
        postponed: Callable[[], None] | None = None,
    ) -> None:
        """``postponed`` is told of every delete to be asked for again when the edge is back.

        Without it a delete that finds the edge away has failed for good.
        """
        self._dispatcher = dispatcher
        self._postpones = postponed is not None
        self._pipeline = pipeline
        self._clock = clock or SystemClock()
        self._records = OperationRecords(database, self._clock, postponed)
        self._journal = Journal(database, self._clock)
        self._settler = Settler(self, database, self._clock)
        self._lock = threading.Lock()
        self._by_key: dict[str, Flight] = {}
        self._by_id: dict[str, Flight] = {}
        self._connections: dict[str, int] = {}
        self._stopping = False

    def start(self) -> None:
        """Begin to write marks and to settle."""
        self._journal.start()
        self._settler.start()

    def stop(self) -> None:
        """Wake every caller with an error after which it asks again; then end the threads."""
        with self._lock:
            self._stopping = True
            for flight in self._by_key.values():
                flight.ended.notify_all()
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
        flight, first = self._enter(request)
        if first and not self._stopping:
            self._begin(flight, request)
        if self._await(flight, flight.deadline):
            return self._outcome(flight)
        self._dispatcher.cancel(
            flight.vcenter_uuid, flight.operation.operation_id, "the deadline has passed"
        )
        online = self._dispatcher.online(flight.vcenter_uuid)
        grace = RESULT_GRACE if online and flight.durable else 0.0
        if grace and self._await(flight, flight.deadline + grace):
            return self._outcome(flight)
        return self._give_up(flight, online=online)

    def _enter(self, request: Request) -> tuple[Flight, bool]:
        """Return the operation with this key, and whether this caller is the first."""
        operation = operations_pb2.Operation()
        operation.CopyFrom(request.operation)
        with self._lock:
            known = self._by_key.get(operation.idempotency_key)
            if known is not None:
                return known, False
            operation.operation_id = str(uuid.uuid4())
            flight = Flight(
                operation=operation,
                vcenter_uuid=request.vcenter_uuid,
                instance_uuid=request.instance_uuid,
                ended=threading.Condition(self._lock),
                cleanup=operation.HasField("destroy") and not request.recorded_delete,
            )
            self._by_key[operation.idempotency_key] = flight
            self._by_id[operation.operation_id] = flight
        return flight, True

    def _begin(self, flight: Flight, request: Request) -> None:
        """Record the operation and send it."""
        try:
            if flight.cleanup and not self._records.cloned_here(flight.instance_uuid):
                self._leave(flight, faults.not_recorded(flight.operation))
                return
            earlier = self._records.begin(flight, request) if flight.durable else None
            if earlier is not None:
                self._take_up(flight, earlier)
                return
        except StoreError as error:
            log.error("operation not recorded %s error=%s", flight.description(), error)
            self._leave(flight, faults.no_ledger(flight.operation, str(error)))
            return
        self._dispatch(flight)

    def _dispatch(self, flight: Flight) -> None:
        """Send an operation; an edge that is likely to be back in a moment is waited for."""
        while not self._stopping:
            with self._lock:
                number = self._connections.get(flight.vcenter_uuid, 0)
            # Asked before it is sent: afterwards the edge may be back, and no longer expected.
            expected = self._dispatcher.expected(flight.vcenter_uuid) if flight.durable else 0.0
            until = min(self._clock.time() + expected, flight.deadline)
            try:
                self.send(flight)
            except EdgeOfflineError as error:
                if not self._await_edge(flight, number, until):
                    self._offline(flight, error)
                    return
            else:
                return

    def _await_edge(self, flight: Flight, number: int, until: float) -> bool:
        """Wait for a connection after ``number``; False when its edge is away for longer.

        True also when this process is about to end: the next one takes the row up again.
        """
        with self._lock:
            flight.connection = None
            while self._connections.get(flight.vcenter_uuid, 0) == number and not self._stopping:
                remaining = until - self._clock.time()
                if remaining <= 0:
                    return False
                self._clock.wait(flight.ended, remaining)
        return True

    def _take_up(self, flight: Flight, row: OperationRow) -> None:
        """Continue what an earlier process, or an earlier call, began under the same key."""
        with self._lock:
            self._by_id.pop(flight.operation.operation_id, None)
            flight.operation.ParseFromString(row.request)
            flight.state = row.state
            flight.edge = row.edge
            flight.connection = EARLIER_PROCESS
            self._by_id[row.operation_id] = flight
        # Read after the flight can be found: a result that came before is in the row.
        stored = self._records.stored_result(row.operation_id)
        if stored is not None:
            self._leave(flight, stored)
        log.info("operation taken up again state=%s %s", row.state.value, flight.description())

    def _await(self, flight: Flight, until: float) -> bool:
        """Wait for the end; False when the time is up."""
        with self._lock:
            while flight.result is None and not self._stopping:
                remaining = until - self._clock.time()
                if remaining <= 0:
                    return False
                self._clock.wait(flight.ended, remaining)
        return True

    def _outcome(self, flight: Flight) -> operations_pb2.OperationResult:
        if flight.result is not None:
            return flight.result
        return faults.stopping(flight.operation)

    def _give_up(self, flight: Flight, *, online: bool) -> operations_pb2.OperationResult:
        """Tell the caller that the time is up. What happened is settled later."""
        if online and flight.adrift:
            self._settler.check(flight)
        result = faults.timed_out(flight.operation, flight.edge, online=online)
        with self._lock:
            if flight.result is not None:
                return flight.result
            flight.result = result
            flight.state = OperationState.UNKNOWN
            flight.ended.notify_all()
        log.warning("operation not settled in time %s", flight.description())
        if flight.durable:
            self._records.unknown(result, flight.edge)
        self._forget(flight)
        return result

    # Sending, also asked for by the settler

    def send(self, flight: Flight) -> None:
        """Hand an operation to the edge's stream. Raises ``EdgeOfflineError``."""
        with self._lock:
            flight.connection = self._connections.get(flight.vcenter_uuid, 0)
            flight.state = OperationState.PENDING
        edge = self._dispatcher.send(flight.vcenter_uuid, flight.operation)
        with self._lock:
            flight.edge = edge
            if flight.state is OperationState.PENDING:
                flight.state = OperationState.SENT
        self._note(flight)

    def under_way(self) -> frozenset[str]:
        """Return the ids of operations that somebody here waits for."""
        with self._lock:
            return frozenset(self._by_id)

    def lost(self, vcenter_uuid: str, number: int, named: Collection[str]) -> list[Flight]:
        """Return what was sent before connection ``number`` and is not ``named`` by the edge."""
        lost = []
        with self._lock:
            for flight in self._by_id.values():
                if flight.vcenter_uuid != vcenter_uuid or not flight.sent_before(number):
                    continue
                if flight.operation.operation_id in named:
                    flight.connection = number
                    flight.state = OperationState.ACCEPTED
                else:
                    lost.append(flight)
        return lost

    def unowned(self, row: OperationRow) -> Flight:
        """Return the operation of an open row that nobody waits for."""
        return from_row(row, self._lock)

    def current(self, vcenter_uuid: str, number: int) -> bool:
        """Tell whether a connection of a vCenter's edge is the latest."""
        with self._lock:
            return not self._stopping and self._connections.get(vcenter_uuid, 0) == number

    def _offline(self, flight: Flight, error: EdgeOfflineError) -> None:
        again = self._postpones and flight.recorded_delete
        result = faults.edge_offline(flight.operation, str(error), postponed=again)
        if flight.cleanup:
            self._leave(flight, result)
        else:
            self.finish(flight, result)

    def _note(self, flight: Flight) -> None:
        if flight.durable:
            self._journal.note(
                Mark(
                    flight.operation.operation_id,
                    flight.state,
                    flight.edge,
                    flight.operation.fencing_epoch,
                )
            )

    # What edges report

    def accepted(self, edge_name: str, accepted: operations_pb2.OperationAccepted) -> None:
        """The edge has taken an operation on."""
        self._advance(edge_name, accepted.operation_id)

    def progress(self, edge_name: str, progress: operations_pb2.OperationProgress) -> None:
        """How far it is."""
        self._advance(edge_name, progress.operation_id)
        log.debug(
            "operation under way operation=%s percent=%d edge=%s task=%s",
            progress.operation_id,
            progress.percent,
            edge_name,
            progress.task.value or "-",
        )

    def _advance(self, edge_name: str, operation_id: str) -> None:
        with self._lock:
            flight = self._by_id.get(operation_id)
            if flight is None or flight.state is OperationState.ACCEPTED:
                return
            flight.state = OperationState.ACCEPTED
            flight.edge = edge_name
        self._note(flight)

    def landed(self, result: operations_pb2.OperationResult) -> None:
        """A terminal result has come: wake the caller, who need not wait until it is stored."""
        self._land(result)

    def result(self, edge_name: str, result: operations_pb2.OperationResult) -> None:
        """Take a terminal result: wake the caller, then store it.

        Raises ``StoreError`` when it could not be stored: it must not be acknowledged then, and the
        edge sends it again on its next connection.
        """
        flight = self._land(result)
        log.info(
            "operation ended operation=%s code=%d edge=%s vcenter_ms=%d message=%s",
            result.operation_id,
            result.status.code,
            edge_name,
            result.vcenter_time_us // 1000,
            result.status.message or "-",
        )
        if flight is None or flight.durable:
            self._records.end(result, edge_name)
        if flight is None:
            flight = self._land(result)  # a repeated call may have come meanwhile
        if flight is not None:
            self._forget(flight)
            self._tell_pipeline(flight, result)

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
            for flight in self._by_key.values():
                flight.ended.notify_all()
        named = frozenset(progress.operation_id for progress in unsettled)
        self._settler.edge_connected(edge_name, vcenter_uuid, number, named)

    # Ends

    def finish(self, flight: Flight, result: operations_pb2.OperationResult) -> None:
        """End an operation with a result that was made on this side."""
        landed = self._land(result)
        if flight.durable:
            self._records.end_if_possible(result, flight.edge)
        if landed is not None:
            self._forget(landed)
        self._tell_pipeline(flight, result)

    def _land(self, result: operations_pb2.OperationResult) -> Flight | None:
        """Wake whoever waits for this result."""
        with self._lock:
            flight = self._by_id.get(result.operation_id)
            if flight is not None and flight.result is None:
                flight.result = result
                flight.ended.notify_all()
            return flight

    def _leave(self, flight: Flight, result: operations_pb2.OperationResult) -> None:
        """End the call and leave the row, if there is one, as it is."""
        self._land(result)
        self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            self._by_id.pop(flight.operation.operation_id, None)
            self._by_key.pop(flight.operation.idempotency_key, None)

    def _tell_pipeline(self, flight: Flight, result: operations_pb2.OperationResult) -> None:
        if result.HasField("virtual_machine"):
            self._pipeline.observed(flight.vcenter_uuid, result.virtual_machine)
        if flight.durable:
            self._pipeline.reassert([flight.instance_uuid])
