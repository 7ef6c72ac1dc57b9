"""What an adopted virtual machine looks like to Nova's own code."""

import json
from typing import Any

from nova import objects
from nova.compute import utils as compute_utils

from controlplane.domain.mapping.servers import unknown_image_id
from controlplane.domain.records import Policy, ServerChange
from controlplane.store.nova.servers import NovaServers
from tests.support.server_samples import (
    HOST,
    NODE,
    PROJECT,
    USER,
    VCENTER,
    machine,
    record,
)
from vsphere_gateway.v1 import inventory_pb2

EVERYTHING = [
    "metadata",
    "system_metadata",
    "flavor",
    "info_cache",
    "security_groups",
    "keypairs",
    "numa_topology",
    "pci_requests",
    "tags",
    "trusted_certs",
    "resources",
]


def test_nova_reads_an_adopted_server_with_everything_it_expects(
    servers: NovaServers, nova: Any
) -> None:
    wanted = record()
    (outcome,) = servers.apply([wanted])
    assert outcome.change is ServerChange.ADOPTED

    instance = objects.Instance.get_by_uuid(nova, wanted.uuid, expected_attrs=EVERYTHING)
    assert instance.display_name == wanted.display_name
    assert (instance.project_id, instance.user_id) == (PROJECT, USER)
    assert (instance.host, instance.node) == (HOST, NODE)
    assert instance.compute_id == objects.ComputeNode.get_by_host_and_nodename(nova, HOST, NODE).id
    assert (instance.vm_state, instance.power_state, instance.task_state) == ("active", 1, None)
    assert instance.launched_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert instance.created_at.isoformat() == "2020-09-13T12:26:40+00:00"
    assert instance.availability_zone == "nova"
    assert instance.flavor.name == "vsphere-2c-4096m-40g-100g"
    assert instance.instance_type_id == instance.flavor.id
    assert (instance.flavor.vcpus, instance.flavor.memory_mb) == (2, 4096)
    assert instance.metadata["vsphere:folder"] == "DC0/prod/web"
    assert not instance.locked
    assert instance.tags.objects == []
    assert instance.keypairs.objects == []


def test_nova_presents_the_addresses_that_the_guest_reported(
    servers: NovaServers, nova: Any
) -> None:
    wanted = record()
    servers.apply([wanted])
    instance = objects.Instance.get_by_uuid(nova, wanted.uuid, expected_attrs=["info_cache"])
    (vif,) = instance.get_network_info()
    labelled = vif.labeled_ips()
    assert labelled["network_label"] == "name of dvportgroup-12"
    assert [(ip["address"], ip["version"]) for ip in labelled["ips"]] == [
        ("10.0.0.5", 4),
        ("2001:db8::5", 6),
    ]


def test_disks_are_local_block_devices_and_the_server_is_not_volume_backed(
    servers: NovaServers, nova: Any
) -> None:
    wanted = record()
    servers.apply([wanted])
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, wanted.uuid)
    seen = sorted((d.device_name, d.volume_size, d.boot_index, d.destination_type) for d in devices)
    assert seen == [("/dev/sda", 40, 0, "local"), ("/dev/sdb", 100, -1, "local")]
    instance = objects.Instance.get_by_uuid(nova, wanted.uuid)
    assert instance.image_ref == unknown_image_id(VCENTER)
    assert not compute_utils.is_volume_backed_instance(nova, instance)


def test_nova_finds_cell_and_request_spec_of_an_adopted_server(
    servers: NovaServers, nova: Any
) -> None:
    wanted = record()
    servers.apply([wanted])
    mapping = objects.InstanceMapping.get_by_instance_uuid(nova, wanted.uuid)
    assert mapping.cell_mapping.name == "cell1"
    assert mapping.queued_for_delete is False
    spec = objects.RequestSpec.get_by_instance_uuid(nova, wanted.uuid)
    assert spec.flavor.vcpus == 2
    assert spec.image.properties.img_hv_type == "vmware"
    assert (spec.project_id, spec.is_bfv, spec.num_instances) == (PROJECT, False, 1)
    assert (
        objects.ImageMeta.from_instance(
            objects.Instance.get_by_uuid(nova, wanted.uuid)
        ).properties.hw_vif_model
        == "vmxnet3"
    )


def test_nova_can_save_what_it_read(servers: NovaServers, nova: Any) -> None:
    wanted = record()
    servers.apply([wanted])
    instance = objects.Instance.get_by_uuid(nova, wanted.uuid, expected_attrs=EVERYTHING)
    instance.task_state = "powering-off"
    instance.metadata["note"] = "by a user"
    instance.save()
    spec = objects.RequestSpec.get_by_instance_uuid(nova, wanted.uuid)
    spec.num_instances = 2
    spec.save()
    assert objects.Instance.get_by_uuid(nova, wanted.uuid).task_state == "powering-off"


def test_policies_lock_what_they_promise(servers: NovaServers, nova: Any) -> None:
    locked, listed = record(policy=Policy.LOCKED), record(policy=Policy.LISTED)
    servers.apply([locked, listed])
    seen = {uuid: objects.Instance.get_by_uuid(nova, uuid) for uuid in (locked.uuid, listed.uuid)}
    assert (seen[locked.uuid].locked_by, seen[locked.uuid].disable_terminate) == ("admin", False)
    assert (seen[listed.uuid].locked_by, seen[listed.uuid].disable_terminate) == ("admin", True)


def test_names_beyond_utf8mb3_are_escaped_and_cut(servers: NovaServers, nova: Any) -> None:
    made = machine(name="db \U0001f600/ü" + "x" * 300)
    made.folder.value = "group-\U0001f600"
    wanted = record(made)
    (outcome,) = servers.apply([wanted])
    assert outcome.change is ServerChange.ADOPTED
    name = objects.Instance.get_by_uuid(nova, wanted.uuid).display_name
    assert name.startswith("db \\u{1F600}/ü")
    assert len(name) == 255


def test_machines_with_nothing_in_them_are_adopted(servers: NovaServers, nova: Any) -> None:
    bare = inventory_pb2.VirtualMachine(
        name="bare", instance_uuid="3b2f4a52-0000-4000-8000-00000000beef"
    )
    wanted = record(bare)
    (outcome,) = servers.apply([wanted])
    assert outcome.change is ServerChange.ADOPTED, outcome.reason
    instance = objects.Instance.get_by_uuid(nova, wanted.uuid, expected_attrs=EVERYTHING)
    assert instance.launched_at is not None
    assert instance.get_network_info() == []


def test_sixty_disks_make_sixty_devices(servers: NovaServers, nova: Any) -> None:
    made = machine(disks=[])
    for number in range(60):
        made.disks.add(key=2000 + number, capacity_bytes=10 * 1024**3, adapter_type="paraVirtual")
    wanted = record(made)
    servers.apply([wanted])
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, wanted.uuid)
    names = {device.device_name for device in devices}
    assert len(names) == 60
    assert "/dev/sdbh" in names
    assert len(json.dumps(dict(wanted.metadata))) < 4096
