"""Verification of a real pipeline's rows: it finds nothing, and every row that is tampered with."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy

from common.timestamps import naive_utc
from controlplane.store.glance.tables import IMAGES, LOCATIONS, MEMBERS, PROPERTIES
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    COMPUTE_NODES,
    HOST_MAPPINGS,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCE_MAPPINGS,
    INSTANCES,
    METADATA,
    REQUEST_SPECS,
    SERVICES,
    SYSTEM_METADATA,
)
from controlplane.store.own.schema import clusters, images, objects, servers
from controlplane.verification.findings import Place
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2

Work = Callable[[InventoryStage, GeneratedVCenter], None]


@pytest.fixture
def site(stage: InventoryStage) -> GeneratedVCenter:
    """A site that is synchronised: servers, a template, machines that are odd."""
    site = GeneratedVCenter(clusters=2, machines=3)
    site.convert("vm-2", template=True)
    site.change_machine("vm-3", lambda machine: setattr(machine, "name", "Grüße \U0001f600 %2f"))
    site.change_machine("vm-4", lambda machine: machine.ClearField("disks"))
    site.change_machine("vm-5", lambda machine: machine.ClearField("nics"))
    site.change_machine("vm-6", lambda machine: machine.managed_by.MergeFrom(MANAGED))
    stage.edge(site).synchronise()
    return site


MANAGED = inventory_pb2.ManagedBy(extension_key="com.vmware.vcDr")


def fields(stage: InventoryStage, site: GeneratedVCenter) -> set[tuple[str, str, str]]:
    return {
        (one.place.value, one.subject.object, one.field) for one in stage.look(site).differences
    }


def test_nothing_differs_after_a_first_sync(stage: InventoryStage, site: GeneratedVCenter) -> None:
    found = stage.look(site)
    assert found.differences == []
    assert found.excuses == []
    assert found.counts[Place.VCENTER, "virtual_machine"] == 5
    assert found.counts[Place.OWN, "template"] == 1
    assert found.counts[Place.NOVA_CELL, "server"] == 4
    assert found.counts[Place.NOVA_API, "server"] == 4
    assert found.counts[Place.NOVA_CELL, "compute_host"] == 2
    assert found.counts[Place.GLANCE, "image"] == 1


@dataclass(frozen=True)
class Tampering:
    """One thing that somebody does to one row, and the field that must be named."""

    field: str
    table: sqlalchemy.Table
    values: dict[str, Any] | None
    """None deletes the row."""
    place: str = "nova-cell"
    where: str = "instance_uuid"
    also: Callable[[sqlalchemy.Table], Any] | None = None


def key_is(key: str) -> Callable[[sqlalchemy.Table], Any]:
    return lambda table: table.c.key == key


ROWS = [
    *(
        Tampering(f"instances.{name}", INSTANCES, {name: value}, where="uuid")
        for name, value in {
            "project_id": "f" * 32,
            "user_id": "f" * 32,
            "display_name": "altered",
            "host": "another",
            "node": "another",
            "compute_id": 4711,
            "vm_state": "stopped",
            "power_state": 4,
            "vcpus": 99,
            "memory_mb": 99,
            "root_gb": 99,
            "ephemeral_gb": 99,
            "instance_type_id": 1,
            "root_device_name": "/dev/xyz",
            "disable_terminate": True,
            "reservation_id": "r-altered",
        }.items()
    ),
    Tampering("instances", INSTANCES, {"deleted": 4711}, where="uuid"),
    Tampering("instances.launched_at is set", INSTANCES, {"launched_at": None}, where="uuid"),
    Tampering("instance_extra rows", INSTANCE_EXTRA, None),
    Tampering("instance_extra.flavor", INSTANCE_EXTRA, {"flavor": "{}"}),
    Tampering("instance_info_caches rows", INFO_CACHES, None),
    Tampering("instance_info_caches.network_info 00:50:56", INFO_CACHES, {"network_info": "[]"}),
    Tampering("instance_info_caches.network_info", INFO_CACHES, {"network_info": None}),
    Tampering(
        "instance_metadata.vsphere:host",
        METADATA,
        {"value": "another"},
        also=key_is("vsphere:host"),
    ),
    Tampering("instance_metadata.vsphere:moref", METADATA, None, also=key_is("vsphere:moref")),
    Tampering(
        "instance_metadata.vsphere:odd",
        METADATA,
        {"key": "vsphere:odd"},
        also=key_is("vsphere:guest_id"),
    ),
    Tampering(
        "instance_system_metadata.image_base_image_ref",
        SYSTEM_METADATA,
        {"value": "another"},
        also=key_is("image_base_image_ref"),
    ),
    Tampering("block_device_mapping /dev/sda", BLOCK_DEVICES, None),
    Tampering("block_device_mapping /dev/sda volume_size", BLOCK_DEVICES, {"volume_size": 1}),
    Tampering("block_device_mapping /dev/sda boot_index", BLOCK_DEVICES, {"boot_index": 7}),
    Tampering("block_device_mapping /dev/sda disk_bus", BLOCK_DEVICES, {"disk_bus": "ide"}),
    Tampering("block_device_mapping /dev/sda source_type", BLOCK_DEVICES, {"source_type": "blank"}),
    Tampering("instance_mappings", INSTANCE_MAPPINGS, None, "nova-api"),
    Tampering(
        "instance_mappings.project_id", INSTANCE_MAPPINGS, {"project_id": "f" * 32}, "nova-api"
    ),
    Tampering(
        "instance_mappings.queued_for_delete",
        INSTANCE_MAPPINGS,
        {"queued_for_delete": True},
        "nova-api",
    ),
    Tampering("request_specs", REQUEST_SPECS, None, "nova-api"),
    Tampering("request_specs.spec", REQUEST_SPECS, {"spec": "{"}, "nova-api"),
    *(
        Tampering(f"servers.{name}", servers, {name: value}, "own", "uuid")
        for name, value in {
            "instance_uuid": "another",
            "cluster_uuid": "another",
            "name": "altered",
            "cpus": 99,
            "memory_mb": 99,
            "disk_gb": 99,
        }.items()
    ),
    Tampering("servers", servers, None, "own", "uuid"),
]


def execute(stage: InventoryStage, place: str, statement: Any) -> None:
    database = {
        "nova-cell": stage.nova.cell,
        "nova-api": stage.nova.api,
        "own": stage.own,
        "glance": stage.glance,
    }[place]
    count = database.run(lambda connection: connection.execute(statement).rowcount)
    assert count == 1


def statement_of(one: Tampering, uuid: str) -> Any:
    statement = one.table.delete() if one.values is None else one.table.update()
    statement = statement.where(one.table.c[one.where] == uuid)
    if one.also is not None:
        statement = statement.where(one.also(one.table))
    return statement if one.values is None else statement.values(one.values)


@pytest.mark.parametrize("one", ROWS, ids=lambda one: f"{one.field} {one.values and [*one.values]}")
def test_every_row_of_a_server_that_is_tampered_with_is_named(
    stage: InventoryStage, site: GeneratedVCenter, one: Tampering
) -> None:
    execute(stage, one.place, statement_of(one, site.instance_uuid("vm-1")))
    found = stage.look(site).differences
    named = [each for each in found if each.subject.object == "VirtualMachine:vm-1"]
    assert any(
        each.place.value == one.place and each.field.startswith(one.field) for each in named
    ), named
    strangers = {each.subject.object for each in found} - {"VirtualMachine:vm-1"}
    assert strangers <= {f"server:{site.instance_uuid('vm-1')}"}
    assert named[0].subject.name == "server vm-1"


def test_rows_of_an_image_that_are_tampered_with_are_named(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    (image,) = stage.images_of(site)
    template = "VirtualMachine:vm-2"
    altered = {"name": "altered", "size": 1, "min_disk": 1, "protected": False}
    for name, value in (altered | {"owner": "f" * 32, "visibility": "private"}).items():
        execute(
            stage, "glance", IMAGES.update().where(IMAGES.c.id == image.id).values({name: value})
        )
        assert ("glance", template, f"images.{name}") in fields(stage, site)
    moref = (PROPERTIES.c.image_id == image.id) & (PROPERTIES.c.name == "vsphere_moref")
    execute(stage, "glance", PROPERTIES.update().where(moref).values(value="vm-0"))
    execute(stage, "glance", MEMBERS.delete().where(MEMBERS.c.image_id == image.id))
    execute(stage, "glance", LOCATIONS.delete().where(LOCATIONS.c.image_id == image.id))
    execute(stage, "own", images.update().where(images.c.id == image.id).values(name="altered"))
    found = fields(stage, site)
    assert ("glance", template, "image_properties.vsphere_moref") in found
    assert ("glance", template, "image_locations") in found
    assert ("glance", template, "image_members") in found
    assert ("own", template, "images.name") in found
    execute(stage, "own", images.delete().where(images.c.id == image.id))
    found = fields(stage, site)
    assert ("own", template, "images") in found
    assert ("glance", f"image:{image.id}", "images") in found


def test_rows_of_a_compute_host_that_are_tampered_with_are_named(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    host = next(row.compute_host for row in stage.clusters(site) if row.moref == "domain-c1")
    cluster = "ClusterComputeResource:domain-c1"
    node = COMPUTE_NODES.c.host == host
    execute(stage, "nova-cell", COMPUTE_NODES.update().where(node).values(hypervisor_hostname="x"))
    assert ("nova-cell", cluster, "compute_nodes.hypervisor_hostname") in fields(stage, site)
    execute(stage, "nova-cell", COMPUTE_NODES.update().where(node).values(deleted=4711))
    execute(stage, "nova-cell", SERVICES.update().where(SERVICES.c.host == host).values(deleted=1))
    execute(stage, "nova-api", HOST_MAPPINGS.delete().where(HOST_MAPPINGS.c.host == host))
    execute(stage, "own", clusters.update().where(clusters.c.compute_host == host).values(name="x"))
    assert fields(stage, site) == {
        ("nova-cell", cluster, "compute_nodes rows"),
        ("nova-cell", cluster, "services rows"),
        ("nova-api", cluster, "host_mappings.cell_id"),
        ("own", cluster, "clusters.name"),
    }


@pytest.mark.parametrize("name", ["vcpus", "memory_mb", "local_gb"])
def test_total_of_a_compute_node_that_is_tampered_with_is_named(
    stage: InventoryStage, site: GeneratedVCenter, name: str
) -> None:
    host = next(row.compute_host for row in stage.clusters(site) if row.moref == "domain-c1")
    altered = COMPUTE_NODES.update().where(COMPUTE_NODES.c.host == host).values({name: 4711})
    execute(stage, "nova-cell", altered)
    cluster = "ClusterComputeResource:domain-c1"
    assert fields(stage, site) == {("nova-cell", cluster, f"compute_nodes.{name}")}


def test_totals_count_what_is_usable_now(stage: InventoryStage, site: GeneratedVCenter) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    edge.changes(
        site.change("HostSystem:host-1-1", lambda one: setattr(one.host, "powered_on", False)),
        site.change("Datastore:datastore-1", lambda one: setattr(one.datastore, "accessible", 0)),
    )
    found = stage.look(site)
    assert found.differences == []
    assert found.excuses == []


def test_totals_are_not_compared_while_a_part_of_the_cluster_is_held_otherwise(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    key = "Datastore:datastore-1"
    site.change(key, lambda one: setattr(one.datastore, "capacity_bytes", 1 << 40))
    found = stage.look(site)
    assert {one.subject.object for one in found.differences} == {key}
    assert {one.subject.object for one in found.excuses} == {
        "ClusterComputeResource:domain-c1", "ClusterComputeResource:domain-c2",
    }  # fmt: skip


@pytest.fixture
def former(stage: InventoryStage, site: GeneratedVCenter) -> str:
    """The compute host of a cluster that left management long ago."""
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    row = next(row for row in stage.clusters(site) if row.moref == "domain-c2")
    gone = [CLUSTER_2, *(f"VirtualMachine:vm-{number}" for number in (4, 5, 6))]
    edge.changes(*(site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED) for key in gone))
    long_ago = clusters.update().where(clusters.c.uuid == row.uuid)
    execute(stage, "own", long_ago.values(updated_at=row.created_at - timedelta(hours=1)))
    return row.compute_host


CLUSTER_2 = "ClusterComputeResource:domain-c2"


def test_cluster_that_left_is_no_compute_host(
    stage: InventoryStage, site: GeneratedVCenter, former: str
) -> None:
    found = stage.look(site)
    assert found.differences == []
    assert found.excuses == []
    assert found.counts[Place.NOVA_CELL, "former_compute_host"] == 1
    alive = {"deleted": 0, "disabled": True}
    service = SERVICES.update().where(SERVICES.c.host == former)
    execute(stage, "nova-cell", service.values(alive))
    assert fields(stage, site) == {("nova-cell", CLUSTER_2, "services rows")}
    execute(stage, "nova-cell", service.values(deleted=4711))
    node = COMPUTE_NODES.update().where(COMPUTE_NODES.c.host == former)
    execute(stage, "nova-cell", node.values(deleted=0))
    assert fields(stage, site) == {("nova-cell", CLUSTER_2, "compute_nodes rows")}
    execute(stage, "nova-cell", node.values(deleted=4711))
    mapping = HOST_MAPPINGS.insert().values(host=former, cell_id=stage.nova.cell_id)
    execute(stage, "nova-api", mapping)
    assert fields(stage, site) == {("nova-api", CLUSTER_2, "host_mappings rows")}


def test_cluster_that_left_has_its_compute_host_while_a_server_of_it_is_kept(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    edge.changes(site.remove("VirtualMachine:vm-4", link_pb2.REMOVAL_REASON_HIDDEN))
    gone = [CLUSTER_2, "VirtualMachine:vm-5", "VirtualMachine:vm-6"]
    edge.changes(*(site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED) for key in gone))
    found = stage.look(site)
    assert found.differences == []
    assert [one.subject.object for one in found.excuses] == ["VirtualMachine:vm-4"]
    (row,) = [one for one in stage.clusters(site) if one.moref == "domain-c2"]
    service = SERVICES.update().where(SERVICES.c.host == row.compute_host)
    execute(stage, "nova-cell", service.values(disabled=False))
    assert fields(stage, site) == {("nova-cell", CLUSTER_2, "services.disabled")}


def test_cluster_that_left_has_its_compute_host_while_a_server_of_it_waits_for_its_successor(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    uuid = site.machine("vm-4").instance_uuid
    edge.changes(site.add_machine("successor", cluster="domain-c1", instance_uuid=uuid))
    edge.changes(site.remove("VirtualMachine:successor", link_pb2.REMOVAL_REASON_HIDDEN))
    edge.changes(site.remove("VirtualMachine:vm-4", link_pb2.REMOVAL_REASON_DELETED))
    gone = [CLUSTER_2, "VirtualMachine:vm-5", "VirtualMachine:vm-6"]
    edge.changes(*(site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED) for key in gone))
    found = stage.look(site)
    assert found.differences == []
    excused = {one.subject.object for one in found.excuses}
    assert excused == {"VirtualMachine:vm-4", "VirtualMachine:successor"}


def test_compute_host_of_a_cluster_that_has_just_left_may_be_there_but_disabled(
    stage: InventoryStage, site: GeneratedVCenter, former: str
) -> None:
    execute(
        stage,
        "own",
        clusters.update()
        .where(clusters.c.compute_host == former)
        .values(updated_at=naive_utc(time.time())),
    )
    service = SERVICES.update().where(SERVICES.c.host == former)
    execute(stage, "nova-cell", service.values(deleted=0, disabled=True))
    found = stage.look(site)
    assert found.differences == []
    assert [one.subject.object for one in found.excuses] == [CLUSTER_2]
    execute(stage, "nova-cell", service.values(disabled=False))
    assert fields(stage, site) == {("nova-cell", CLUSTER_2, "services.disabled")}


def test_what_is_held_differently_is_named(stage: InventoryStage, site: GeneratedVCenter) -> None:
    folder = objects.c.reference == "Folder:group-web"
    execute(stage, "own", objects.update().where(folder).values(content_hash=bytes(16)))
    assert fields(stage, site) == {("own", "Folder:group-web", "objects.content_hash")}
    execute(stage, "own", objects.delete().where(folder))
    assert fields(stage, site) == {("own", "Folder:group-web", "objects")}


def test_free_space_is_not_compared_and_all_else_of_a_datastore_is(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    key = "Datastore:datastore-1"
    site.change(key, lambda one: setattr(one.datastore, "free_bytes", 1))
    assert stage.look(site).differences == []
    site.change(key, lambda one: setattr(one.datastore, "shared", False))
    assert fields(stage, site) == {("own", key, "objects.content_hash")}
    site.change(key, lambda one: setattr(one.datastore, "shared", True))
    assert stage.look(site).differences == []
    altered = objects.update().where(objects.c.reference == key).values(content_hash=bytes(16))
    execute(stage, "own", altered)
    assert fields(stage, site) == {("own", key, "objects.content_hash")}


def test_what_vcenter_has_and_nobody_told_is_named(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    site.add_machine("vm-new")
    assert fields(stage, site) == {("own", "VirtualMachine:vm-new", "objects")}


def test_what_vcenter_has_no_more_and_nobody_told_is_named(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    site.remove("VirtualMachine:vm-1")
    site.remove("VirtualMachine:vm-2")
    assert fields(stage, site) == {
        ("own", "VirtualMachine:vm-1", "objects"),
        ("own", "VirtualMachine:vm-1", "servers"),
        ("own", "VirtualMachine:vm-2", "objects"),
        ("own", "VirtualMachine:vm-2", "images"),
    }


def test_server_that_nothing_stands_behind_is_named(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    uuid = site.instance_uuid("vm-1")
    stranger = "5b9e1f6e-0000-4000-8000-000000000001"
    row = {**stage.row(uuid), "uuid": stranger, "display_name": "stranger"}
    del row["id"]
    execute(stage, "nova-cell", INSTANCES.insert().values(row))
    assert fields(stage, site) == {("nova-cell", f"server:{stranger}", "instances")}
    stage.change_row(stranger, reservation_id="r-abc", vm_state="building", task_state="spawning")
    assert stage.look(site).differences == []
    stage.change_row(stranger, vm_state="error", task_state=None)
    found = stage.look(site)
    assert found.differences == []
    assert [one.subject.object for one in found.excuses] == [f"server:{stranger}"]


def test_server_that_nova_works_on_is_excused(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    uuid = site.instance_uuid("vm-1")
    stage.change_row(uuid, task_state="powering-off", power_state=4, vm_state="stopped")
    found = stage.look(site)
    assert found.differences == []
    assert [one.reason for one in found.excuses] == ["Nova works on its server: powering-off"]


def test_hardware_of_a_server_that_nova_resizes_is_excused(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    stage.change_row(site.instance_uuid("vm-1"), vm_state="resized", vcpus=99)
    found = stage.look(site)
    assert found.differences == []
    assert [one.reason for one in found.excuses] == ["its hardware is Nova's while it is resized"]


def test_what_openstack_owns_is_not_compared(stage: InventoryStage, site: GeneratedVCenter) -> None:
    uuid = site.instance_uuid("vm-1")
    stage.change_row(uuid, key_name="mine", locked=True, locked_by="admin", hostname="x")
    execute(stage, "nova-cell", METADATA.insert().values(instance_uuid=uuid, key="mine", value="1"))
    (image,) = stage.images_of(site)
    friend = {"image_id": image.id, "member": "f" * 32, "can_share": False, "status": "pending"}
    now = {"created_at": naive_utc(time.time()), "deleted": False}
    execute(stage, "glance", MEMBERS.insert().values(**friend, **now))
    assert stage.look(site).differences == []


def test_image_is_compared_with_what_was_decided_when_it_came(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    (before,) = stage.images_of(site)
    edge.changes(site.add_folder("group-shop", "shop", "group-v1"))

    def move(one: inventory_pb2.InventoryObject) -> None:
        one.template.folder.value, one.template.name = "group-shop", "moved"

    edge.changes(site.change("VirtualMachine:vm-2", move))
    (after,) = stage.images_of(site)
    assert (after.name, after.owner) == ("moved", before.owner)
    found = stage.look(site)
    assert found.differences == []
    assert found.excuses == []
    given = IMAGES.update().where(IMAGES.c.id == after.id).values(owner="f" * 32)
    execute(stage, "glance", given)
    edge.changes(site.change("VirtualMachine:vm-2", lambda one: setattr(one.template, "name", "x")))
    assert fields(stage, site) == {("glance", "VirtualMachine:vm-2", "images.owner")}


def test_what_is_hidden_is_excused(stage: InventoryStage, site: GeneratedVCenter) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    key = "VirtualMachine:vm-1"
    edge.changes(site.remove(key, link_pb2.REMOVAL_REASON_HIDDEN))
    found = stage.look(site)
    assert found.differences == []
    assert [one.subject.object for one in found.excuses] == [key]


def test_duplicate_that_is_contested_is_excused(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site, epoch=2)
    edge.synchronise()
    edge.changes(site.add_machine("vm-9", instance_uuid=site.instance_uuid("vm-1")))
    found = stage.look(site)
    assert found.differences == []
    (excuse,) = found.excuses
    assert "DUPLICATE_INSTANCE_UUID" in excuse.reason


def test_what_an_earlier_process_left_is_compared_soon_after_the_start(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    stage.stop()
    folder = METADATA.update().where(
        METADATA.c.instance_uuid == site.instance_uuid("vm-1"), METADATA.c.key == "vsphere:folder"
    )
    execute(stage, "nova-cell", folder.values(value="before it was renamed"))
    assert stage.look(site).differences != []
    stage.start()
    stage.edge(site, epoch=2).synchronise()
    stage.eventually(lambda: not stage.look(site).differences, "comparison", 15.0)
