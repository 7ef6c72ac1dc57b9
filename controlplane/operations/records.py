"""What the ledger writes while somebody waits: one row before, one update after."""

import logging
from collections.abc import Callable

from common.timestamps import naive_utc
from controlplane.operations import faults
from controlplane.operations.clock import Clock
from controlplane.operations.pending import PendingOperation, Request, to_row
from controlplane.store.database import Connection, Database
from controlplane.store.errors import RowRejectedError, StoreError
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow, OperationState
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger("controlplane.operations.records")

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
"""Faults that say nothing about the operation itself: vCenter could not be reached, or not in time.
"""
_FINAL = (OperationState.DONE, OperationState.FAILED)


class OperationRecords:
    """The rows of operations as they begin and end. Raises ``StoreError``."""

    def __init__(
        self, database: Database, clock: Clock, postponed: Callable[[], None] | None = None
    ) -> None:
        """``postponed`` is told of a delete that vCenter could not be asked for.

        It is remembered then, and otherwise has failed.
        """
        self._database = database
        self._clock = clock
        self._postponed = postponed

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
        """Return how an operation ended, or what its caller was told."""
        with self._database.read() as connection:
            row = store.get(connection, operation_id)
        if row is None or row.result is None:
            return None
        return operations_pb2.OperationResult.FromString(row.result)

    def cloned_here(self, instance_uuid: str) -> bool:
        """Tell whether an operation of ours may have made the virtual machine of a server."""
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
            log.error("outcome not stored operation=%s error=%s", result.operation_id, error)

    def unknown(self, result: operations_pb2.OperationResult, edge: str) -> None:
        """Record that the caller was told that the time is up."""
        try:
            self._finish(OperationState.UNKNOWN, result, edge)
        except StoreError as error:
            log.error("outcome not stored operation=%s error=%s", result.operation_id, error)

    def _finish(
        self, state: OperationState, result: operations_pb2.OperationResult, edge: str
    ) -> None:
        """Write the end; what a delete comes to ends the earlier ones that were postponed too."""
        fault = faults.fault_of(result)
        reason = fault.reason if fault else 0
        now = naive_utc(self._clock.time())

        def write(connection: Connection) -> OperationState:
            row = store.get(connection, result.operation_id)
            delete = row is not None and row.action == "destroy" and row.recorded_delete
            away = state is OperationState.FAILED and reason in AWAY
            postponed = delete and away and self._postponed is not None
            final = OperationState.POSTPONED if postponed else state
            ended = store.finish(
                connection,
                result.operation_id,
                final,
                None if postponed else now,
                fault=reason,
                error=result.status.message,
                edge=edge,
                result=result.SerializeToString(),
            )
            if ended and row is not None and delete and final in _FINAL:
                error = f"asked again: {result.status.message}" if fault else ""
                store.settle_postponed(connection, row.instance_uuid, final, now, error)
            return final

        if self._database.run(write) is OperationState.POSTPONED and self._postponed is not None:
            self._postponed()
