"""What the ledger tells others: which deletes are recorded, and what happened of late."""

from collections.abc import Sequence

from common.timestamps import unix_seconds
from controlplane.domain.ports import RecordedDelete
from controlplane.store.database import Database
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from vsphere_gateway.v1 import diagnostics_pb2

DEFAULT_LIMIT = 50
GREATEST_LIMIT = 10_000


class OperationHistory:
    """Reads the ledger's rows. Implements ``RecordedDeletes``.

    Raises ``controlplane.store.errors.StoreError`` when the database is away: whoever asks must not
    take that for "no delete is recorded".
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def delete_recorded(self, instance_uuid: str) -> bool:
        """Tell whether a delete of this server is recorded that was not refused."""
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
        """Return the latest operations, newest first; 0 means 50 of them."""
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
