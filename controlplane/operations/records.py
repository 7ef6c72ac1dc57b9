"""The ledger's rows: written before an operation begins and when it ends, and read by others."""

import logging
from collections.abc import Callable, Sequence

from common.log_fields import fields
from common.timestamps import naive_utc, unix_seconds
from controlplane.domain.ports import RecordedDelete
from controlplane.operations import faults
from controlplane.operations.clock import Clock
from controlplane.operations.pending import PendingOperation, Request, to_row
from controlplane.store.database import Connection, Database
from controlplane.store.errors import RowRejectedError, StoreError
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow, OperationState
from vsphere_gateway.v1 import diagnostics_pb2, operations_pb2

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 50
GREATEST_LIMIT = 10_000

NEVER_SENT = (
    operations_pb2.FAULT_REASON_EDGE_OFFLINE,
    operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE,
)

AWAY = (
    operations_pb2.FAULT_REASON_EDGE_OFFLINE,
    operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
    operations_pb2.FAULT_REASON_LEASE_LOST,
    operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN,
)
"""Faults that say nothing about the operation itself: vCenter could not be reached in time."""
_FINAL = (OperationState.DONE, OperationState.FAILED)


class OperationRecords:
    """The rows of operations as they begin and end. Raises ``StoreError``."""

    def __init__(
        self, database: Database, clock: Clock, deferred: Callable[[], None] | None = None
    ) -> None:
        """``deferred`` is called when a delete did not reach vCenter; without it that failed."""
        self._database = database
        self._clock = clock
        self._deferred = deferred

    def begin(self, pending: PendingOperation, request: Request) -> OperationRow | None:
        """Record an operation; return the row that has its key already, if there is one."""
        row = to_row(pending, request, self._clock.time())
        try:
            self._database.run(lambda connection: store.insert(connection, row))
        except RowRejectedError:
            with self._database.read() as connection:
                earlier = store.by_key(connection, row.idempotency_key)
            if earlier is None:
                raise
            return earlier
        return None

    def stored_result(self, operation_id: str) -> operations_pb2.OperationResult | None:
        """How an operation ended, or what its caller was told."""
        with self._database.read() as connection:
            row = store.get(connection, operation_id)
        if row is None or row.result is None:
            return None
        return operations_pb2.OperationResult.FromString(row.result)

    def cloned_here(self, instance_uuid: str) -> bool:
        """Whether an operation of ours may have made the virtual machine of a server."""
        with self._database.read() as connection:
            return store.cloned_here(connection, instance_uuid, NEVER_SENT)

    def end(self, result: operations_pb2.OperationResult, edge: str) -> None:
        """Record how an operation ended."""
        failed = faults.fault_of(result) is not None
        self._finish(OperationState.FAILED if failed else OperationState.DONE, result, edge)

    def end_if_possible(self, result: operations_pb2.OperationResult, edge: str) -> None:
        """Record an outcome that was found on this side; if that fails, it is found again."""
        try:
            self.end(result, edge)
        except StoreError as error:
            log.error(
                "outcome not stored", extra=fields(operation=result.operation_id, error=error)
            )

    def unknown(self, result: operations_pb2.OperationResult, edge: str) -> None:
        """Record that the caller was told that the time is up."""
        try:
            self._finish(OperationState.UNKNOWN, result, edge)
        except StoreError as error:
            log.error(
                "outcome not stored", extra=fields(operation=result.operation_id, error=error)
            )

    def _finish(
        self, state: OperationState, result: operations_pb2.OperationResult, edge: str
    ) -> None:
        """Write the end; what a delete comes to ends the earlier ones that were deferred too."""
        fault = faults.fault_of(result)
        reason = fault.reason if fault else 0
        now = naive_utc(self._clock.time())

        def write(connection: Connection) -> OperationState:
            row = store.get(connection, result.operation_id)
            delete = row is not None and row.action == "destroy" and row.recorded_delete
            away = state is OperationState.FAILED and reason in AWAY
            deferred = delete and away and self._deferred is not None
            final = OperationState.DEFERRED if deferred else state
            ended = store.finish(
                connection,
                result.operation_id,
                final,
                None if deferred else now,
                fault=reason,
                error=result.status.message,
                edge=edge,
                result=result.SerializeToString(),
            )
            if ended and row is not None and delete and final in _FINAL:
                error = f"asked again: {result.status.message}" if fault else ""
                store.settle_deferred(connection, row.instance_uuid, final, now, error)
            return final

        if self._database.run(write) is OperationState.DEFERRED and self._deferred is not None:
            self._deferred()


class OperationHistory:
    """Reads the ledger's rows. Implements ``RecordedDeletes``.

    Raises ``controlplane.store.errors.StoreError`` when the database is not available, which must
    not be taken for "no delete is recorded".
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def delete_recorded(self, instance_uuid: str) -> bool:
        """Whether a delete of this server is recorded that was not refused."""
        return instance_uuid in self.deletes_recorded([instance_uuid])

    def deletes_recorded(self, instance_uuids: Sequence[str]) -> dict[str, RecordedDelete]:
        """The same in bulk, with what became of them; servers without one are left out."""
        with self._database.read() as connection:
            rows = store.deletes(connection, instance_uuids)
        return {
            row.instance_uuid: RecordedDelete(
                state=row.state.value,
                recorded_at=unix_seconds(row.created_at),
                finished_at=unix_seconds(row.finished_at) if row.finished_at else 0.0,
            )
            for row in rows
        }

    def recent(self, limit: int = 0) -> list[diagnostics_pb2.OperationStatus]:
        """The latest operations, newest first; 0 means 50 of them."""
        count = min(limit or DEFAULT_LIMIT, GREATEST_LIMIT)
        with self._database.read() as connection:
            return [_status(row) for row in store.recent(connection, count)]


def _status(row: OperationRow) -> diagnostics_pb2.OperationStatus:
    status = diagnostics_pb2.OperationStatus(
        operation_id=row.operation_id,
        action=row.action,
        instance_uuid=row.instance_uuid,
        compute_host=row.compute_host,
        state=row.state.value,
        error=row.error,
        request_id=row.request_id,
        edge=row.edge,
    )
    status.created_at.FromDatetime(row.created_at)
    if row.finished_at is not None:
        status.finished_at.FromDatetime(row.finished_at)
    return status
