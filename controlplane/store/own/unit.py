"""Writes all that one unit of inventory leaves in the gateway database, in one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection

from controlplane.store.own import clusters, objects, quarantine, servers
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.objects import ObjectRow, ObjectStatus
from controlplane.store.own.quarantine import AlarmRow, QuarantineRow
from controlplane.store.own.servers import ImageRow, ServerRow


@dataclass(slots=True)
class UnitRows:
    """Rows to write and to delete."""

    objects: list[ObjectRow] = field(default_factory=list)
    statuses: dict[str, ObjectStatus] = field(default_factory=dict)
    """Objects that are held already, by key."""
    gone: list[str] = field(default_factory=list)
    """Objects to delete from the replica."""
    servers: list[ServerRow] = field(default_factory=list)
    images: list[ImageRow] = field(default_factory=list)
    images_changed: list[ImageRow] = field(default_factory=list)
    """Owner and visibility stay as they were first written."""
    images_gone: list[str] = field(default_factory=list)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    """Objects to take out of quarantine."""

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return any(
            (
                self.objects,
                self.statuses,
                self.gone,
                self.servers,
                self.images,
                self.images_changed,
                self.images_gone,
                self.quarantine,
                self.released,
            )
        )


def write(connection: Connection, vcenter_uuid: str, rows: UnitRows, now: datetime) -> None:
    """Write all of it; the objects with their content hashes come last."""
    servers.write(connection, rows.servers)
    servers.write_images(connection, rows.images)
    servers.rename_images(connection, rows.images_changed)
    servers.remove_images(connection, rows.images_gone, now)
    quarantine.put(connection, rows.quarantine)
    quarantine.release(connection, vcenter_uuid, rows.released)
    for status in sorted(set(rows.statuses.values())):
        keys = [key for key, one in rows.statuses.items() if one is status]
        objects.set_status(connection, vcenter_uuid, keys, status, now)
    objects.remove(connection, vcenter_uuid, rows.gone)
    objects.write(connection, rows.objects, now)


def write_clusters(
    connection: Connection,
    changed: Sequence[ClusterRow],
    restated: Collection[str],
    alarms: Sequence[AlarmRow],
    now: datetime,
) -> None:
    """Write clusters, the states of those whose UUIDs are ``restated``, and alarms."""
    clusters.write(connection, changed)
    for row in changed:
        if row.uuid in restated:
            clusters.set_state(connection, row.uuid, row.state, row.state_reason, now)
    for alarm in alarms:
        quarantine.raise_alarm(connection, alarm)
