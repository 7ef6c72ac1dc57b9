"""An operation that a caller waits for."""

import dataclasses
import threading

from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.store.own.operations import OperationRow, OperationState
from vsphere_gateway.v1 import operations_pb2

READS = frozenset({"get_state", "get_diagnostics"})
"""Actions that change nothing: no row is written for them."""

EARLIER_PROCESS = 0
"""The number of any connection that an earlier process had; this one counts from 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One operation as Nova asks for it."""

    operation: operations_pb2.Operation
    """Without `operation_id` and `fencing_epoch`; the rest is filled in."""
    vcenter_uuid: str
    instance_uuid: str
    """The Nova UUID."""
    compute_host: str = ""
    project_id: str = ""
    user_id: str = ""
    recorded_delete: bool = False
    """Destroy only: a person asked Nova to delete the server."""


@dataclasses.dataclass(slots=True, eq=False)
class PendingOperation:
    """One operation under way. Guarded by the ledger's lock, on which ``ended`` is a condition."""

    operation: operations_pb2.Operation
    vcenter_uuid: str
    instance_uuid: str
    ended: threading.Condition
    cleanup: bool = False
    """The destroy of a clone whose build failed: no user ever had the server."""
    state: OperationState = OperationState.PENDING
    edge: str = ""
    connection: int | None = None
    """On which connection of the vCenter's edge it was sent; None before it was."""
    orphaned: bool = False
    """The edge no longer knows it, but its task in vCenter may still run."""
    result: operations_pb2.OperationResult | None = None

    @property
    def action(self) -> str:
        """The name of the action, for example `power_off`."""
        return action_of(self.operation)

    @property
    def durable(self) -> bool:
        """Whether the operation has a row."""
        return self.action not in READS

    @property
    def recorded_delete(self) -> bool:
        """Whether a person asked Nova for this destroy."""
        return self.action == "destroy" and not self.cleanup

    @property
    def deadline(self) -> float:
        """When the caller stops waiting: Unix time in seconds."""
        return self.operation.deadline.ToNanoseconds() / 1e9

    def sent_before(self, connection: int) -> bool:
        """Whether it was sent on an earlier connection."""
        return self.connection is not None and self.connection < connection

    def log_fields(self, **more: object) -> dict[str, object]:
        """Build the fields that identify the operation in a log line."""
        return fields(
            operation=self.operation.operation_id,
            action=self.action,
            instance=self.instance_uuid,
            cluster=self.operation.cluster.value,
            edge=self.edge or None,
            request=self.operation.request_id or None,
            **more,
        )


def action_of(operation: operations_pb2.Operation) -> str:
    """The name of the action, empty if none is set."""
    return operation.WhichOneof("action") or ""


def to_row(pending: PendingOperation, request: Request, now: float) -> OperationRow:
    """The row of an operation that is about to begin."""
    return OperationRow(
        operation_id=pending.operation.operation_id,
        idempotency_key=pending.operation.idempotency_key,
        action=pending.action,
        instance_uuid=pending.instance_uuid,
        vcenter_uuid=pending.vcenter_uuid,
        cluster=pending.operation.cluster.value,
        compute_host=request.compute_host,
        request_id=pending.operation.request_id,
        project_id=request.project_id,
        user_id=request.user_id,
        recorded_delete=request.recorded_delete,
        state=OperationState.PENDING,
        deadline=naive_utc(pending.deadline),
        created_at=naive_utc(now),
        request=pending.operation.SerializeToString(),
    )


def from_row(row: OperationRow, lock: threading.Lock) -> PendingOperation:
    """The operation of a row that an earlier caller, or process, left open."""
    return PendingOperation(
        operation=operations_pb2.Operation.FromString(row.request),
        vcenter_uuid=row.vcenter_uuid,
        instance_uuid=row.instance_uuid,
        ended=threading.Condition(lock),
        connection=EARLIER_PROCESS,
        cleanup=row.action == "destroy" and not row.recorded_delete,
        state=row.state,
        edge=row.edge,
    )
