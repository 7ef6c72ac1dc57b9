"""Accepts each operation once, runs it, and keeps its result until it is acknowledged.

docs/concepts/sync-protocol.md, "Lease" and "Operations", specifies what it promises.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from google.rpc import code_pb2, status_pb2

from common.background import ThreadMonitor
from common.log_fields import fields
from edge.control_messages import ControlMessages
from edge.interfaces import ObservedStates
from edge.operations.pool import WorkerPool
from edge.operations.records import OperationRecord, OperationRecords
from edge.operations.status import is_expected, reason_name, status_of
from edge.vcenter.operations.control import OperationControl, OperationOutcome, Reference
from edge.vcenter.operations.dispatch import READS
from edge.vcenter.operations.errors import LeaseLostError, NotTakenOnError
from vsphere_gateway.v1 import link_pb2, operations_pb2

LOG = logging.getLogger("edge.operations")

PARALLEL: Final = 32
"""Most operations that run at a time; vCenter queues more than some hundred tasks itself."""
PARALLEL_READS: Final = 4
"""Threads for operations that change nothing, so that they never wait for a long task."""
UNSETTLED: Final = 2000
"""Most operations that run or wait for their acknowledgement."""
REMEMBERED: Final = 2000
"""Acknowledged results that still answer a repeated key."""
DEFAULT_SECONDS: Final = 1800.0
"""Deadline of an operation that came without one."""


class Operations(Protocol):
    """What runs an operation on vCenter (``edge.vcenter.operations.dispatch``)."""

    def run(
        self, operation: operations_pb2.Operation, control: OperationControl
    ) -> OperationOutcome:
        """Run it to its end. Raises ``OperationError`` or ``VCenterError``."""


class OperationExecutor:
    """The edge's ``OperationRunner`` (edge/interfaces.py). Any thread may call it."""

    def __init__(
        self,
        operations: Operations,
        states: ObservedStates,
        messages: ControlMessages,
        monitor: ThreadMonitor,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` is the wall clock of deadlines, ``clock`` a monotonic one."""
        self._operations = operations
        self._states = states
        self._now = now
        self._clock = clock
        self._lock = threading.Condition()
        self._records = OperationRecords(REMEMBERED)
        self._messages = messages
        self._workers = WorkerPool("operation", PARALLEL, monitor)
        self._readers = WorkerPool("operation-read", PARALLEL_READS, monitor)
        self._lease = link_pb2.Lease()
        self._draining = False
        self._closing = False

    def submit(self, operation: operations_pb2.Operation) -> None:
        """Accept an operation; never blocks on vCenter. A known key repeats its result."""
        with self._lock:
            known = self._records.find(operation)
            if known is not None:
                self._repeat(known, operation)
                return
            record = self._record(operation)
            if len(self._records) >= UNSETTLED:
                # The refusal cannot be kept either: it is sent once, and the ledger may ask again.
                error = NotTakenOnError(f"{UNSETTLED} operations wait for acknowledgement")
                self._messages.result(self._result(record, status_of(error)))
                return
            self._records.add(record)
        try:
            self._require_permission(operation, refused=self._draining)
        except (LeaseLostError, NotTakenOnError) as error:
            self._finish(record, self._result(record, status_of(error)))
            return
        LOG.info("operation accepted", extra=fields(**_facts(operation)))
        self._messages.accepted(operation.operation_id)
        if operation.WhichOneof("action") in READS:
            self._readers.submit("", lambda: self._run(record))
        else:
            self._workers.submit(_machine_key(operation), lambda: self._run(record))

    def cancel(self, cancel: operations_pb2.CancelOperation) -> None:
        """Stop an operation if that is still possible; its result says what became of it."""
        with self._lock:
            record = self._records.get(cancel.operation_id)
        if record is None or record.result is not None:
            return
        facts = fields(**_facts(record.operation), reason=cancel.reason)
        LOG.info("operation is being cancelled", extra=facts)
        record.control.cancel(cancel.reason)

    def acknowledged(self, operation_id: str) -> None:
        """The control plane has stored a result."""
        with self._lock:
            record = self._records.get(operation_id)
            if record is not None and record.result is not None:
                self._records.acknowledge(record)
                self._lock.notify_all()

    def lease_changed(self, lease: link_pb2.Lease) -> None:
        """Note whether operations may begin, and with which fencing epoch."""
        with self._lock:
            self._lease = lease

    def unsettled(self) -> list[operations_pb2.OperationProgress]:
        """Operations that run or whose results are not yet acknowledged."""
        with self._lock:
            return [record.progress for record in self._records.unsettled()]

    def replay(self) -> None:
        """After a reconnect: queue every unacknowledged result again; a drain is over."""
        with self._lock:
            self._draining = self._closing
            results = [record.result for record in self._records.unsettled() if record.result]
            self._messages.replay(results)

    def drain(self, timeout: float) -> bool:
        """Accept nothing new and wait until all results are acknowledged.

        False when ``timeout`` seconds passed.
        """
        with self._lock:
            self._draining = True
            return self._lock.wait_for(lambda: not len(self._records), timeout)

    def close(self, timeout: float) -> bool:
        """Begin nothing more and wait for what runs; False when ``timeout`` seconds passed."""
        end = self._clock() + timeout
        with self._lock:
            self._draining = self._closing = True
            waiting = [each for each in self._records.unsettled() if each.result is None]
        LOG.info("executor stops", extra=fields(running=len(waiting)))
        ended = self._workers.stop(max(0.0, end - self._clock()))
        return self._readers.stop(max(0.0, end - self._clock())) and ended

    def _record(self, operation: operations_pb2.Operation) -> OperationRecord:
        seconds = DEFAULT_SECONDS
        if operation.HasField("deadline"):
            seconds = operation.deadline.ToNanoseconds() / 1e9 - self._now()
        accepted_at = self._clock()
        record = OperationRecord(
            operation=operation,
            control=OperationControl(
                accepted_at + seconds,
                lambda percent, task: self._progress(record, percent, task),
                self._clock,
            ),
            accepted_at=accepted_at,
            progress=operations_pb2.OperationProgress(
                operation_id=operation.operation_id, idempotency_key=operation.idempotency_key
            ),
        )
        return record

    def _repeat(self, known: OperationRecord, operation: operations_pb2.Operation) -> None:
        """Answer a key that was seen before. Called with the lock held."""
        LOG.info("operation is known and not run again", extra=fields(**_facts(operation)))
        self._records.repeat(known, operation.operation_id)
        if known.result is None:
            self._messages.accepted(operation.operation_id)
            return
        result = operations_pb2.OperationResult()
        result.CopyFrom(known.result)
        result.operation_id = operation.operation_id
        self._messages.result(result)

    def _require_permission(self, operation: operations_pb2.Operation, refused: bool) -> None:
        with self._lock:
            lease = self._lease
        if refused:
            raise NotTakenOnError("the edge is about to stop or to reconnect")
        if not lease.held or operation.fencing_epoch < lease.fencing_epoch:
            raise LeaseLostError(
                f"the operation carries fencing epoch {operation.fencing_epoch}; the lease is at"
                f" {lease.fencing_epoch}, held by {lease.holder or 'nobody'}"
            )

    def _run(self, record: OperationRecord) -> None:
        """Run one operation on a worker's thread."""
        operation = record.operation
        try:
            self._require_permission(operation, refused=self._closing)
            record.control.check()
            result = self._succeeded(record, self._operations.run(operation, record.control))
        except Exception as error:  # the boundary of the worker's thread
            result = self._result(record, status_of(error))
            if not is_expected(error):
                LOG.exception("operation failed unexpectedly", extra=fields(**_facts(operation)))
        self._finish(record, result)

    def _succeeded(
        self, record: OperationRecord, outcome: OperationOutcome
    ) -> operations_pb2.OperationResult:
        result = self._result(record, status_pb2.Status(code=code_pb2.OK))
        if outcome.virtual_machine is not None:
            result.virtual_machine.CopyFrom(self._states.observed(outcome.virtual_machine))
        if outcome.diagnostics is not None:
            result.diagnostics.CopyFrom(outcome.diagnostics)
        return result

    def _result(
        self, record: OperationRecord, status: status_pb2.Status
    ) -> operations_pb2.OperationResult:
        ended_at = record.control.task_ended_at
        seconds = 0.0 if ended_at is None else ended_at - record.accepted_at
        return operations_pb2.OperationResult(
            operation_id=record.operation.operation_id,
            idempotency_key=record.operation.idempotency_key,
            status=status,
            vcenter_time_us=int(seconds * 1e6),
        )

    def _finish(self, record: OperationRecord, result: operations_pb2.OperationResult) -> None:
        with self._lock:
            record.result = result
            record.progress.percent = 100
            self._messages.result(result)
        facts = fields(
            **_facts(record.operation),
            reason=reason_name(result.status),
            seconds=round(self._clock() - record.accepted_at, 4),
            vcenter_seconds=round(result.vcenter_time_us / 1e6, 4),
            error=result.status.message if result.status.code else None,
        )
        LOG.info("operation ended", extra=facts)

    def _progress(self, record: OperationRecord, percent: int, task: Reference | None) -> None:
        progress = operations_pb2.OperationProgress(
            operation_id=record.operation.operation_id,
            idempotency_key=record.operation.idempotency_key,
            percent=percent,
            task=task,
        )
        with self._lock:
            record.progress = progress
            self._messages.progress(progress)


def _machine_key(operation: operations_pb2.Operation) -> str:
    """Key by which operations on the same virtual machine run one after the other."""
    clone = operation.clone_virtual_machine.instance_uuid
    return (clone or operation.target.instance_uuid).lower()


def _facts(operation: operations_pb2.Operation) -> dict[str, object]:
    """Fields of every log line about an operation."""
    return {
        "operation": operation.operation_id,
        "action": operation.WhichOneof("action") or "unknown",
        "request": operation.request_id or None,
        "cluster": operation.cluster.value,
        "instance": _machine_key(operation),
    }
