"""Images on Glance's own schema, read by Glance's own database API."""

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, select

from controlplane.domain.mapping import servers as mapping
from controlplane.domain.records import ImageChange, ImageRecord
from controlplane.store import upstream_schema
from controlplane.store.database import Database
from controlplane.store.glance.images import GlanceImages
from controlplane.store.glance.tables import IMAGES, LOCATIONS, PROPERTIES
from tests.support.servers import Databases

OWNER, FRIEND, STRANGER = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture(scope="session")
def database(mariadb: Databases) -> Iterator[Database]:
    url = mariadb.create_database("glance")
    upstream_schema.create({"glance": url})
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def images(database: Database) -> GlanceImages:
    return GlanceImages(database)


@pytest.fixture(scope="session")
def glance(database: Database) -> Any:
    """Glance's database API, on this database and without the process-wide options."""
    from glance.db.sqlalchemy import api
    from oslo_db.sqlalchemy import enginefacade

    facade = enginefacade.transaction_context()
    facade.configure(connection=database.engine.url.render_as_string(hide_password=False))
    api._main_context_manager = facade
    return api


def viewer(project: str, is_admin: bool = False) -> Any:
    """A request's context, as far as Glance's database API looks at it."""
    return SimpleNamespace(
        is_admin=is_admin, owner=project, project_id=project, show_deleted=False,
        can_see_deleted=False, read_only=False,
    )  # fmt: skip


def record(**changes: Any) -> ImageRecord:
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "name": "ubuntu-template",
        "owner": OWNER,
        "visibility": "shared",
        "members": frozenset({FRIEND}),
        "size_bytes": 40 * 1024**3,
        "min_disk_gb": 40,
        "min_ram_mb": 0,
        "location": "vsphere://dbed6e0c/folder/u/u.vmdk?dcPath=DC0&dsName=ds1",
        "properties": {"vmware_ostype": "ubuntu64Guest", "vsphere_moref": "vm-1"},
        "created_at": datetime(2020, 1, 1),  # noqa: DTZ001 - as the columns hold it
    }
    return ImageRecord(**{**fields, **changes})


def properties(image: Any) -> dict[str, str]:
    return {one["name"]: one["value"] for one in image["properties"] if not one["deleted"]}


def test_glance_reads_the_image_of_a_template(images: GlanceImages, glance: Any) -> None:
    wanted = record()
    (outcome,) = images.apply([wanted])
    assert outcome.change is ImageChange.CREATED
    seen = glance.image_get(viewer(OWNER), wanted.id)
    assert (seen["name"], seen["status"], seen["visibility"]) == (wanted.name, "active", "shared")
    assert (seen["disk_format"], seen["container_format"]) == ("vmdk", "bare")
    assert (seen["size"], seen["min_disk"], seen["protected"]) == (40 * 1024**3, 40, True)
    assert properties(seen) == wanted.properties
    (location,) = seen["locations"]
    assert (location["url"], location["metadata"], location["status"]) == (
        wanted.location,
        {},
        "active",
    )


def test_the_right_projects_see_a_shared_image(images: GlanceImages, glance: Any) -> None:
    wanted = record()
    images.apply([wanted])
    for project, visible in ((OWNER, True), (FRIEND, True), (STRANGER, False)):
        listed = [one["id"] for one in glance.image_get_all(viewer(project))]
        assert (wanted.id in listed) is visible


def test_applying_the_same_again_writes_nothing(images: GlanceImages, database: Database) -> None:
    wanted = record()
    images.apply([wanted])
    writes: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT"):
            writes.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    (outcome,) = images.apply([wanted])
    event.remove(database.engine, "before_cursor_execute", note)
    assert outcome.change is ImageChange.NONE
    assert writes == []


