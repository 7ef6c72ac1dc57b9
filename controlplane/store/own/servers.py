"""Bindings: which virtual machine is which Nova server, and which template is which image."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import and_, func, literal, select, update
from sqlalchemy.engine import Connection

from controlplane.domain.records import Origin
from controlplane.store.bulk import upsert
from controlplane.store.own.schema import images, objects, servers


class ServerState(Enum):
    """The state of a binding."""

    ACTIVE = "active"
    """The server is the virtual machine."""
    REMOVED = "removed"
    """vCenter deleted the virtual machine, and the server with it."""
    REMOVING = "removing"
    """The virtual machine is gone; the server is still to be removed."""
    UNMANAGED = "unmanaged"
    """The virtual machine exists outside the managed clusters, or as a template."""
    TRANSFERRED = "handed_on"
    """The virtual machine is gone; the server is transferred to another with its instance UUID."""
    UNMANAGING = "unmanaging"
    """As UNMANAGED; the server is still to be removed."""


ENDING = (ServerState.REMOVING, ServerState.UNMANAGING)


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One binding."""

    uuid: str
    """The Nova UUID."""
    vcenter_uuid: str
    moref: str
    instance_uuid: str
    """`config.instanceUuid`, the same as ``uuid`` unless that was taken."""
    cluster_uuid: str
    name: str
    origin: str
    """`adopted` or `created`."""
    state: ServerState
    project_id: str
    user_id: str
    derived: bool
    cpus: int
    memory_mb: int
    disk_gb: int
    adopted_at: datetime
    removed_at: datetime | None = None
    removed_reason: str = ""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One template's image."""

    id: str
    vcenter_uuid: str
    moref: str
    name: str
    owner: str
    """Project id."""
    visibility: str
    state: str
    """`active` or `removed`."""
    created_at: datetime
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the servers of a cluster use, and the largest of each that one has."""

    servers: int
    cpus: int
    memory_mb: int
    disk_gb: int
    largest_cpus: int
    largest_memory_mb: int
    largest_disk_gb: int


def list_all(
    connection: Connection,
    *,
    cluster_uuid: str | None = None,
    vcenter_uuid: str | None = None,
    states: Collection[ServerState] | None = (ServerState.ACTIVE,),
) -> list[ServerRow]:
    """Read bindings by name: of one cluster or vCenter, in some states (None means all)."""
    query = select(servers).order_by(servers.c.name, servers.c.uuid)
    if cluster_uuid is not None:
        query = query.where(servers.c.cluster_uuid == cluster_uuid)
    if vcenter_uuid is not None:
        query = query.where(servers.c.vcenter_uuid == vcenter_uuid)
    if states is not None:
        query = query.where(servers.c.state.in_([state.value for state in states]))
    return [from_row(row._mapping) for row in connection.execute(query)]


def with_bodies(
    connection: Connection, clusters: Collection[str]
) -> list[tuple[ServerRow, bytes | None]]:
    """Read the active servers of some clusters by name, each with its virtual machine."""
    reference = literal("VirtualMachine:") + servers.c.moref
    joined = servers.outerjoin(
        objects,
        and_(objects.c.vcenter_uuid == servers.c.vcenter_uuid, objects.c.reference == reference),
    )
    query = (
        select(servers, objects.c.body)
        .select_from(joined)
        .where(servers.c.cluster_uuid.in_(list(clusters)))
        .where(servers.c.state == ServerState.ACTIVE.value)
        .order_by(servers.c.name, servers.c.uuid)
    )
    found = []
    for row in connection.execute(query):
        values = dict(row._mapping)
        body = values.pop("body")
        found.append((from_row(values), body))
    return found


def get(connection: Connection, uuids: Collection[str]) -> list[ServerRow]:
    """Read bindings by Nova UUID, in any state."""
    query = select(servers).where(servers.c.uuid.in_(sorted(uuids)))
    return [from_row(row._mapping) for row in connection.execute(query)]


def write(connection: Connection, rows: Sequence[ServerRow]) -> None:
    """Insert or replace bindings."""
    names = servers.c.keys()
    values = [{name: getattr(row, name) for name in names} for row in rows]
    for value in values:
        value["state"] = value["state"].value
    upsert(connection, servers, values)


def usage(connection: Connection, cluster_uuid: str) -> Usage:
    """Add up what the servers of a cluster have."""
    query = select(
        func.count(),
        *(
            func.coalesce(aggregate(column), 0)
            for aggregate in (func.sum, func.max)
            for column in (servers.c.cpus, servers.c.memory_mb, servers.c.disk_gb)
        ),
    ).where(servers.c.cluster_uuid == cluster_uuid, servers.c.state == ServerState.ACTIVE.value)
    return Usage(*(int(value) for value in connection.execute(query).one()))


def counts(connection: Connection) -> dict[str, int]:
    """Count the active servers by cluster."""
    query = (
        select(servers.c.cluster_uuid, func.count())
        .where(servers.c.state == ServerState.ACTIVE.value)
        .group_by(servers.c.cluster_uuid)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def projects(connection: Connection) -> set[str]:
    """Read which projects have adopted servers."""
    query = select(servers.c.project_id).where(
        servers.c.state == ServerState.ACTIVE.value, servers.c.origin == Origin.ADOPTED.value
    )
    return set(connection.execute(query.distinct()).scalars())


def write_images(connection: Connection, rows: Sequence[ImageRow]) -> None:
    """Insert images, or update all but when they were made."""
    changing = ["vcenter_uuid", "moref", "name", "owner", "visibility", "state", "removed_at"]
    upsert(connection, images, [asdict(row) for row in rows], changing)


def rename_images(connection: Connection, rows: Sequence[ImageRow]) -> None:
    """Update the names of images; owner and visibility stay as they were first written."""
    upsert(connection, images, [asdict(row) for row in rows], ["name"])


def list_images(connection: Connection, vcenter_uuid: str | None = None) -> list[ImageRow]:
    """Read active images by name."""
    query = select(images).where(images.c.state == "active").order_by(images.c.name, images.c.id)
    if vcenter_uuid is not None:
        query = query.where(images.c.vcenter_uuid == vcenter_uuid)
    return [ImageRow(**row._mapping) for row in connection.execute(query)]


def images_with_bodies(connection: Connection) -> list[tuple[ImageRow, bytes | None]]:
    """Read active images by name, each with its template."""
    reference = literal("VirtualMachine:") + images.c.moref
    joined = images.outerjoin(
        objects,
        and_(objects.c.vcenter_uuid == images.c.vcenter_uuid, objects.c.reference == reference),
    )
    query = (
        select(images, objects.c.body)
        .select_from(joined)
        .where(images.c.state == "active")
        .order_by(images.c.name, images.c.id)
    )
    found = []
    for row in connection.execute(query):
        values = dict(row._mapping)
        body = values.pop("body")
        found.append((ImageRow(**values), body))
    return found


def get_image(connection: Connection, image_id: str) -> ImageRow | None:
    """Read an active image."""
    query = select(images).where(images.c.id == image_id, images.c.state == "active")
    row = connection.execute(query).one_or_none()
    return None if row is None else ImageRow(**row._mapping)


def remove_images(connection: Connection, ids: Collection[str], now: datetime) -> None:
    """Record that images were removed."""
    if ids:
        connection.execute(
            update(images).where(images.c.id.in_(list(ids))).values(state="removed", removed_at=now)
        )


def from_row(values: Any) -> ServerRow:
    """Build a binding from a row of the table."""
    fields = dict(values)
    fields["state"] = ServerState(fields["state"])
    fields["derived"] = bool(fields["derived"])
    return ServerRow(**fields)
