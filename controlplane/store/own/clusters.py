"""The managed clusters, each with a UUID of ours and a compute host's name that never changes."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from controlplane.store.bulk import upsert
from controlplane.store.own.schema import clusters


class ClusterState(Enum):
    """How far a cluster is as a compute host of Nova's."""

    NEW = "new"
    """Found; its compute host has not been provisioned."""
    PROVISIONED = "provisioned"
    """Service, compute node, host mapping and provider exist; disabled until the first sync."""
    ACTIVE = "active"
    """Its worker runs and is enabled."""
    OFFLINE = "offline"
    """Its edge is offline."""
    UNMANAGED = "unmanaged"
    """The site stopped managing it, or it was deleted."""
    ALARM = "alarm"
    """Its identity does not match: nothing is written for it until an operator decides."""


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """One cluster."""

    uuid: str
    vcenter_uuid: str
    moref: str
    name: str
    known_name: str
    """Its name when its identity last matched."""
    host_uuids: tuple[str, ...]
    """Hardware UUIDs of its hosts then, sorted."""
    compute_host: str
    compute_node_uuid: str
    hypervisor_hostname: str
    state: ClusterState
    state_reason: str
    policy: str
    """`managed`, `locked` or `listed`."""
    created_at: datetime
    updated_at: datetime
    synchronised_at: datetime | None = None
    allocations_at: datetime | None = None


def list_all(connection: Connection, vcenter_uuid: str | None = None) -> list[ClusterRow]:
    """Read all clusters, or those of one vCenter, by name."""
    query = select(clusters).order_by(clusters.c.name, clusters.c.uuid)
    if vcenter_uuid is not None:
        query = query.where(clusters.c.vcenter_uuid == vcenter_uuid)
    return [_row(row._mapping) for row in connection.execute(query)]


def get(connection: Connection, uuid: str) -> ClusterRow | None:
    """Read one cluster."""
    return _one(connection, clusters.c.uuid == uuid)


def write(connection: Connection, rows: Sequence[ClusterRow]) -> None:
    """Insert clusters, or update their name, hosts and policy.

    An existing row keeps its identity, compute host and state: `set_state` changes that.
    """
    values = []
    for row in rows:
        value = asdict(row)
        value["host_uuids"] = json.dumps(list(row.host_uuids))
        value["state"] = row.state.value
        values.append(value)
    columns = ["name", "known_name", "host_uuids", "policy", "updated_at"]
    upsert(connection, clusters, values, columns)


def set_state(
    connection: Connection,
    uuid: str,
    state: ClusterState,
    reason: str,
    now: datetime,
    *,
    among: Collection[ClusterState] | None = None,
) -> bool:
    """Change a cluster's state and say why; only from one of ``among`` when that is given.

    One that leaves management forgets that it was synchronised: when it comes back, its servers
    and their allocations are not there. Returns whether the row was changed.
    """
    statement = update(clusters).where(clusters.c.uuid == uuid)
    if among is not None:
        statement = statement.where(clusters.c.state.in_([one.value for one in among]))
    if state is ClusterState.UNMANAGED:
        statement = statement.values(synchronised_at=None, allocations_at=None)
    result = connection.execute(
        statement.values(state=state.value, state_reason=reason, updated_at=now)
    )
    return result.rowcount > 0


def synchronised(connection: Connection, uuids: Collection[str], now: datetime) -> None:
    """Record that clusters are in sync, with every server of theirs written."""
    if uuids:
        connection.execute(
            update(clusters).where(clusters.c.uuid.in_(list(uuids))).values(synchronised_at=now)
        )


def allocated(connection: Connection, uuid: str, now: datetime) -> None:
    """Record that placement holds the allocations of every server of a cluster."""
    connection.execute(update(clusters).where(clusters.c.uuid == uuid).values(allocations_at=now))


def _one(connection: Connection, condition: Any) -> ClusterRow | None:
    row = connection.execute(select(clusters).where(condition)).one_or_none()
    return None if row is None else _row(row._mapping)


def _row(values: Any) -> ClusterRow:
    fields = dict(values)
    fields["host_uuids"] = tuple(json.loads(fields["host_uuids"]))
    fields["state"] = ClusterState(fields["state"])
    return ClusterRow(**fields)
