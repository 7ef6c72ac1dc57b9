"""Writes templates into Glance's database as images, and keeps them as vCenter has them."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection, RowMapping

from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.domain.mapping import servers as mapping
from controlplane.domain.records import ImageChange, ImageOutcome, ImageRecord
from controlplane.store import bulk
from controlplane.store.database import Database
from controlplane.store.glance import rows
from controlplane.store.glance.tables import IMAGES, LOCATIONS, MEMBERS, PROPERTIES, TAGS

LOG = logging.getLogger(__name__)

_CHILDREN = (PROPERTIES, LOCATIONS, MEMBERS)


@dataclass(slots=True)
class _Stored:
    """The rows of one image as they are now, deleted ones included."""

    columns: RowMapping
    children: dict[Table, list[RowMapping]] = field(default_factory=lambda: defaultdict(list))


@dataclass(slots=True)
class _Writes:
    """Rows to insert and to update by id."""

    with_locations: bool
    inserts: dict[Table, list[Any]] = field(default_factory=lambda: defaultdict(list))
    updates: dict[Table, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @property
    def count(self) -> int:
        return sum(map(len, (*self.inserts.values(), *self.updates.values())))

    def flush(self, connection: Connection) -> None:
        for table in (IMAGES, *_CHILDREN):
            bulk.update(connection, table, self.updates[table])
            bulk.insert(connection, table, self.inserts[table])


class GlanceImages:
    """A ``controlplane.domain.writers.ImageWriter``. Thread-safe."""

    def __init__(
        self,
        database: Database,
        with_locations: bool = True,
        clock: Callable[[], datetime] = naive_utc_now,
    ) -> None:
        """``database`` is Glance's; it is not closed here.

        Without locations where Glance encrypts them: the pointer is for people, images work
        without it.
        """
        self._database = database
        self._with_locations = with_locations
        self._clock = clock

    def apply(self, records: Sequence[ImageRecord]) -> list[ImageOutcome]:
        """Make the rows say what the records say (``ImageWriter.apply``)."""
        outcomes: list[ImageOutcome] = []
        for batch in bulk.batches(records):
            outcomes += bulk.bisect_rejected(batch, self._apply, _refuse)
        return outcomes

    def remove(self, image_ids: Sequence[str]) -> list[ImageOutcome]:
        """Leave the rows as Glance's own delete does (``ImageWriter.remove``)."""
        outcomes: list[ImageOutcome] = []
        for batch in bulk.batches(sorted(set(image_ids))):
            outcomes += self._database.run(
                lambda connection, batch=batch: self._remove(connection, batch)  # type: ignore[misc]
            )
        return outcomes

    def provide_unknown(self, vcenter_uuid: str) -> None:
        """Make sure that the image exists that adopted servers of a vCenter refer to.

        Its trait keeps it from being booted anywhere else, and no template is behind it there.
        """
        image_id = mapping.unknown_image_id(vcenter_uuid)
        trait = f"trait:{mapping.vcenter_trait(vcenter_uuid)}"

        def work(connection: Connection) -> None:
            known = _lock(connection, [image_id]).get(image_id)
            row = rows.unknown_image(image_id, self._clock())
            if known is None:
                marker = rows.image_property(image_id, trait, "required", row["created_at"])
                bulk.insert(connection, IMAGES, [row])
                bulk.insert(connection, PROPERTIES, [marker])
            elif known.columns["deleted"]:
                bulk.update(connection, IMAGES, [row])

        self._database.run(work)

    def _apply(self, records: Sequence[ImageRecord]) -> list[ImageOutcome]:
        return self._database.run(lambda connection: self._write(connection, records))

    def _write(self, connection: Connection, records: Sequence[ImageRecord]) -> list[ImageOutcome]:
        stored = _lock(connection, [record.id for record in records])
        now, writes, outcomes = self._clock(), _Writes(self._with_locations), []
        for record in records:
            before = writes.count
            known = stored.get(record.id)
            if known is None:
                _create(writes, record, now)
            else:
                _update(writes, record, known, now)
            outcomes.append(_outcome(record, known, written=writes.count > before))
        writes.flush(connection)
        return outcomes

    def _remove(self, connection: Connection, image_ids: Sequence[str]) -> list[ImageOutcome]:
        """As glance/db/sqlalchemy/api.py:image_destroy."""
        stored = _lock(connection, image_ids)
        living = [uuid for uuid, known in stored.items() if not known.columns["deleted"]]
        now = self._clock()
        gone = {"deleted": True, "deleted_at": now, "updated_at": now}
        # Their unique key has the time of the deletion in it, to the second: deleting an image
        # twice within one second would be rejected.
        connection.execute(
            MEMBERS.delete().where(MEMBERS.c.image_id.in_(living), MEMBERS.c.deleted.is_(True))
        )
        for table in (PROPERTIES, MEMBERS, TAGS):
            connection.execute(
                table.update()
                .where(table.c.image_id.in_(living), table.c.deleted.is_(False))
                .values(gone)
            )
        connection.execute(
            LOCATIONS.update()
            .where(LOCATIONS.c.image_id.in_(living), LOCATIONS.c.deleted.is_(False))
            .values(**gone, status="deleted")
        )
        connection.execute(
            IMAGES.update().where(IMAGES.c.id.in_(living)).values(**gone, status="deleted")
        )
        return [
            ImageOutcome(uuid, ImageChange.REMOVED if uuid in living else ImageChange.ABSENT)
            for uuid in image_ids
        ]


