"""From nothing to parity, and nothing written twice."""

import uuid
from collections.abc import Callable

from controlplane.domain.ports import MachineLocation
from controlplane.domain.records import AllocationRecord, Announced, HostAllocations
from controlplane.store.own import objects
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_stage import PROJECT, SHOP_PROJECT, USER, InventoryStage
from vsphere_gateway.v1 import inventory_pb2


def test_every_machine_becomes_a_server_of_its_clusters_compute_host(stage: InventoryStage) -> None:
    site = GeneratedVCenter(clusters=2, machines=5)

    edge = stage.edge(site)
    edge.synchronise()

    servers = stage.servers_of(site)
    assert set(servers) == {site.instance_uuid(f"vm-{n}") for n in range(1, 11)}
    hosts = {row.moref: row.compute_host for row in stage.clusters(site)}
    assert servers[site.instance_uuid("vm-1")]["host"] == hosts["domain-c1"]
    assert servers[site.instance_uuid("vm-10")]["host"] == hosts["domain-c2"]
    one = servers[site.instance_uuid("vm-3")]
    assert (one["project_id"], one["user_id"]) == (PROJECT, USER)
    assert (one["vm_state"], one["power_state"], one["display_name"]) == (
        "active",
        1,
        "server vm-3",
    )
    assert not edge.nacks


def test_cluster_is_announced_in_order_found_synchronised_allocated(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=2)

    stage.edge(site).synchronise()

    (cluster,) = stage.clusters(site)
    stage.eventually(lambda: ("allocated", cluster.uuid) in stage.told.clusters, "allocations")
    news = [what for what, uuid_ in stage.told.clusters if uuid_ == cluster.uuid]
    assert news[0] == "found"
    assert news.index("found") < news.index("synchronised")
    assert {one.provider_uuid for one in stage.told.allocations.values()} == {
        cluster.compute_node_uuid
    }


def test_changes_do_not_wait_until_all_that_placement_should_hold_is_read(
    stage: InventoryStage,
) -> None:
    site = GeneratedVCenter(clusters=2, machines=3)
    readings: list[Callable[[], HostAllocations]] = []
    stage.told.reconcile = lambda _provider, reading, _done: readings.append(reading)  # type: ignore[method-assign]
    read: list[str] = []
    allocations = stage.servers.allocations

    def watched(host: str) -> list[AllocationRecord]:
        read.append(host)
        return allocations(host)

    stage.servers.allocations = watched  # type: ignore[method-assign]
    stage.edge(site).synchronise()
    stage.eventually(lambda: len(readings) == 2, "comparisons")
    assert read == []
    held = {one.consumer_uuid for reading in readings for one in reading().records}
    assert held == set(stage.servers_of(site))


def test_second_pass_sends_and_writes_nothing(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=4)
    edge = stage.edge(site)
    edge.synchronise()
    before, said = stage.rows_of(site), list(stage.told.said)

    edge.close()
    sent = edge.synchronise()

    assert sent == 0
    assert stage.rows_of(site) == before
    assert stage.told.said == said


def test_restarted_control_plane_holds_what_it_held(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=4)
    edge = stage.edge(site)
    edge.synchronise()
    # Servers may be adopted before their compute node is there; the next look fills it in.
    stage.inventory.reassert(list(stage.servers_of(site)))
    stage.eventually(
        lambda: all(row["compute_id"] for row in stage.rows_of(site).values()), "compute nodes"
    )
    before = stage.rows_of(site)
    edge.close()

    stage.restart()
    again = stage.edge(site, epoch=2)

    assert again.synchronise() == 0
    assert stage.rows_of(site) == before


def test_machines_that_come_before_their_cluster_are_adopted_all_the_same(
    stage: InventoryStage,
) -> None:
    site = GeneratedVCenter(machines=6)
    keys = sorted(site.objects, key=lambda key: not key.startswith("VirtualMachine:"))

    stage.edge(site).synchronise(keys)

    stage.eventually(lambda: len(stage.servers_of(site)) == 6, "servers")
    assert {row["project_id"] for row in stage.servers_of(site).values()} == {PROJECT}


def test_project_waits_for_the_folder_that_decides_it(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=0)
    site.add_machine("vm-1", folder="group-shop")
    site.add_folder("group-shop", "shop", "group-v1")
    keys = sorted(site.objects, key=lambda key: key == "Folder:group-shop")

    stage.edge(site).synchronise(keys)

    stage.eventually(lambda: len(stage.servers_of(site)) == 1, "server")
    assert stage.row(site.instance_uuid("vm-1"))["project_id"] == SHOP_PROJECT


def test_folder_that_is_never_shown_does_not_keep_a_machine_from_adoption(
    stage: InventoryStage,
) -> None:
    site = GeneratedVCenter(machines=1)
    site.add_machine("vm-9", folder="group-unseen")

    stage.edge(site).synchronise()

    stage.eventually(lambda: len(stage.servers_of(site)) == 2, "servers")


