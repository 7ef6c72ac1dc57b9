"""Changes in vCenter follow, and what is Nova's or the users' stays."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from nova import objects
from sqlalchemy import event

from controlplane.domain.mapping.hardware import sized_flavor
from controlplane.domain.records import Announced, Origin, Policy, Power, ServerChange
from controlplane.store.nova import primitives
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import BLOCK_DEVICES
from tests.support.server_samples import GIB, PROJECT, USER, compute_host, machine, record

WRITES = ("INSERT", "UPDATE", "DELETE")


@contextmanager
def statements(databases: NovaDatabases) -> Iterator[list[str]]:
    """Collects what both databases are asked."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engines = (databases.api.engine, databases.cell.engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def created_server(nova: Any, uuid: str, **changes: Any) -> "objects.Instance":
    """A server as Nova's API and compute manager leave it after a boot."""
    flavor = objects.Flavor(
        id=7, name="m1.small", flavorid="7", memory_mb=4096, vcpus=2, root_gb=0, ephemeral_gb=0,
        swap=0, rxtx_factor=1.0, vcpu_weight=0, disabled=False, is_public=True, extra_specs={},
        description=None,
    )  # fmt: skip
    fields = {
        "uuid": uuid, "project_id": PROJECT, "user_id": USER, "display_name": "mine",
        "image_ref": "5d1a0f5e-0000-4000-8000-000000000001", "vm_state": "active",
        "power_state": 1, "flavor": flavor, "instance_type_id": 7, "vcpus": 2,
        "memory_mb": 4096, "root_gb": 0, "ephemeral_gb": 0, "metadata": {"owner": "me"},
        "system_metadata": {"image_min_disk": "0"},
    }  # fmt: skip
    instance = objects.Instance(nova, **{**fields, **changes})
    instance.create()
    return instance


def test_applying_the_same_again_writes_nothing(
    servers: NovaServers, databases: NovaDatabases
) -> None:
    batch = [record() for _ in range(5)]
    servers.apply(batch)
    with statements(databases) as seen:
        outcomes = servers.apply(batch)
    assert {outcome.change for outcome in outcomes} == {ServerChange.NONE}
    assert not [text for text in seen if text.startswith(WRITES)]
    assert all(outcome.announcement is None and outcome.allocation is None for outcome in outcomes)


def test_a_batch_costs_as_many_statements_as_one_server(
    servers: NovaServers, databases: NovaDatabases
) -> None:
    with statements(databases) as one:
        servers.apply([record()])
    with statements(databases) as many:
        servers.apply([record() for _ in range(50)])
    assert len(many) == len(one)


@pytest.mark.parametrize(
    ("power", "vm_state"),
    [(Power.SHUTDOWN, "stopped"), (Power.SUSPENDED, "suspended"), (Power.RUNNING, "active")],
)
def test_vm_state_and_power_state_change_together(
    servers: NovaServers, nova: Any, power: Power, vm_state: str
) -> None:
    first = dataclasses.replace(
        record(), power=Power.SHUTDOWN if power is Power.RUNNING else Power.RUNNING
    )
    servers.apply([first])
    (outcome,) = servers.apply([dataclasses.replace(first, power=power)])
    assert outcome.change is ServerChange.UPDATED
    assert outcome.announcement is not None
    assert outcome.announcement.kind is Announced.UPDATE
    assert outcome.announcement.old_vm_state in ("active", "stopped")
    instance = objects.Instance.get_by_uuid(nova, first.uuid)
    assert (instance.vm_state, instance.power_state) == (vm_state, power.value)


def test_only_the_tables_that_differ_are_written(
    servers: NovaServers, databases: NovaDatabases
) -> None:
    first = record()
    servers.apply([first])
    with statements(databases) as seen:
        servers.apply([dataclasses.replace(first, power=Power.SHUTDOWN)])
    assert [text.split()[2] for text in seen if text.startswith(WRITES)] == ["`instances`"]


def test_hardware_changes_change_flavor_disks_request_spec_and_allocation(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    made.cpus, made.memory_mb = 8, 16384
    made.disks[0].capacity_bytes *= 2
    del made.disks[1]
    (outcome,) = servers.apply([record(made)])
    assert outcome.change is ServerChange.UPDATED
    assert outcome.allocation is not None
    assert (outcome.allocation.vcpus, outcome.allocation.disk_gb) == (8, 80)
    instance = objects.Instance.get_by_uuid(nova, made.instance_uuid, expected_attrs=["flavor"])
    assert instance.flavor.name == "vsphere-8c-16384m-80g"
    assert (instance.vcpus, instance.memory_mb, instance.root_gb) == (8, 16384, 80)
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, made.instance_uuid)
    assert [(device.device_name, device.volume_size) for device in devices] == [("/dev/sda", 80)]
    spec = objects.RequestSpec.get_by_instance_uuid(nova, made.instance_uuid)
    assert spec.flavor.name == instance.flavor.name