def _lock(connection: Connection, image_ids: Collection[str]) -> dict[str, _Stored]:
    statement = sqlalchemy.select(IMAGES).where(IMAGES.c.id.in_(sorted(image_ids)))
    found = connection.execute(statement.order_by(IMAGES.c.id).with_for_update()).mappings()
    stored = {row["id"]: _Stored(row) for row in found}
    if stored:
        for table in _CHILDREN:
            names = (column.name for column in table.c)
            for row in bulk.select_in(connection, table, names, "image_id", stored):
                stored[row["image_id"]].children[table].append(row)
    return stored


def _create(writes: _Writes, record: ImageRecord, now: datetime) -> None:
    writes.inserts[IMAGES].append(rows.image(record, now))
    _update_location(writes, record, [], now)
    _insert_properties(writes, record, record.properties, now)
    _insert_members(writes, record, record.members, now)


def _update(writes: _Writes, record: ImageRecord, known: _Stored, now: datetime) -> None:
    wanted = rows.hardware_columns(record)
    if known.columns["deleted"]:
        wanted |= {"owner": record.owner, "visibility": record.visibility}
        _restore_members(writes, record, known, now)
    if any(known.columns[name] != value for name, value in wanted.items()):
        writes.updates[IMAGES].append({**known.columns, **wanted, "updated_at": now})
    _update_properties(writes, record, known, now)
    _update_location(writes, record, known.children[LOCATIONS], now)


def _update_properties(writes: _Writes, record: ImageRecord, known: _Stored, now: datetime) -> None:
    # Name and image are unique, deleted or not: a deleted property comes back in its own row.
    stored = {row["name"]: row for row in known.children[PROPERTIES]}
    missing = [name for name in record.properties if name not in stored]
    _insert_properties(writes, record, missing, now)
    for name, row in stored.items():
        if name in record.properties:
            wanted = {"value": record.properties[name], "deleted": False, "deleted_at": None}
        elif rows.is_ours(name) and not row["deleted"]:
            wanted = {"deleted": True, "deleted_at": now}
        else:
            continue
        if any(row[column] != value for column, value in wanted.items()):
            writes.updates[PROPERTIES].append({**row, **wanted, "updated_at": now})


def _update_location(
    writes: _Writes, record: ImageRecord, stored: Sequence[RowMapping], now: datetime
) -> None:
    if not writes.with_locations:
        return
    ours = [row for row in stored if row["value"].startswith(rows.LOCATION_SCHEME)]
    if not ours:
        writes.inserts[LOCATIONS].append(rows.location(record, now))
        return
    wanted = {"value": record.location, "deleted": False, "deleted_at": None, "status": "active"}
    if any(ours[-1][column] != value for column, value in wanted.items()):
        writes.updates[LOCATIONS].append({**ours[-1], **wanted, "updated_at": now})


def _restore_members(writes: _Writes, record: ImageRecord, known: _Stored, now: datetime) -> None:
    present = {row["member"] for row in known.children[MEMBERS] if not row["deleted"]}
    _insert_members(writes, record, record.members - present, now)


def _insert_properties(
    writes: _Writes, record: ImageRecord, names: Iterable[str], now: datetime
) -> None:
    writes.inserts[PROPERTIES].extend(
        rows.image_property(record.id, name, record.properties[name], now) for name in names
    )


def _insert_members(
    writes: _Writes, record: ImageRecord, projects: Iterable[str], now: datetime
) -> None:
    writes.inserts[MEMBERS].extend(
        rows.member(record, project, now) for project in sorted(projects)
    )


def _outcome(record: ImageRecord, known: _Stored | None, *, written: bool) -> ImageOutcome:
    if known is None or (written and known.columns["deleted"]):
        owner, visibility = record.owner, record.visibility
        return ImageOutcome(record.id, ImageChange.CREATED, "", owner, visibility)
    change = ImageChange.UPDATED if written else ImageChange.NONE
    owner, visibility = known.columns["owner"] or "", known.columns["visibility"]
    return ImageOutcome(record.id, change, "", owner, visibility)


def _refuse(record: ImageRecord, reason: str) -> ImageOutcome:
    LOG.warning("image refused by a database", extra=fields(image=record.id, reason=reason))
    return ImageOutcome(record.id, ImageChange.REFUSED, reason)
