"""Leases with fencing: which edge may act on a vCenter, and which control plane acts at all."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from controlplane.store.bulk import upsert
from controlplane.store.own.schema import leases


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease."""

    resource: str
    """`vcenter:<uuid>` or `controlplane`."""
    holder: str
    """An edge's name, or a control plane's."""
    fencing_epoch: int
    """Grows whenever the holder changes; operations carry it."""
    acquired_at: datetime
    expires_at: datetime


def acquire(
    connection: Connection, resource: str, holder: str, now: datetime, duration: timedelta
) -> LeaseRow:
    """Take or renew a lease and return it as it stands; compare its ``holder`` with your own.

    Another's lease is taken over only after it has expired; the fencing epoch then grows.
    """
    fresh = LeaseRow(resource, holder, 1, now, now + duration)
    upsert(connection, leases, [asdict(fresh)], changing=())
    row = _get(connection, resource, lock=True)
    if row is None or row == fresh:
        return fresh
    if row.holder != holder and row.expires_at > now:
        return row
    taken_over = row.holder != holder
    row = LeaseRow(
        resource,
        holder,
        row.fencing_epoch + taken_over,
        now if taken_over else row.acquired_at,
        now + duration,
    )
    connection.execute(update(leases).where(leases.c.resource == resource).values(asdict(row)))
    return row


def release(connection: Connection, resource: str, holder: str, now: datetime) -> None:
    """Give a lease back at once; ignored when another holds it."""
    connection.execute(
        update(leases)
        .where(leases.c.resource == resource, leases.c.holder == holder)
        .values(expires_at=now)
    )


def database_time(connection: Connection) -> datetime:
    """Read the clock of the database, which all control planes share: UTC without a zone."""
    if connection.dialect.name == "sqlite":
        text = connection.execute(select(func.strftime("%Y-%m-%d %H:%M:%f", "now"))).scalar_one()
        return datetime.fromisoformat(text)
    now: datetime = connection.execute(select(func.utc_timestamp(6))).scalar_one()
    return now


def get(connection: Connection, resource: str) -> LeaseRow | None:
    """Read a lease, expired or not."""
    return _get(connection, resource, lock=False)


def _get(connection: Connection, resource: str, *, lock: bool) -> LeaseRow | None:
    query = select(leases).where(leases.c.resource == resource)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else LeaseRow(**row._mapping)
