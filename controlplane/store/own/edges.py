"""Every edge that ever connected, and the vCenters behind them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from controlplane.store.bulk import upsert
from controlplane.store.own.schema import edges, vcenters


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """One edge as it was last seen."""

    name: str
    vcenter_uuid: str | None
    epoch: int
    version: str
    peer: str
    vcenter_state: int
    """A number of `VCenterState`."""
    vcenter_message: str
    certificate_not_before: datetime | None
    certificate_not_after: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    online: bool
    since: datetime
    """The link was opened or lost then."""


@dataclass(frozen=True, slots=True)
class VCenterRow:
    """One vCenter."""

    uuid: str
    full_name: str
    version: str
    build: str
    api_version: str
    first_seen_at: datetime
    parity_generation: int = 0
    parity_epoch: int = 0
    parity_at: datetime | None = None
    """None until the first sync is complete."""
    served_by: str = ""
    """The process that applies its inventory."""


def list_all(connection: Connection) -> list[EdgeRow]:
    """Read all edges by name."""
    return [
        EdgeRow(**row._mapping) for row in connection.execute(select(edges).order_by(edges.c.name))
    ]


def write(connection: Connection, row: EdgeRow) -> None:
    """Insert an edge, or update all but when it was first seen."""
    values = {name: getattr(row, name) for name in edges.c.keys()}  # noqa: SIM118
    upsert(connection, edges, [values], [n for n in values if n not in ("name", "first_seen_at")])


def write_vcenter(connection: Connection, row: VCenterRow) -> None:
    """Insert a vCenter, or update its name and versions."""
    values = {name: getattr(row, name) for name in vcenters.c.keys()}  # noqa: SIM118
    upsert(connection, vcenters, [values], ["full_name", "version", "build", "api_version"])


def serve(connection: Connection, uuid: str, process: str) -> bool:
    """Record which process applies a vCenter's inventory; returns whether it was another before."""
    result = connection.execute(
        update(vcenters)
        .where(vcenters.c.uuid == uuid, vcenters.c.served_by != process)
        .values(served_by=process)
    )
    return result.rowcount > 0


def serve_unserved(connection: Connection, process: str) -> None:
    """Take over the vCenters whose last process has ended in order."""
    connection.execute(update(vcenters).where(vcenters.c.served_by == "").values(served_by=process))


def stop_serving(connection: Connection, process: str) -> None:
    """Note that a process writes nothing any more of the vCenters that it served."""
    connection.execute(update(vcenters).where(vcenters.c.served_by == process).values(served_by=""))


def list_vcenters(connection: Connection) -> list[VCenterRow]:
    """Read all vCenters."""
    query = select(vcenters).order_by(vcenters.c.full_name, vcenters.c.uuid)
    return [VCenterRow(**row._mapping) for row in connection.execute(query)]


def get_vcenter(connection: Connection, uuid: str) -> VCenterRow | None:
    """Read one vCenter."""
    row = connection.execute(select(vcenters).where(vcenters.c.uuid == uuid)).one_or_none()
    return None if row is None else VCenterRow(**row._mapping)


def parity(connection: Connection, uuid: str, epoch: int, generation: int, now: datetime) -> None:
    """Record that edge and control plane hold the same objects of a vCenter."""
    connection.execute(
        update(vcenters)
        .where(vcenters.c.uuid == uuid)
        .values(parity_epoch=epoch, parity_generation=generation, parity_at=now)
    )
