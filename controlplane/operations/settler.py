"""Settles operations that were under way when a link or a process ended."""

import dataclasses
import logging
import threading
import uuid
from collections.abc import Collection, Sequence
from typing import Protocol

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.domain.errors import EdgeOfflineError
from controlplane.operations import faults, settlement
from controlplane.operations.clock import Clock
from controlplane.operations.pending import PendingOperation, Request
from controlplane.operations.settlement import SettlementStep
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger(__name__)

PROBE_SECONDS = 15.0
"""How long a question about a virtual machine's state may take."""
CLEANUP_SECONDS = 600.0
"""How long the destroy of a failed build's clone may take."""
RETRY = 30.0
"""Seconds until something that could not be settled is tried again on the same connection."""


class OperationsUnderWay(Protocol):
    """What the settler needs of the ledger."""

    def execute(self, request: Request) -> operations_pb2.OperationResult:
        """Run an operation to its end."""

    def send(self, pending: PendingOperation) -> None:
        """Hand an operation to the edge's stream. Raises ``EdgeOfflineError``."""

    def finish(self, pending: PendingOperation, result: operations_pb2.OperationResult) -> None:
        """End an operation."""

    def under_way(self) -> frozenset[str]:
        """Ids of operations that somebody waits for."""

    def lost(
        self, vcenter_uuid: str, number: int, named: Collection[str]
    ) -> list[PendingOperation]:
        """What was sent before a connection and is not named by the edge."""

    def unowned(self, row: OperationRow) -> PendingOperation:
        """The operation of a row that nobody waits for."""

    def current(self, vcenter_uuid: str, number: int) -> bool:
        """Whether a connection is the latest."""


@dataclasses.dataclass(slots=True)
class _Return:
    """The return of an edge."""

    due: float
    edge: str
    vcenter_uuid: str
    number: int
    named: frozenset[str]
    connected_at: float
    handled: set[str] = dataclasses.field(default_factory=set)


class Settler:
    """A thread with a queue of edges that came back."""

    def __init__(
        self,
        ledger: OperationsUnderWay,
        database: Database,
        monitor: ThreadMonitor,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._clock = clock
        self._changed = threading.Condition()
        self._returns: list[_Return] = []
        self._thread = BackgroundThread("ledger-settler", self._step, monitor, wake=self._wake)

    def start(self) -> None:
        """Begin to settle."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not settled by then is settled when the edge comes back the next time."""
        self._thread.stop()

    def edge_connected(
        self, edge: str, vcenter_uuid: str, number: int, named: frozenset[str]
    ) -> None:
        """Queue the settlement after connection ``number``; ``named`` is what the edge knows."""
        now = self._clock.time()
        self._queue(_Return(now, edge, vcenter_uuid, number, named, now))

    def check(self, pending: PendingOperation) -> bool:
        """Ask vCenter what became of an operation that the edge does not know; end it if clear."""
        result = settlement.verdict(pending, self._probe(pending))
        if result is not None:
            self._ledger.finish(pending, result)
        return result is not None

    def _queue(self, returned: _Return) -> None:
        with self._changed:
            self._returns.append(returned)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self) -> None:
        returned = self._next()
        if returned is not None and self._ledger.current(returned.vcenter_uuid, returned.number):
            self._settle(returned)

    def _next(self) -> _Return | None:
        """Wait for a settlement that is due; None when the thread is to end."""
        with self._changed:
            while not self._thread.stopping.is_set():
                now = self._clock.time()
                due = [one for one in self._returns if one.due <= now]
                if due:
                    self._returns.remove(due[0])
                    return due[0]
                soonest = min((one.due - now for one in self._returns), default=3600.0)
                self._clock.wait(self._changed, soonest)
        return None

    def _settle(self, returned: _Return) -> None:
        """Settle what can be; the rest is queued again, also when an error is unexpected."""
        complete = False
        try:
            unowned = self._unowned(returned)
            lost = self._ledger.lost(returned.vcenter_uuid, returned.number, returned.named)
            complete = self._settle_each([*lost, *unowned], returned)
        except DatabaseUnavailableError as error:
            log.warning(
                "operations not settled, trying again",
                extra=fields(edge=returned.edge, error=error),
            )
        finally:
            if not complete:
                returned.due = self._clock.time() + RETRY
                self._queue(returned)

    def _settle_each(self, lost: Sequence[PendingOperation], returned: _Return) -> bool:
        """Whether all are settled. An unexpected error of one is raised after the others."""
        complete, unexpected = True, None
        for pending in lost:
            try:
                complete &= self._settled(pending, returned)
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - raised below, for the thread's boundary
                unexpected = error
        if unexpected is not None:
            raise unexpected
        return complete

    def _unowned(self, returned: _Return) -> list[PendingOperation]:
        """The open rows of earlier processes and of callers who gave up."""
        under_way = self._ledger.under_way()
        with self._database.read() as connection:
            rows = store.open_rows(connection, returned.vcenter_uuid)
        before = naive_utc(returned.connected_at)
        aside = under_way | self._ledger.under_way() | returned.named
        return [
            self._ledger.unowned(row)
            for row in rows
            if row.operation_id not in aside and row.created_at <= before
        ]

    def _settled(self, pending: PendingOperation, returned: _Return) -> bool:
        """Settle one operation; False when it has to be tried again."""
        operation_id = pending.operation.operation_id
        if operation_id in returned.handled or pending.orphaned:
            return True
        step = settlement.step(pending, self._clock.time(), returned.edge)
        log.info("operation lost with the link", extra=pending.log_fields(step=step.value))
        try:
            settled = self._take(step, pending)
        except EdgeOfflineError:
            return True  # the next connection settles it
        if settled:
            returned.handled.add(operation_id)
        return settled

    def _take(self, step: SettlementStep, pending: PendingOperation) -> bool:
        if step is SettlementStep.SEND_AGAIN:
            self._send_again(pending)
            return True
        if step is SettlementStep.CHECK:
            return self.check(pending)
        result = settlement.verdict(pending, self._probe(pending))
        if result is None:
            return False
        if faults.fault_of(result) is None:
            self._ledger.finish(pending, result)
        elif step is SettlementStep.CHECK_THEN_SEND:
            self._send_again(pending)
        else:
            pending.orphaned = True
        return True

    def _send_again(self, pending: PendingOperation) -> None:
        now = self._clock.time()
        if pending.cleanup and pending.deadline <= now:
            pending.operation.deadline.FromNanoseconds(int((now + CLEANUP_SECONDS) * 1e9))
        self._ledger.send(pending)

    def _probe(self, pending: PendingOperation) -> operations_pb2.OperationResult:
        question = operations_pb2.Operation(
            idempotency_key=str(uuid.uuid4()),
            request_id=pending.operation.request_id,
            cluster=pending.operation.cluster,
            target=settlement.target(pending.operation),
            get_state=operations_pb2.GetState(),
        )
        question.deadline.FromNanoseconds(int((self._clock.time() + PROBE_SECONDS) * 1e9))
        return self._ledger.execute(
            Request(
                operation=question,
                vcenter_uuid=pending.vcenter_uuid,
                instance_uuid=pending.instance_uuid,
            )
        )
