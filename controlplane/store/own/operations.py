"""The ledger's rows: every operation that changes something in a vCenter."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import sqlalchemy
from sqlalchemy import Boolean, Column, Index, SmallInteger, String, Text, delete, select, update
from sqlalchemy.engine import Connection

from controlplane.store.own.schema import (
    BINARY_UTF8,
    BigInteger,
    Body,
    Time,
    Uuid,
    metadata,
    vcenters,
)

operations = sqlalchemy.Table(
    "operations",
    metadata,
    Column("operation_id", Uuid, primary_key=True),
    Column("idempotency_key", String(191), nullable=False),
    Column("action", String(32), nullable=False, comment="Operation.action, for example power_off"),
    Column("instance_uuid", Uuid, nullable=False, comment="The Nova UUID."),
    Column("vcenter_uuid", Uuid, nullable=False),
    Column("cluster", String(128), nullable=False, comment="moref"),
    Column("compute_host", String(255), nullable=False),
    Column("request_id", String(64), nullable=False, comment="OpenStack's"),
    Column("project_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("recorded_delete", Boolean, nullable=False, comment="A person asked for this destroy."),
    Column("state", String(16), nullable=False, comment="OperationState"),
    Column("fault", SmallInteger, nullable=False, comment="FaultReason, 0 if none"),
    Column("error", Text, nullable=False),
    Column("edge", String(255), nullable=False),
    Column("fencing_epoch", BigInteger, nullable=False),
    Column("deadline", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("finished_at", Time, nullable=True),
    Column("request", Body, nullable=False, comment="Operation, serialised"),
    Column("result", Body, nullable=True, comment="OperationResult, serialised"),
    sqlalchemy.UniqueConstraint("idempotency_key"),
    Index(None, "vcenter_uuid", "state"),
    Index(None, "instance_uuid", "action"),
    Index(None, "created_at"),
    **BINARY_UTF8,
)


class OperationState(Enum):
    """The state of an operation."""

    PENDING = "pending"
    """Recorded. It may have been sent: `sent` and `accepted` are noted a moment later."""
    SENT = "sent"
    """Handed to the edge's stream."""
    ACCEPTED = "accepted"
    """The edge has taken it on."""
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """The caller was told that the outcome is unknown; it is settled when the edge is back."""
    DEFERRED = "deferred"
    """A delete refused because the edge was offline; Nova is asked again when it is back."""


OPEN = (
    OperationState.PENDING,
    OperationState.SENT,
    OperationState.ACCEPTED,
    OperationState.UNKNOWN,
)
_REFUSED = (OperationState.FAILED, OperationState.DEFERRED)


