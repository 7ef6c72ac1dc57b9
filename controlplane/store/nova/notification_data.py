"""Servers as their rows are, read in bulk for those who tell others about them."""

import json
from collections import defaultdict
from collections.abc import Collection

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection, RowMapping

from controlplane.domain.records import ServerState
from controlplane.store.database import Database
from controlplane.store.nova import primitives
from controlplane.store.nova.tables import (
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    SYSTEM_METADATA,
    TAGS,
)


class ServerStates:
    """Reads servers out of a cell."""

    def __init__(self, cell: Database) -> None:
        """``cell`` is not closed here."""
        self._cell = cell

    def read(self, uuids: Collection[str]) -> dict[str, ServerState]:
        """Return servers by UUID, deleted ones with what was deleted with them.

        Those that do not exist, or have no flavor, are left out.
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
        return {
            uuid: ServerState(
                columns=row,  # type: ignore[arg-type]
                flavor=primitives.current_flavor(flavors[uuid]),
                network_info=json.loads(networks.get(uuid) or "[]"),
                metadata=metadata[uuid],
                system_metadata=system_metadata[uuid],
                tags=tags[uuid],
            )
            for uuid, row in servers.items()
            if flavors.get(uuid)
        }


def _living(table: Table, servers: Collection[str]) -> sqlalchemy.ColumnElement[bool]:
    """Rows that are alive, or went with their server."""
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