def test_changes_of_a_template_follow_and_what_openstack_said_stays(
    images: GlanceImages, glance: Any
) -> None:
    wanted = record()
    images.apply([wanted])
    glance.image_update(
        viewer(OWNER, is_admin=True),
        wanted.id,
        {"visibility": "private", "properties": {**wanted.properties, "our_note": "keep"}},
        purge_props=False,
    )
    changed = dataclasses.replace(
        wanted,
        name="renamed",
        size_bytes=50 * 1024**3,
        location="vsphere://dbed6e0c/folder/elsewhere.vmdk",
        properties={"vsphere_moref": "vm-2"},
    )
    (outcome,) = images.apply([changed])
    assert outcome.change is ImageChange.UPDATED
    seen = glance.image_get(viewer(OWNER), wanted.id)
    assert (seen["name"], seen["size"], seen["visibility"]) == (
        "renamed",
        50 * 1024**3,
        "private",
    )
    assert properties(seen) == {"vsphere_moref": "vm-2", "our_note": "keep"}
    assert [one["url"] for one in seen["locations"]] == [changed.location]


def test_a_removed_template_leaves_what_glances_delete_leaves(
    images: GlanceImages, glance: Any, database: Database
) -> None:
    ours, theirs = record(), record()
    images.apply([ours, theirs])
    (outcome,) = images.remove([ours.id])
    assert outcome.change is ImageChange.REMOVED
    admin = viewer(OWNER, is_admin=True)
    glance.image_update(admin, theirs.id, {"protected": False, "status": "deleted"})
    glance.image_destroy(admin, theirs.id)
    with database.read() as connection:
        rows = {
            row["id"]: (row["status"], row["deleted"], row["deleted_at"] is not None)
            for row in connection.execute(select(IMAGES)).mappings()
        }
        assert rows[ours.id] == rows[theirs.id] == ("deleted", True, True)
        for table in (PROPERTIES, LOCATIONS):
            left = connection.execute(
                select(table.c.id).where(table.c.image_id == ours.id, table.c.deleted.is_(False))
            ).all()
            assert left == []
    assert images.remove([ours.id])[0].change is ImageChange.ABSENT


def test_a_template_that_comes_back_has_its_image_back(images: GlanceImages, glance: Any) -> None:
    wanted = record()
    images.apply([wanted])
    images.remove([wanted.id])
    (outcome,) = images.apply([dataclasses.replace(wanted, name="back")])
    assert outcome.change is ImageChange.CREATED
    seen = glance.image_get(viewer(FRIEND), wanted.id)
    assert (seen["name"], seen["status"]) == ("back", "active")
    assert properties(seen) == wanted.properties
    assert len(seen["locations"]) == 1


def test_one_poisonous_template_does_not_hold_up_the_others(images: GlanceImages) -> None:
    batch = [record() for _ in range(5)]
    batch[2] = dataclasses.replace(batch[2], name="\U0001f600")
    outcomes = images.apply(batch)
    assert [one.change for one in outcomes].count(ImageChange.CREATED) == 4
    assert outcomes[2].change is ImageChange.REFUSED


def test_where_glance_encrypts_locations_an_image_has_none(database: Database, glance: Any) -> None:
    wanted = record()
    images = GlanceImages(database, with_locations=False)
    images.apply([wanted])
    assert images.apply([wanted])[0].change is ImageChange.NONE
    assert glance.image_get(viewer(OWNER), wanted.id)["locations"] == []


def test_the_image_of_servers_of_unknown_origin_is_found_by_id_and_in_no_list(
    images: GlanceImages, glance: Any
) -> None:
    vcenter = str(uuid.uuid4())
    images.provide_unknown(vcenter)
    images.provide_unknown(vcenter)
    seen = glance.image_get(viewer(STRANGER), mapping.unknown_image_id(vcenter))
    assert (seen["name"], seen["status"], seen["protected"]) == (
        "not known to OpenStack",
        "active",
        True,
    )
    hidden = glance.image_get_all(viewer(STRANGER), filters={"os_hidden": False})
    assert seen["id"] not in {one["id"] for one in hidden}