_INSERT = sqlalchemy.insert(operations)
"""Built once: a request waits for this row, and to build it takes longer than to run it."""


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation."""

    operation_id: str
    idempotency_key: str
    action: str
    instance_uuid: str
    vcenter_uuid: str
    cluster: str
    compute_host: str
    request_id: str
    project_id: str
    user_id: str
    recorded_delete: bool
    state: OperationState
    deadline: datetime
    created_at: datetime
    request: bytes
    fault: int = 0
    error: str = ""
    edge: str = ""
    fencing_epoch: int = 0
    finished_at: datetime | None = None
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """The progress of an operation, recorded after the fact."""

    operation_id: str
    state: OperationState
    edge: str
    fencing_epoch: int


def insert(connection: Connection, row: OperationRow) -> None:
    """Record an operation. Raises ``RowRejectedError`` when its idempotency key exists."""
    connection.execute(_INSERT, asdict(row) | {"state": row.state.value})


def by_key(connection: Connection, idempotency_key: str) -> OperationRow | None:
    """Read the operation with an idempotency key."""
    query = select(operations).where(operations.c.idempotency_key == idempotency_key)
    row = connection.execute(query).one_or_none()
    return None if row is None else _row(row._mapping)


def get(connection: Connection, operation_id: str) -> OperationRow | None:
    """Read one operation."""
    query = select(operations).where(operations.c.operation_id == operation_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _row(row._mapping)


def mark(connection: Connection, marks: Iterable[Mark]) -> None:
    """Record that operations were sent or accepted; those that have ended stay as they are."""
    running = [OperationState.PENDING.value, OperationState.SENT.value]
    for one in marks:
        connection.execute(
            update(operations)
            .where(operations.c.operation_id == one.operation_id, operations.c.state.in_(running))
            .values(state=one.state.value, edge=one.edge, fencing_epoch=one.fencing_epoch)
        )


def finish(
    connection: Connection,
    operation_id: str,
    state: OperationState,
    now: datetime | None,
    *,
    fault: int = 0,
    error: str = "",
    edge: str = "",
    result: bytes | None = None,
) -> bool:
    """End an operation, once: one that is done or failed already stays as it is.

    ``now`` is None while it may still end otherwise. Returns whether the row was changed.
    """
    values: dict[str, Any] = {
        "state": state.value,
        "fault": fault,
        "error": error,
        "finished_at": now,
        "result": result,
    }
    if edge:
        values["edge"] = edge
    outcome = connection.execute(
        update(operations)
        .where(
            operations.c.operation_id == operation_id,
            operations.c.state.in_([one.value for one in OPEN]),
        )
        .values(values)
    )
    return outcome.rowcount > 0


def deferred(connection: Connection) -> list[OperationRow]:
    """Read the deferred deletes, oldest first."""
    query = (
        select(operations)
        .where(
            # True of every row, and what the index begins with.
            operations.c.vcenter_uuid.in_(select(vcenters.c.uuid)),
            operations.c.state == OperationState.DEFERRED.value,
        )
        .order_by(operations.c.created_at)
    )
    return [_row(row._mapping) for row in connection.execute(query)]


def settle_deferred(
    connection: Connection,
    instance_uuid: str,
    state: OperationState,
    now: datetime,
    error: str,
) -> int:
    """End the deferred deletes of a server; return how many there were."""
    outcome = connection.execute(
        update(operations)
        .where(
            operations.c.instance_uuid == instance_uuid,
            operations.c.action == "destroy",
            operations.c.state == OperationState.DEFERRED.value,
        )
        .values(state=state.value, finished_at=now, error=error)
    )
    return int(outcome.rowcount)


def open_rows(connection: Connection, vcenter_uuid: str) -> list[OperationRow]:
    """Read the operations of one vCenter that are not settled, oldest first."""
    query = (
        select(operations)
        .where(
            operations.c.vcenter_uuid == vcenter_uuid,
            operations.c.state.in_([one.value for one in OPEN]),
        )
        .order_by(operations.c.created_at)
    )
    return [_row(row._mapping) for row in connection.execute(query)]


def recent(connection: Connection, limit: int) -> list[OperationRow]:
    """Read the latest operations, newest first."""
    query = select(operations).order_by(operations.c.created_at.desc()).limit(limit)
    return [_row(row._mapping) for row in connection.execute(query)]


def deletes(connection: Connection, instance_uuids: Collection[str]) -> list[OperationRow]:
    """Read the recorded deletes of some servers that were not refused, oldest first.

    A deferred one was refused: nothing has been destroyed on its account.
    """
    if not instance_uuids:
        return []
    query = (
        select(operations)
        .where(
            operations.c.instance_uuid.in_(list(instance_uuids)),
            operations.c.action == "destroy",
            operations.c.recorded_delete.is_(True),
            operations.c.state.not_in([one.value for one in _REFUSED]),
        )
        .order_by(operations.c.created_at)
    )
    return [_row(row._mapping) for row in connection.execute(query)]


def cloned_here(connection: Connection, instance_uuid: str, never_sent: Collection[int]) -> bool:
    """Find out whether an operation of ours may have made the virtual machine of a server.

    ``never_sent`` are the faults of operations that never left.
    """
    query = (
        select(operations.c.operation_id)
        .where(
            operations.c.instance_uuid == instance_uuid,
            operations.c.action == "clone_virtual_machine",
            operations.c.fault.not_in(list(never_sent)),
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most ``limit`` operations that were requested before then; returns how many."""
    query = select(operations.c.operation_id).where(operations.c.created_at < before).limit(limit)
    ids: Sequence[str] = connection.execute(query).scalars().all()
    if ids:
        connection.execute(delete(operations).where(operations.c.operation_id.in_(ids)))
    return len(ids)


def _row(values: Any) -> OperationRow:
    fields = dict(values)
    fields["state"] = OperationState(fields["state"])
    fields["recorded_delete"] = bool(fields["recorded_delete"])
    return OperationRow(**fields)
