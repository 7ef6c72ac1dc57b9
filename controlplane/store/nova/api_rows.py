"""A server's rows in the API database: its mapping to a cell, and its request spec."""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy
from sqlalchemy.engine import Connection

from controlplane.domain.records import Origin, ServerChange
from controlplane.store import bulk
from controlplane.store.database import Database
from controlplane.store.nova import primitives
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.changes import ServerPlan
from controlplane.store.nova.primitives import DamagedRowError
from controlplane.store.nova.tables import (
    AGGREGATE_HOSTS,
    AGGREGATE_METADATA,
    INSTANCE_MAPPINGS,
    INSTANCES,
    REQUEST_SPECS,
)

_MAPPING_COLUMNS = (
    "id",
    "instance_uuid",
    "cell_id",
    "project_id",
    "user_id",
    "queued_for_delete",
)


def write(databases: NovaDatabases, plans: Sequence[ServerPlan], now: datetime) -> None:
    """Write the mappings and request specs that the plans need; nothing when none does."""
    born = [plan for plan in plans if plan.change in (ServerChange.ADOPTED, ServerChange.RESTORED)]
    reshaped = [
        plan
        for plan in plans
        if plan.change is ServerChange.UPDATED and plan.flavor and plan.origin is Origin.ADOPTED
    ]
    if born or reshaped:
        databases.api.run(
            lambda connection: _write(connection, databases.cell_id, born, reshaped, now)
        )


def _write(
    connection: Connection,
    cell_id: int,
    born: Sequence[ServerPlan],
    reshaped: Sequence[ServerPlan],
    now: datetime,
) -> None:
    if born:
        _write_mappings(connection, cell_id, born, now)
    _write_request_specs(connection, [*born, *reshaped], now)


def _write_mappings(
    connection: Connection, cell_id: int, born: Sequence[ServerPlan], now: datetime
) -> None:
    uuids = [plan.record.uuid for plan in born]
    stored = {
        row["instance_uuid"]: row
        for row in bulk.select_in(
            connection, INSTANCE_MAPPINGS, _MAPPING_COLUMNS, "instance_uuid", uuids
        )
    }
    records = [plan.record for plan in born]
    bulk.insert(
        connection,
        INSTANCE_MAPPINGS,
        [
            {
                "created_at": now,
                "instance_uuid": record.uuid,
                "cell_id": cell_id,
                "project_id": record.project_id,
                "user_id": record.user_id,
                "queued_for_delete": False,
            }
            for record in records
            if record.uuid not in stored
        ],
    )
    bulk.update(
        connection,
        INSTANCE_MAPPINGS,
        [
            {**row, "cell_id": cell_id, "queued_for_delete": False, "updated_at": now}
            for row in stored.values()
            if row["cell_id"] != cell_id or row["queued_for_delete"] is not False
        ],
    )


def _write_request_specs(
    connection: Connection, plans: Sequence[ServerPlan], now: datetime
) -> None:
    uuids = [plan.record.uuid for plan in plans]
    columns = ("id", "instance_uuid", "spec")
    stored = {
        row["instance_uuid"]: row
        for row in bulk.select_in(connection, REQUEST_SPECS, columns, "instance_uuid", uuids)
    }
    inserts, updates = [], []
    for plan in plans:
        record, row = plan.record, stored.get(plan.record.uuid)
        if row is None:
            spec = primitives.request_spec(record)
            inserts.append({"created_at": now, "instance_uuid": record.uuid, "spec": spec})
        elif plan.flavor and plan.origin is Origin.ADOPTED:
            try:
                spec = primitives.request_spec_with(row["spec"], plan.flavor)
            except DamagedRowError:
                spec = primitives.request_spec(record)
            updates.append({**row, "spec": spec, "updated_at": now})
    bulk.insert(connection, REQUEST_SPECS, inserts)
    bulk.update(connection, REQUEST_SPECS, updates)


def availability_zones(api: Database, hosts: Collection[str]) -> dict[str, str]:
    """Read the availability zones of those hosts that an aggregate puts into one."""
    joined = AGGREGATE_HOSTS.join(
        AGGREGATE_METADATA,
        AGGREGATE_HOSTS.c.aggregate_id == AGGREGATE_METADATA.c.aggregate_id,
    )
    statement = (
        sqlalchemy.select(AGGREGATE_HOSTS.c.host, AGGREGATE_METADATA.c.value)
        .select_from(joined)
        .where(AGGREGATE_METADATA.c.key == "availability_zone")
        .where(AGGREGATE_HOSTS.c.host.in_(sorted(hosts)))
    )
    with api.read() as connection:
        rows = connection.execute(statement).tuples().all()
        return dict(rows)


def delete_orphan_mapping(databases: NovaDatabases, uuid: str) -> None:
    """Delete the API database's rows of a server whose cell rows were rejected."""
    with databases.cell.read() as connection:
        if connection.execute(
            sqlalchemy.select(INSTANCES.c.id).where(INSTANCES.c.uuid == uuid)
        ).first():
            return

    def work(connection: Connection) -> None:
        connection.execute(REQUEST_SPECS.delete().where(REQUEST_SPECS.c.instance_uuid == uuid))
        connection.execute(
            INSTANCE_MAPPINGS.delete()
            .where(INSTANCE_MAPPINGS.c.instance_uuid == uuid)
            .where(INSTANCE_MAPPINGS.c.cell_id == databases.cell_id)
        )

    databases.api.run(work)


def queue_for_delete(api: Database, uuids: Collection[str], now: datetime) -> None:
    """Mark mappings of servers that are gone, as Nova's API does before a delete."""
    statement = (
        INSTANCE_MAPPINGS.update()
        .where(INSTANCE_MAPPINGS.c.instance_uuid.in_(sorted(uuids)))
        .values(queued_for_delete=True, updated_at=now)
    )
    api.run(lambda connection: connection.execute(statement))