def test_a_disk_that_comes_back_with_the_same_key_is_shown_again(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    with_two = record(made)
    servers.apply([with_two])
    del made.disks[1]
    servers.apply([record(made)])
    (outcome,) = servers.apply([with_two])
    assert outcome.change is ServerChange.UPDATED, outcome.reason
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, with_two.uuid)
    assert len(devices) == 2


def forget_disks(nova: Any, uuid: str) -> None:
    """Do what Nova's API has done when it ends in the middle of a local delete."""
    for device in objects.BlockDeviceMappingList.get_by_instance_uuid(nova, uuid):
        device.destroy()


def disks_of(nova: Any, uuid: str) -> list[tuple[str, int]]:
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, uuid)
    return sorted((device.device_name, device.volume_size) for device in devices)


def test_disks_that_an_unfinished_local_delete_took_from_a_living_server_come_back(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    forget_disks(nova, made.instance_uuid)
    (outcome,) = servers.apply([record(made)])
    assert outcome.change is ServerChange.UPDATED, outcome.reason
    assert disks_of(nova, made.instance_uuid) == [("/dev/sda", 40), ("/dev/sdb", 100)]
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_disks_that_a_living_server_lost_come_back_as_they_are_in_vcenter(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    forget_disks(nova, made.instance_uuid)
    made.disks[0].capacity_bytes = 80 * GIB
    del made.disks[1]
    assert servers.apply([record(made)])[0].change is ServerChange.UPDATED
    assert disks_of(nova, made.instance_uuid) == [("/dev/sda", 80)]
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_volumes_that_were_detached_stay_detached(servers: NovaServers, nova: Any) -> None:
    made = machine()
    servers.apply([record(made)])
    attached = objects.BlockDeviceMapping(
        nova, instance_uuid=made.instance_uuid, source_type="volume", destination_type="volume",
        volume_id="5d1a0f5e-0000-4000-8000-000000000002", device_name="/dev/sdz", boot_index=None,
    )  # fmt: skip
    attached.create()
    attached.destroy()
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def created_disk(nova: Any, uuid: str, name: str, boot_index: int | None) -> Any:
    """A disk of a server that OpenStack created."""
    disk = objects.BlockDeviceMapping(
        nova, instance_uuid=uuid, source_type="image" if boot_index == 0 else "blank",
        destination_type="local", device_name=name, volume_size=1, boot_index=boot_index,
    )  # fmt: skip
    disk.create()
    return disk


def test_disks_that_a_created_server_lost_come_back_and_no_older_ones(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    made = machine(name="mine")
    uuid = made.instance_uuid
    created_server(nova, uuid)
    created_disk(nova, uuid, "/dev/old", None).destroy()
    earlier = BLOCK_DEVICES.update().where(BLOCK_DEVICES.c.instance_uuid == uuid)
    with databases.cell.engine.begin() as connection:
        connection.execute(earlier.values(deleted_at=datetime(2020, 1, 1)))  # noqa: DTZ001
    for name, boot_index in (("/dev/sda", 0), ("/dev/sdb", None)):
        created_disk(nova, uuid, name, boot_index)
    servers.apply([record(made)])
    assert disks_of(nova, uuid) == [("/dev/sda", 1), ("/dev/sdb", 1)]
    forget_disks(nova, uuid)
    assert servers.apply([record(made)])[0].change is ServerChange.UPDATED
    assert disks_of(nova, uuid) == [("/dev/sda", 1), ("/dev/sdb", 1)]
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_a_disk_that_a_created_server_lost_alone_stays_lost(
    servers: NovaServers, nova: Any
) -> None:
    made = machine(name="mine")
    uuid = made.instance_uuid
    created_server(nova, uuid)
    created_disk(nova, uuid, "/dev/sda", 0)
    created_disk(nova, uuid, "/dev/sdb", None).destroy()
    servers.apply([record(made)])
    assert servers.apply([record(made)])[0].change is ServerChange.NONE
    assert disks_of(nova, uuid) == [("/dev/sda", 1)]


def test_a_move_to_another_cluster_changes_the_host_and_nothing_else(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    other = compute_host("other-host", "domain-c9.x", "c0000000-0000-4000-8000-000000000009")
    ComputeHostRows(databases).provision(other)
    first = record()
    servers.apply([first])
    before = objects.Instance.get_by_uuid(nova, first.uuid)
    moved = dataclasses.replace(
        first, compute_host=other.host, node=other.node, compute_node_uuid=other.node_uuid
    )
    (outcome,) = servers.apply([moved])
    assert outcome.allocation is not None
    assert outcome.allocation.provider_uuid == other.node_uuid
    after = objects.Instance.get_by_uuid(nova, first.uuid)
    assert (after.host, after.node) == (other.host, other.node)
    assert after.compute_id != before.compute_id
    assert (after.id, after.project_id, after.created_at) == (
        before.id,
        before.project_id,
        before.created_at,
    )


def test_what_users_said_about_a_server_stays(servers: NovaServers, nova: Any) -> None:
    made = machine()
    servers.apply([record(made)])
    instance = objects.Instance.get_by_uuid(
        nova, made.instance_uuid, expected_attrs=["metadata", "tags"]
    )
    instance.metadata["note"] = "keep"
    instance.display_description = "ours"
    instance.key_name = "key"
    instance.locked, instance.locked_by = True, "owner"
    instance.save()
    objects.Tag(nova, resource_id=instance.uuid, tag="blue").create()
    made.name, made.guest_id = "renamed", ""
    servers.apply([record(made, project_id="f" * 32)])
    after = objects.Instance.get_by_uuid(
        nova, made.instance_uuid, expected_attrs=["metadata", "tags"]
    )
    assert after.display_name == "renamed"
    assert after.metadata["note"] == "keep"
    assert "vsphere:guest_id" not in after.metadata
    assert (after.display_description, after.key_name) == ("ours", "key")
    assert (after.project_id, after.locked_by) == (PROJECT, "owner")
    assert [tag.tag for tag in after.tags] == ["blue"]


def test_a_server_that_nova_works_on_is_left_alone_until_the_task_ends(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    first = record()
    servers.apply([first])
    instance = objects.Instance.get_by_uuid(nova, first.uuid)
    instance.task_state = "powering-off"
    instance.save()
    with statements(databases) as seen:
        (outcome,) = servers.apply([dataclasses.replace(first, power=Power.SHUTDOWN)])
    assert outcome.change is ServerChange.DEFERRED
    assert "powering-off" in outcome.reason
    assert not [text for text in seen if text.startswith(WRITES)]
    assert servers.apply([first])[0].change is ServerChange.NONE
    instance.task_state = None
    instance.save()
    (outcome,) = servers.apply([dataclasses.replace(first, power=Power.SHUTDOWN)])
    assert outcome.change is ServerChange.UPDATED


@pytest.mark.parametrize("vm_state", ["error", "rescued", "resized", "building", "paused"])
def test_states_of_novas_own_are_kept_and_only_the_power_state_follows(
    servers: NovaServers, nova: Any, vm_state: str
) -> None:
    first = record()
    servers.apply([first])
    instance = objects.Instance.get_by_uuid(nova, first.uuid)
    instance.vm_state = vm_state
    instance.save()
    (outcome,) = servers.apply([dataclasses.replace(first, power=Power.SHUTDOWN)])
    assert outcome.change is ServerChange.UPDATED
    after = objects.Instance.get_by_uuid(nova, first.uuid)
    assert (after.vm_state, after.power_state) == (vm_state, 4)


def test_hardware_is_novas_while_a_resize_awaits_confirmation(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    instance = objects.Instance.get_by_uuid(nova, made.instance_uuid)
    instance.vm_state = "resized"
    instance.save()
    made.cpus = 16
    (outcome,) = servers.apply([record(made)])
    assert outcome.change is ServerChange.DEFERRED
    assert outcome.allocation is None
    assert objects.Instance.get_by_uuid(nova, made.instance_uuid).vcpus == 2


def test_a_server_that_openstack_created_is_recognised_and_only_follows(
    servers: NovaServers, nova: Any
) -> None:
    made = machine(name="mine")
    created_server(nova, made.instance_uuid)
    (outcome,) = servers.apply([record(made)])
    assert (outcome.change, outcome.origin) == (ServerChange.UPDATED, Origin.CREATED)
    after = objects.Instance.get_by_uuid(
        nova, made.instance_uuid, expected_attrs=["flavor", "metadata", "system_metadata"]
    )
    assert after.flavor.name == "m1.small"
    assert after.metadata["owner"] == "me"
    assert "vsphere:moref" in after.metadata
    assert after.image_ref == "5d1a0f5e-0000-4000-8000-000000000001"
    assert not objects.BlockDeviceMappingList.get_by_instance_uuid(nova, made.instance_uuid)
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_more_memory_in_vcenter_reaches_a_created_server_but_not_its_ordered_disk(
    servers: NovaServers, nova: Any
) -> None:
    made = machine(name="mine")
    created_server(nova, made.instance_uuid)
    made.memory_mb = 8192
    (outcome,) = servers.apply([record(made)])
    assert outcome.allocation is not None
    assert (outcome.allocation.memory_mb, outcome.allocation.disk_gb) == (8192, 0)
    after = objects.Instance.get_by_uuid(nova, made.instance_uuid, expected_attrs=["flavor"])
    assert after.flavor.name == sized_flavor(2, 8192, 0, 0).name
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_a_clone_whose_name_was_taken_keeps_openstacks_name(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    created_server(nova, made.instance_uuid)
    made.name = f"mine-{made.instance_uuid}"
    servers.apply([record(made)])
    assert objects.Instance.get_by_uuid(nova, made.instance_uuid).display_name == "mine"


def test_a_flavor_that_nova_resized_to_stays_while_it_describes_the_hardware(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    instance = objects.Instance.get_by_uuid(nova, made.instance_uuid, expected_attrs=["flavor"])
    instance.flavor.id, instance.flavor.name, instance.flavor.root_gb = 3, "m1.large", 20
    instance.save()
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_interfaces_made_from_ports_are_neutrons_and_ours_come_back(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    second = made.nics.add(key=4001, mac_address="00:50:56:ff:00:01", connected=True)
    second.network.value = "dvportgroup-13"
    servers.apply([record(made)])
    port = primitives.vif(record(made).nics[0])
    port |= {"id": "0b0e9d4f-4b1c-4f5e-8a57-0d5c8f1e2a3b", "type": "ovs"}
    instance = objects.Instance.get_by_uuid(nova, made.instance_uuid, expected_attrs=["info_cache"])
    # As a start leaves it: Nova drops what Neutron does not know.
    instance.info_cache.network_info = objects.instance.network_model.NetworkInfo.hydrate([port])
    instance.info_cache.save()
    (outcome,) = servers.apply([record(made)])
    assert outcome.change is ServerChange.UPDATED
    after = objects.Instance.get_by_uuid(nova, made.instance_uuid, expected_attrs=["info_cache"])
    assert [vif["address"] for vif in after.get_network_info()] == [
        made.nics[0].mac_address,
        "00:50:56:ff:00:01",
    ]
    assert after.get_network_info()[0]["type"] == "ovs"
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_a_machine_that_becomes_protected_is_locked_and_released_again(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    servers.apply([record(made, policy=Policy.LISTED)])
    listed = objects.Instance.get_by_uuid(nova, made.instance_uuid)
    assert (listed.locked_by, listed.disable_terminate) == ("admin", True)
    servers.apply([record(made)])
    free = objects.Instance.get_by_uuid(nova, made.instance_uuid)
    assert (free.locked_by, free.disable_terminate) == (None, False)


def test_one_poisonous_record_does_not_hold_up_the_others(servers: NovaServers, nova: Any) -> None:
    batch = [record() for _ in range(9)]
    # Longer than the column, which mapping never lets through.
    batch[4] = dataclasses.replace(batch[4], hostname="x" * 300)
    outcomes = servers.apply(batch)
    assert [outcome.change for outcome in outcomes].count(ServerChange.ADOPTED) == 8
    assert outcomes[4].change is ServerChange.REFUSED
    assert "hostname" in outcomes[4].reason
    with pytest.raises(Exception, match="no mapping"):
        objects.InstanceMapping.get_by_instance_uuid(nova, batch[4].uuid)


def test_the_same_machine_twice_in_a_batch_is_one_server(servers: NovaServers) -> None:
    twice = record()
    outcomes = servers.apply([twice, dataclasses.replace(twice, power=Power.SHUTDOWN)])
    assert [outcome.change for outcome in outcomes] == [ServerChange.ADOPTED, ServerChange.UPDATED]


def test_an_unknown_power_state_changes_nothing(servers: NovaServers) -> None:
    first = record()
    servers.apply([first])
    unknown = dataclasses.replace(first, power=Power.UNKNOWN)
    assert servers.apply([unknown])[0].change is ServerChange.NONE


def test_synthetic_flavors_are_equal_for_equal_hardware() -> None:
    assert sized_flavor(2, 4096, 40, 0) is sized_flavor(2, 4096, 40, 0)
    assert sized_flavor(2, 4096, 40, 0).id != sized_flavor(2, 4096, 41, 0).id
    assert 2**30 <= sized_flavor(2, 4096, 40, 0).id < 2**31
