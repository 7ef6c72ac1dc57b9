"""What a batch will write into the cell database, gathered per table."""

from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Table
from sqlalchemy.engine import Connection

from controlplane.store import bulk
from controlplane.store.bulk import Row
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    SYSTEM_METADATA,
)

ORDER = (INSTANCES, INSTANCE_EXTRA, INFO_CACHES, METADATA, SYSTEM_METADATA, BLOCK_DEVICES)
"""Parents first: the children have foreign keys."""


@dataclass(slots=True)
class Writes:
    """Rows to insert, to update by id, and ids of rows of ours to delete for good."""

    inserts: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    updates: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    deletes: dict[Table, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __bool__(self) -> bool:
        return any((*self.inserts.values(), *self.updates.values(), *self.deletes.values()))

    def add(self, other: "Writes") -> None:
        """Take over the writes of one server."""
        for mine, theirs in (
            (self.inserts, other.inserts),
            (self.updates, other.updates),
        ):
            for table, rows in theirs.items():
                mine[table].extend(rows)
        for table, ids in other.deletes.items():
            self.deletes[table].extend(ids)

    def flush(self, connection: Connection) -> None:
        """Send everything, one statement a table and kind."""
        for table in ORDER:
            bulk.delete(connection, table, self.deletes.get(table, []))
            bulk.update(connection, table, self.updates.get(table, []))
            bulk.insert(connection, table, self.inserts.get(table, []))
