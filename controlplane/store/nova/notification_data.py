"""What notifications say about servers, read from their rows in bulk."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection, RowMapping

from common.log_fields import fields
from controlplane.domain.records import NotificationData
from controlplane.store.database import Database
from controlplane.store.nova import primitives
from controlplane.store.nova.primitives import DamagedRowError, Json
from controlplane.store.nova.tables import (
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    SYSTEM_METADATA,
    TAGS,
)

LOG = logging.getLogger(__name__)


class NotificationDataReader:
    """Reads it from a cell. Thread-safe."""

    def __init__(self, cell: Database) -> None:
        """``cell`` is not closed here."""
        self._cell = cell

    def read(self, uuids: Collection[str]) -> dict[str, NotificationData]:
        """Read servers by UUID, deleted ones with what was deleted with them.

        Left out are those that do not exist or have no flavor, and interfaces where Nova's cache is
        damaged. Raises ``StoreError``.
        """
        with self._cell.read() as connection:
            rows = connection.execute(
                sqlalchemy.select(INSTANCES).where(INSTANCES.c.uuid.in_(sorted(uuids)))
            ).mappings()
            servers = {row["uuid"]: row for row in rows}
            flavors = _one_each(connection, INSTANCE_EXTRA, "flavor", servers)
            networks = _one_each(connection, INFO_CACHES, "network_info", servers)
            metadata = _pairs(connection, METADATA, servers)
            system_metadata = _pairs(connection, SYSTEM_METADATA, servers)
            tags = _tags(connection, servers)
        states = {}
        for uuid, row in servers.items():
            if flavor := _flavor(uuid, flavors.get(uuid)):
                states[uuid] = NotificationData(
                    columns=row,  # type: ignore[arg-type]
                    flavor=flavor,
                    network_info=_interfaces(uuid, networks.get(uuid)),
                    metadata=metadata[uuid],
                    system_metadata=system_metadata[uuid],
                    tags=tags[uuid],
                )
        return states


def _flavor(uuid: str, embedded: str | None) -> Json | None:
    try:
        return primitives.current_flavor(embedded) if embedded else None
    except DamagedRowError as error:
        LOG.warning("notification skipped", extra=fields(server=uuid, error=error))
        return None


def _interfaces(uuid: str, cached: str | None) -> Sequence[Json]:
    try:
        return primitives.interfaces(cached)
    except DamagedRowError as error:
        LOG.warning("notification without addresses", extra=fields(server=uuid, error=error))
        return []


def _living(table: Table, servers: Collection[str]) -> sqlalchemy.ColumnElement[bool]:
    """Select the rows that are not deleted, or were deleted with their server."""
    with_server = (INSTANCES.c.deleted != 0) & (table.c.deleted_at >= INSTANCES.c.deleted_at)
    return table.c.instance_uuid.in_(sorted(servers)) & ((table.c.deleted == 0) | with_server)


def _one_each(
    connection: Connection, table: Table, column: str, servers: Collection[str]
) -> dict[str, str]:
    statement = (
        sqlalchemy.select(table.c.instance_uuid, table.c[column])
        .join(INSTANCES, INSTANCES.c.uuid == table.c.instance_uuid)
        .where(_living(table, servers))
        .order_by(table.c.id)
    )
    return dict(connection.execute(statement).tuples().all())


def _pairs(
    connection: Connection, table: Table, servers: Collection[str]
) -> dict[str, dict[str, str]]:
    statement = (
        sqlalchemy.select(table.c.instance_uuid, table.c.key, table.c.value)
        .join(INSTANCES, INSTANCES.c.uuid == table.c.instance_uuid)
        .where(_living(table, servers))
        .order_by(table.c.id)
    )
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for uuid, key, value in connection.execute(statement):
        found[uuid][key] = value
    return found


def _tags(connection: Connection, servers: dict[str, RowMapping]) -> dict[str, list[str]]:
    statement = (
        sqlalchemy.select(TAGS.c.resource_id, TAGS.c.tag)
        .where(TAGS.c.resource_id.in_(sorted(servers)))
        .order_by(TAGS.c.tag)
    )
    found: dict[str, list[str]] = defaultdict(list)
    for uuid, tag in connection.execute(statement):
        found[uuid].append(tag)
    return found
