"""The replica of every vCenter: one row per managed object, with the whole object in it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.engine import Connection

from controlplane.store.bulk import upsert
from controlplane.store.own.schema import objects, quarantine
from vsphere_gateway.v1 import inventory_pb2


class ObjectStatus(IntEnum):
    """How far an object of the replica has been applied."""

    APPLIED = 0
    """Everything that follows from it is written, or nothing follows from it."""
    WAITING = 1
    """A virtual machine whose cluster, host, folder or network is not known yet."""
    QUARANTINED = 2
    """It could not be applied; `quarantine` says why."""
    HIDDEN = 3
    """vCenter no longer shows it to the edge's user; its server or image is kept."""
    UNCONFIRMED = 4
    """The edge does not see it and could not ask; kept until confirmed."""
    REFUSED = 5
    """A database rejected it: nacked, and requested again from time to time."""


REPORTED = (ObjectStatus.APPLIED, ObjectStatus.WAITING, ObjectStatus.QUARANTINED)
"""What the edge reports too, and what digests count."""
_SETTLED = (ObjectStatus.APPLIED, ObjectStatus.REFUSED)
"""Nothing more is to be applied of such an object."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One row to write."""

    vcenter_uuid: str
    reference: str
    """`<type>:<moref>`."""
    kind: int
    content_hash: bytes
    epoch: int
    revision: int
    body: bytes
    cluster: str | None
    name: str
    status: ObjectStatus


@dataclass(frozen=True, slots=True)
class HeldRow:
    """What is kept in memory of one row."""

    reference: str
    kind: int
    content_hash: bytes
    epoch: int
    revision: int
    cluster: str | None
    status: ObjectStatus


def held(connection: Connection, vcenter_uuid: str) -> Iterator[HeldRow]:
    """Read every object of a vCenter, without its body."""
    columns = (
        objects.c.reference,
        objects.c.kind,
        objects.c.content_hash,
        objects.c.epoch,
        objects.c.revision,
        objects.c.cluster,
        objects.c.standing,
    )
    query = select(*columns).where(objects.c.vcenter_uuid == vcenter_uuid)
    for row in connection.execute(query):
        yield HeldRow(row[0], row[1], row[2], row[3], row[4], row[5], ObjectStatus(row[6]))


def bodies(
    connection: Connection, vcenter_uuid: str, references: Collection[str]
) -> dict[str, bytes]:
    """Read serialised objects by reference; what is not held is left out."""
    if not references:
        return {}
    query = select(objects.c.reference, objects.c.body).where(
        objects.c.vcenter_uuid == vcenter_uuid, objects.c.reference.in_(list(references))
    )
    return {row.reference: row.body for row in connection.execute(query)}


def bodies_of_kinds(
    connection: Connection, vcenter_uuid: str, kinds: Collection[int]
) -> Iterator[bytes]:
    """Read the serialised objects of some kinds."""
    query = select(objects.c.body).where(
        objects.c.vcenter_uuid == vcenter_uuid, objects.c.kind.in_(list(kinds))
    )
    for row in connection.execute(query):
        yield row.body


def unsettled_machines(
    connection: Connection, vcenter_uuid: str | None = None
) -> list[tuple[str, bytes]]:
    """Read the virtual machines that are held and not applied, of one vCenter or all.

    Each with its vCenter; those that came into quarantine first come first.
    """
    waits = and_(
        quarantine.c.vcenter_uuid == objects.c.vcenter_uuid,
        quarantine.c.reference == objects.c.reference,
    )
    query = (
        select(objects.c.vcenter_uuid, objects.c.body)
        .select_from(objects.outerjoin(quarantine, waits))
        .where(objects.c.kind == inventory_pb2.OBJECT_KIND_VIRTUAL_MACHINE)
        .where(objects.c.standing.not_in([int(one) for one in _SETTLED]))
        .order_by(quarantine.c.since.is_(None), quarantine.c.since, objects.c.reference)
    )
    if vcenter_uuid is not None:
        query = query.where(objects.c.vcenter_uuid == vcenter_uuid)
    return [(row[0], row[1]) for row in connection.execute(query)]


def members(connection: Connection, kind: int) -> dict[tuple[str, str], int]:
    """Count the objects of a kind in each cluster, by vCenter and the cluster's moref."""
    query = (
        select(objects.c.vcenter_uuid, objects.c.cluster, func.count())
        .where(objects.c.kind == kind, objects.c.cluster.is_not(None))
        .group_by(objects.c.vcenter_uuid, objects.c.cluster)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def write(connection: Connection, rows: Sequence[ObjectRow], now: datetime) -> None:
    """Insert or replace rows."""
    upsert(
        connection,
        objects,
        [
            {
                "vcenter_uuid": row.vcenter_uuid,
                "reference": row.reference,
                "kind": row.kind,
                "content_hash": row.content_hash,
                "epoch": row.epoch,
                "revision": row.revision,
                "body": row.body,
                "cluster": row.cluster,
                "name": row.name,
                "standing": int(row.status),
                "updated_at": now,
            }
            for row in rows
        ],
    )


def set_status(
    connection: Connection,
    vcenter_uuid: str,
    references: Collection[str],
    status: ObjectStatus,
    now: datetime,
) -> None:
    """Change the status of some objects."""
    if references:
        statement = (
            update(objects)
            .where(
                objects.c.vcenter_uuid == vcenter_uuid,
                objects.c.reference == bindparam("one_reference"),
            )
            .values(standing=int(status), updated_at=now)
        )
        connection.execute(statement, [{"one_reference": one} for one in references])


def remove(connection: Connection, vcenter_uuid: str, references: Collection[str]) -> None:
    """Delete some objects from the replica."""
    if references:
        connection.execute(
            delete(objects).where(
                objects.c.vcenter_uuid == vcenter_uuid,
                objects.c.reference.in_(sorted(references)),
            )
        )


def counts(connection: Connection) -> list[tuple[str, int, int]]:
    """Count the objects by vCenter and kind."""
    query = select(objects.c.vcenter_uuid, objects.c.kind, func.count()).group_by(
        objects.c.vcenter_uuid, objects.c.kind
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]