def test_template_becomes_an_image_and_no_server(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=2)
    site.convert("vm-2", template=True)

    stage.edge(site).synchronise()

    assert set(stage.servers_of(site)) == {site.instance_uuid("vm-1")}
    (image,) = stage.images_of(site)
    assert (image.name, image.moref, image.visibility) == ("server vm-2", "vm-2", "shared")
    template = stage.queries.template(image.id)
    assert template is not None
    assert template.virtual_machine.instance_uuid == site.instance_uuid("vm-2")


def test_machines_of_agents_and_copies_are_held_but_never_adopted(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=4)
    site.change_machine(
        "vm-1",
        lambda m: m.managed_by.MergeFrom(
            inventory_pb2.ManagedBy(extension_key="com.vmware.vim.eam", type="cluster-agent")
        ),
    )
    site.change_machine("vm-2", lambda m: setattr(m, "fault_tolerance_role", 2))
    site.change_machine("vm-3", lambda m: setattr(m, "placeholder", True))

    edge = stage.edge(site)
    edge.synchronise()

    assert set(stage.servers_of(site)) == {site.instance_uuid("vm-4")}
    assert edge.parities == 1


def test_queries_answer_nova_from_what_is_stored(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=3)
    stage.edge(site).synchronise()
    stage.eventually(lambda: stage.clusters(site)[0].synchronised_at is not None, "note of parity")
    (row,) = stage.clusters(site)

    resources = stage.queries.resources(row.compute_host)
    instances = stage.queries.instances(row.compute_host)
    machine = stage.queries.virtual_machine(site.instance_uuid("vm-2"))

    assert resources is not None
    assert (resources.cpus, resources.memory_mb, resources.disk_gb) == (192, 2097152, 10000)
    assert (resources.cpus_used, resources.memory_mb_used, resources.disk_gb_used) == (
        6,
        12288,
        120,
    )
    assert resources.hypervisor_hostname == f"domain-c1.{site.vcenter_uuid}"
    assert resources.hypervisor_version == 8000003
    assert resources.synchronised
    assert {one.instance_uuid for one in instances} == set(stage.servers_of(site))
    assert {one.power_state for one in instances} == {inventory_pb2.POWER_STATE_ON}
    assert machine is not None
    assert machine.reference.value == "vm-2"
    assert stage.queries.virtual_machine(str(uuid.uuid4())) is None
    assert stage.queries.resources("another-host") is None

    cluster, location = stage.queries.subject(row.compute_host, site.instance_uuid("vm-2"))
    assert cluster == stage.queries.cluster(row.compute_host)
    assert location == MachineLocation(
        site.vcenter_uuid, machine.virtual_machine.instance_uuid, machine.reference, machine.cluster
    )
    assert stage.queries.subject("another-host", str(uuid.uuid4())) == (None, None)


def test_diagnostics_show_what_is_held(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=3)
    stage.edge(site).synchronise()

    (cluster,) = stage.diagnostics.clusters()
    servers = stage.diagnostics.servers("Cluster 1")
    counts = {one.kind: one.objects for one in stage.diagnostics.inventory_counts()}

    assert (cluster.servers, cluster.hosts, cluster.state) == (3, 2, "provisioned")
    assert [one.name for one in servers] == ["server vm-1", "server vm-2", "server vm-3"]
    assert {one.status for one in servers} == {"ACTIVE"}
    assert counts["virtual_machine"] == 3
    assert counts["host"] == 2
    assert stage.diagnostics.servers("no such cluster") == []


def test_adopted_servers_are_announced_once(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=3)

    stage.edge(site).synchronise()

    created = [one for kind, one in stage.told.said if kind is Announced.CREATE]
    assert sorted(created) == sorted(stage.servers_of(site))


def test_own_tables_hold_every_object_with_its_hash(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=2)

    stage.edge(site).synchronise()

    with stage.own.read() as connection:
        held = {
            row.reference: row.content_hash for row in objects.held(connection, site.vcenter_uuid)
        }
    assert held == site.hashes()


def test_vcenter_that_another_control_plane_served_is_loaded_afresh(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=2)
    edge = stage.edge(site)
    edge.synchronise()
    edge.close()
    other = InventoryStage(stage.nova, stage.glance, stage.own_url)
    other.start()
    there = other.edge(site)
    there.open()
    there.changes(site.add_machine("vm-there"), site.remove("VirtualMachine:vm-1"))
    there.close()
    other.stop()

    sent = edge.synchronise()

    assert sent == 0
    edge.changes(site.change_machine("vm-there", lambda m: setattr(m, "cpus", 7)))
    assert stage.row(site.instance_uuid("vm-there"))["vcpus"] == 7
    assert stage.queries.virtual_machine(site.instance_uuid("vm-1")) is None
