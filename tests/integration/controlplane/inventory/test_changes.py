"""Every kind of change in vCenter follows, and no change alters what is OpenStack's."""

import json

import pytest
import sqlalchemy

from controlplane.domain.records import Announced
from controlplane.store.nova.tables import INFO_CACHES, INSTANCE_EXTRA
from tests.support.generated_vcenter import GIB, GeneratedVCenter, Reference
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import PROJECT, SHOP_PROJECT, InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(clusters=2, machines=3)


@pytest.fixture
def edge(stage: InventoryStage, site: GeneratedVCenter) -> FeedEdge:
    edge = stage.edge(site)
    edge.synchronise()
    return edge


@pytest.mark.parametrize(
    ("power", "vm_state", "power_state"),
    [
        (inventory_pb2.POWER_STATE_OFF, "stopped", 4),
        (inventory_pb2.POWER_STATE_SUSPENDED, "suspended", 7),
    ],
)
def test_power_change_follows_and_back(
    stage: InventoryStage,
    site: GeneratedVCenter,
    edge: FeedEdge,
    power: int,
    vm_state: str,
    power_state: int,
) -> None:
    uuid = site.instance_uuid("vm-1")

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", power)))
    row = stage.row(uuid)
    assert (row["vm_state"], row["power_state"]) == (vm_state, power_state)

    on = inventory_pb2.POWER_STATE_ON
    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", on)))
    row = stage.row(uuid)
    assert (row["vm_state"], row["power_state"]) == ("active", 1)


def test_whoever_keeps_quota_hears_of_every_project_that_a_change_adopts_into(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    assert set(stage.told.projects) == {PROJECT}
    stage.told.projects.clear()
    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "name", "not adopted again")))
    assert stage.told.projects == []
    edge.changes(site.add_folder("group-shop", "shop", "group-v1"))
    edge.changes(site.add_machine("vm-9", folder="group-shop"))
    assert stage.told.projects == [SHOP_PROJECT]


