"""Reads Glance's rows for verification. Nothing is locked, nothing written."""

from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy
from sqlalchemy.engine import RowMapping

from controlplane.store import bulk
from controlplane.store.database import Database
from controlplane.store.glance.tables import IMAGES, LOCATIONS, MEMBERS, PROPERTIES

VCENTER_PROPERTY = "vsphere_vcenter"
_IMAGE_COLUMNS = (
    "id", "name", "size", "virtual_size", "min_disk", "min_ram", "disk_format",
    "container_format", "status", "protected", "deleted", "owner", "visibility",
)  # fmt: skip


@dataclass(slots=True)
class ImageRows:
    """One image, and of its children those that are not deleted."""

    image: RowMapping
    properties: dict[str, str] = field(default_factory=dict)
    locations: list[str] = field(default_factory=list)
    """Active ones."""
    members: set[str] = field(default_factory=set)
    """Projects that it is shared with."""


class GlanceReader:
    """Reads Glance's database. Every method raises ``StoreError``. Thread-safe."""

    def __init__(self, database: Database, with_locations: bool = True) -> None:
        """``database`` is not closed here. Without locations where Glance encrypts them."""
        self._database = database
        self.with_locations = with_locations

    def images(self, ids: Collection[str]) -> dict[str, ImageRows]:
        """Read images by id, deleted ones too; those that Glance does not have are left out."""
        found: dict[str, ImageRows] = {}
        with self._database.read() as connection:
            for some in bulk.batches(sorted(ids)):
                for row in bulk.select_in(connection, IMAGES, _IMAGE_COLUMNS, "id", some):
                    found[row["id"]] = ImageRows(row)
                columns = ("image_id", "name", "value", "deleted")
                for row in bulk.select_in(connection, PROPERTIES, columns, "image_id", some):
                    if not row["deleted"]:
                        found[row["image_id"]].properties[row["name"]] = row["value"]
                columns = ("image_id", "value", "status", "deleted")
                for row in bulk.select_in(connection, LOCATIONS, columns, "image_id", some):
                    if not row["deleted"] and row["status"] == "active":
                        found[row["image_id"]].locations.append(row["value"])
                names = ("image_id", "member", "deleted")
                for row in bulk.select_in(connection, MEMBERS, names, "image_id", some):
                    if not row["deleted"]:
                        found[row["image_id"]].members.add(row["member"])
        return found

    def of_vcenter(self, vcenter_uuid: str) -> set[str]:
        """Find the images whose properties say that they are templates of a vCenter."""
        query = sqlalchemy.select(PROPERTIES.c.image_id).where(
            PROPERTIES.c.name == VCENTER_PROPERTY,
            PROPERTIES.c.value == vcenter_uuid,
            PROPERTIES.c.deleted.is_(False),
        )
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())