def test_rename_and_new_hardware_follow(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    def grow(machine: inventory_pb2.VirtualMachine) -> None:
        machine.name, machine.cpus, machine.memory_mb = "renamed", 8, 16384
        disk = machine.disks.add()
        disk.CopyFrom(machine.disks[0])
        disk.key, disk.capacity_bytes, disk.file_name = 2001, 100 * GIB, "[datastore1] more.vmdk"

    edge.changes(site.change_machine("vm-2", grow))

    row = stage.row(site.instance_uuid("vm-2"))
    assert (row["display_name"], row["vcpus"], row["memory_mb"]) == ("renamed", 8, 16384)
    assert (row["root_gb"], row["ephemeral_gb"]) == (40, 100)
    assert _flavor(stage, row["uuid"])["vcpus"] == 8
    (cluster,) = [c for c in stage.clusters(site) if c.moref == "domain-c1"]
    resources = stage.queries.resources(cluster.compute_host)
    assert resources is not None
    assert (resources.cpus_used, resources.disk_gb_used) == (12, 220)


def test_address_reported_by_the_guest_follows(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    def move(machine: inventory_pb2.VirtualMachine) -> None:
        machine.nics[0].ip_addresses[:] = ["192.0.2.7", "2001:db8::7"]

    edge.changes(site.change_machine("vm-1", move))

    assert _addresses(stage, site.instance_uuid("vm-1")) == {"192.0.2.7", "2001:db8::7"}


def test_new_machine_appears_at_once(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.add_machine("vm-new"))

    assert stage.row(site.instance_uuid("vm-new"))["vm_state"] == "active"
    assert (Announced.CREATE, site.instance_uuid("vm-new")) in stage.told.said


def test_vmotion_between_clusters_changes_the_host_and_keeps_the_rest(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    before = stage.row(site.instance_uuid("vm-1"))
    stage.change_row(before["uuid"], display_description="somebody's words", key_name="key")

    edge.changes(site.change_machine("vm-1", _move_to_second_cluster))

    after = stage.row(before["uuid"])
    hosts = {row.moref: row.compute_host for row in stage.clusters(site)}
    assert before["host"] == hosts["domain-c1"]
    assert after["host"] == hosts["domain-c2"]
    assert after["node"] == f"domain-c2.{site.vcenter_uuid}"
    assert (after["display_description"], after["key_name"]) == ("somebody's words", "key")
    assert (after["id"], after["project_id"]) == (before["id"], PROJECT)
    _, location = stage.queries.subject(before["host"], before["uuid"])
    assert location is not None
    assert location.cluster.value == "domain-c2"


def test_move_to_a_folder_of_another_project_keeps_the_project(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.add_folder("group-shop", "shop", "group-v1"))

    edge.changes(
        site.change_machine("vm-1", lambda m: setattr(m.folder, "value", "group-shop")),
        site.add_machine("vm-9", folder="group-shop"),
    )

    assert stage.row(site.instance_uuid("vm-1"))["project_id"] == PROJECT
    assert stage.row(site.instance_uuid("vm-9"))["project_id"] == SHOP_PROJECT


def test_folder_whose_name_has_a_slash_is_not_below_the_one_before_the_slash(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.add_folder("group-other", "shop/other", "group-v1"))
    edge.changes(site.add_machine("vm-9", folder="group-other"))
    assert stage.row(site.instance_uuid("vm-9"))["project_id"] == PROJECT


def test_machine_moved_to_an_unmanaged_cluster_is_unmanaged_not_deleted(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    uuid = site.instance_uuid("vm-1")

    edge.changes(site.remove("VirtualMachine:vm-1", link_pb2.REMOVAL_REASON_UNMANAGED))

    assert uuid not in stage.servers_of(site)
    assert (Announced.UNMANAGE, uuid) in stage.told.said
    assert (Announced.DELETE, uuid) not in stage.told.said


def test_machine_that_comes_back_has_its_server_again(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    uuid = site.instance_uuid("vm-1")
    identifier = stage.row(uuid)["id"]
    edge.changes(site.remove("VirtualMachine:vm-1", link_pb2.REMOVAL_REASON_UNMANAGED))

    edge.changes(site.add_machine("vm-77", instance_uuid=uuid))

    assert stage.servers_of(site)[uuid]["id"] == identifier
    machine = stage.queries.virtual_machine(uuid)
    assert machine is not None
    assert machine.reference.value == "vm-77"


def test_machine_deleted_in_vcenter_deletes_its_server(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    uuid = site.instance_uuid("vm-1")

    edge.changes(site.remove("VirtualMachine:vm-1"))

    assert uuid not in stage.servers_of(site)
    assert (Announced.DELETE, uuid) in stage.told.said
    assert stage.told.released == [uuid]
    assert edge.synchronise() == 0


def test_template_and_back_changes_tables_not_identity(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    uuid = site.instance_uuid("vm-3")
    identifier = stage.row(uuid)["id"]

    edge.changes(site.convert("vm-3", template=True))
    assert uuid not in stage.servers_of(site)
    (image,) = stage.images_of(site)

    edge.changes(site.convert("vm-3", template=False))
    assert stage.servers_of(site)[uuid]["id"] == identifier
    assert stage.images_of(site) == []

    edge.changes(site.convert("vm-3", template=True))
    assert stage.images_of(site)[0].id == image.id


def test_template_that_comes_and_goes_within_a_second_is_followed(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    for _ in range(3):
        edge.changes(site.convert("vm-3", template=True))
        assert len(stage.images_of(site)) == 1
        edge.changes(site.convert("vm-3", template=False))
        assert stage.images_of(site) == []
    assert edge.nacks == {}


def test_renamed_network_is_renamed_in_every_server_on_it(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.change("Network:network-1", lambda o: setattr(o.network, "name", "blue")))

    def labels() -> set[str]:
        return {_label(stage, uuid) for uuid in stage.servers_of(site)}

    stage.eventually(lambda: labels() == {"blue"}, "new label")


def test_renamed_cluster_keeps_its_compute_host(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    before = {row.moref: row for row in stage.clusters(site)}
    key = "ClusterComputeResource:domain-c1"

    edge.changes(site.change(key, lambda o: setattr(o.cluster, "name", "production")))

    after = {row.moref: row for row in stage.clusters(site)}
    assert after["domain-c1"].name == "production"
    assert after["domain-c1"].compute_host == before["domain-c1"].compute_host
    assert after["domain-c1"].uuid == before["domain-c1"].uuid


def test_cluster_taken_from_management_and_given_back(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    (row,) = [c for c in stage.clusters(site) if c.moref == "domain-c2"]
    kept = {key: site.state(key) for key in site.objects}
    gone = ["ClusterComputeResource:domain-c2", *(f"VirtualMachine:vm-{n}" for n in (4, 5, 6))]
    before = stage.servers_of(site)

    edge.changes(*(site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED) for key in gone))

    assert len(stage.servers_of(site)) == 3
    assert ("gone", row.uuid) in stage.told.clusters
    assert stage.queries.cluster(row.compute_host) is None

    edge.changes(site.give_back(kept[gone[0]]))
    (found,) = [c for c in stage.clusters(site) if c.moref == "domain-c2"]
    assert (found.synchronised_at, found.allocations_at) == (None, None)

    for key in gone[1:]:
        site.give_back(kept[key])
    edge.synchronise()

    assert set(stage.servers_of(site)) == set(before)
    (again,) = [c for c in stage.clusters(site) if c.moref == "domain-c2"]
    assert (again.uuid, again.compute_host) == (row.uuid, row.compute_host)


def test_cluster_that_left_is_no_choice_for_nova_while_a_hidden_server_of_it_is_kept(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    (row,) = [c for c in stage.clusters(site) if c.moref == "domain-c2"]
    hidden = site.remove("VirtualMachine:vm-4", link_pb2.REMOVAL_REASON_HIDDEN)
    left = ["ClusterComputeResource:domain-c2", "VirtualMachine:vm-5", "VirtualMachine:vm-6"]
    edge.changes(hidden, *(site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED) for key in left))

    assert site.instance_uuid("vm-4") in stage.servers_of(site)
    assert stage.told.clusters[-1] == ("gone", row.uuid)

    before = stage.told.clusters.count(("gone", row.uuid))
    hidden.reason, hidden.revision = link_pb2.REMOVAL_REASON_DELETED, site.revision + 1
    edge.changes(hidden)

    assert len(stage.servers_of(site)) == 3
    assert stage.told.clusters.count(("gone", row.uuid)) == before + 1


def test_cluster_that_came_back_does_not_leave_with_its_last_server(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    key = "ClusterComputeResource:domain-c2"
    (row,) = [c for c in stage.clusters(site) if c.moref == "domain-c2"]
    cluster = site.state(key)
    hidden = site.remove("VirtualMachine:vm-4", link_pb2.REMOVAL_REASON_HIDDEN)
    edge.changes(hidden, site.remove(key, link_pb2.REMOVAL_REASON_UNMANAGED))
    edge.changes(site.give_back(cluster))
    told = stage.told.clusters.count(("gone", row.uuid))

    others = [f"VirtualMachine:vm-{number}" for number in (5, 6)]
    edge.changes(*map(site.remove, others))
    hidden.reason, hidden.revision = link_pb2.REMOVAL_REASON_DELETED, site.revision + 1
    edge.changes(hidden)

    assert len(stage.servers_of(site)) == 3
    assert stage.told.clusters.count(("gone", row.uuid)) == told


def test_host_in_maintenance_lowers_the_totals(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    (row,) = [c for c in stage.clusters(site) if c.moref == "domain-c1"]
    found = stage.told.clusters.count(("found", row.uuid))

    edge.changes(
        site.change("HostSystem:host-1-1", lambda o: setattr(o.host, "in_maintenance_mode", True))
    )

    resources = stage.queries.resources(row.compute_host)
    assert resources is not None
    assert resources.cpus == 96
    assert stage.told.clusters.count(("found", row.uuid)) == found + 1


@pytest.mark.parametrize(
    ("field", "value", "disk_gb"),
    [
        ("capacity_bytes", 20_000 * GIB, 20_000),
        ("accessible", False, 0),
        ("in_maintenance_mode", True, 0),
    ],
)
def test_datastore_that_changes_changes_the_totals_of_all_that_mount_it(
    stage: InventoryStage,
    site: GeneratedVCenter,
    edge: FeedEdge,
    field: str,
    value: object,
    disk_gb: int,
) -> None:
    edge.changes(site.change("Datastore:datastore-1", lambda o: setattr(o.datastore, field, value)))

    assert [stage.node(row.compute_host)["local_gb"] for row in stage.clusters(site)] == [
        disk_gb, disk_gb,
    ]  # fmt: skip


def test_free_space_tells_nobody_that_a_cluster_changed(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    def found() -> int:
        return sum(kind == "found" for kind, _ in stage.told.clusters)

    before = found()
    edge.changes(
        site.change("Datastore:datastore-1", lambda o: setattr(o.datastore, "free_bytes", GIB))
    )
    assert found() == before


def test_template_that_no_managed_cluster_mounts_has_no_image(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    elsewhere = Reference(type="Datastore", value="datastore-9")

    def unmount(one: inventory_pb2.InventoryObject) -> None:
        one.cluster.datastores[0].CopyFrom(elsewhere)

    edge.changes(site.convert("vm-3", template=True))
    assert len(stage.images_of(site)) == 1

    for number in (1, 2):
        edge.changes(site.change(f"ClusterComputeResource:domain-c{number}", unmount))

    stage.eventually(lambda: stage.images_of(site) == [], "end of the image")


def test_operation_result_is_taken_like_a_change_and_never_over_a_later_one(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    off, on = inventory_pb2.POWER_STATE_OFF, inventory_pb2.POWER_STATE_ON
    uuid = site.instance_uuid("vm-1")
    older = site.change_machine("vm-1", lambda m: setattr(m, "power_state", off))
    later = site.change_machine("vm-1", lambda m: setattr(m, "cpus", 4))

    stage.inventory.observed(site.vcenter_uuid, later)
    stage.eventually(lambda: stage.row(uuid)["vcpus"] == 4, "result")
    stage.inventory.observed(site.vcenter_uuid, older)
    marker = site.change_machine("vm-2", lambda m: setattr(m, "power_state", off))
    stage.inventory.observed(site.vcenter_uuid, marker)
    stage.eventually(lambda: _stopped(stage, site.instance_uuid("vm-2")), "second result")

    assert stage.row(uuid)["vcpus"] == 4
    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", on)))
    assert edge.synchronise() == 0


def _move_to_second_cluster(machine: inventory_pb2.VirtualMachine) -> None:
    machine.cluster.value = "domain-c2"
    machine.host.value = "host-2-1"
    machine.resource_pool.value = "resgroup-2"


def _stopped(stage: InventoryStage, uuid: str) -> bool:
    return bool(stage.row(uuid)["vm_state"] == "stopped")


def _flavor(stage: InventoryStage, uuid: str) -> dict[str, int]:
    query = sqlalchemy.select(INSTANCE_EXTRA.c.flavor).where(INSTANCE_EXTRA.c.instance_uuid == uuid)
    with stage.nova.cell.read() as connection:
        primitive = json.loads(connection.execute(query).scalar_one())
    flavor: dict[str, int] = primitive["cur"]["nova_object.data"]
    return flavor


def _network_info(stage: InventoryStage, uuid: str) -> list[dict[str, dict[str, object]]]:
    query = sqlalchemy.select(INFO_CACHES.c.network_info).where(INFO_CACHES.c.instance_uuid == uuid)
    with stage.nova.cell.read() as connection:
        vifs: list[dict[str, dict[str, object]]] = json.loads(
            connection.execute(query).scalar_one()
        )
    return vifs


def _label(stage: InventoryStage, uuid: str) -> str:
    return str(_network_info(stage, uuid)[0]["network"]["label"])


def _addresses(stage: InventoryStage, uuid: str) -> set[str]:
    found = json.dumps(_network_info(stage, uuid))
    return {address for address in ("192.0.2.7", "2001:db8::7") if address in found}
