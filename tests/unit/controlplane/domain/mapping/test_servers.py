"""Virtual machines and templates become records."""

import dataclasses
from datetime import datetime
from typing import Any

import pytest

from controlplane.domain.mapping import servers as mapping
from controlplane.domain.mapping.hardware import device_name, sized_flavor
from controlplane.domain.records import ImageRecord, Policy, Power
from tests.support.server_samples import NOW, VCENTER, Names, machine, record
from vsphere_gateway.v1 import inventory_pb2

TEMPLATE = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-77")


def image(made: inventory_pb2.VirtualMachine, **decisions: Any) -> ImageRecord:
    fields: dict[str, Any] = {
        "image_id": "5d1a0f5e-0000-4000-8000-000000000001",
        "owner": "p" * 32,
        "visibility": "shared",
        "members": frozenset({"a"}),
    }
    decision = mapping.ImageDecision(**{**fields, **decisions})
    return mapping.image_record(made, TEMPLATE, decision, Names(), NOW)


def test_the_same_machine_maps_to_the_same_record() -> None:
    made = machine()
    assert record(made) == record(made)


@pytest.mark.parametrize(
    ("state", "power"),
    [
        (inventory_pb2.POWER_STATE_ON, Power.RUNNING),
        (inventory_pb2.POWER_STATE_OFF, Power.SHUTDOWN),
        (inventory_pb2.POWER_STATE_SUSPENDED, Power.SUSPENDED),
        (inventory_pb2.POWER_STATE_UNSPECIFIED, Power.UNKNOWN),
    ],
)
def test_power_states(state: inventory_pb2.PowerState, power: Power) -> None:
    assert record(machine(power_state=state)).power is power


def test_disks_are_named_in_order_and_sizes_are_rounded_up() -> None:
    made = machine(disks=[])
    for key, size in ((2000, 1), (2016, 10 * 1024**3 + 1), (16000, 0)):
        made.disks.add(key=key, capacity_bytes=size, adapter_type="nvme" if key == 16000 else "")
    one = record(made)
    assert [(d.device_name, d.size_gb, d.boot_index, d.disk_bus) for d in one.disks] == [
        ("/dev/sda", 1, 0, "scsi"),
        ("/dev/sdb", 11, -1, "scsi"),
        ("/dev/sdc", 0, -1, "nvme"),
    ]
    assert (one.flavor.root_gb, one.flavor.ephemeral_gb) == (1, 11)


@pytest.mark.parametrize(
    ("index", "name"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz")]
)
def test_device_names_go_on_after_z(index: int, name: str) -> None:
    assert device_name(index) == f"/dev/sd{name}"


def test_a_disk_keeps_its_identity_when_others_come_and_go() -> None:
    made = machine()
    before = record(made)
    del made.disks[0]
    after = record(made)
    assert after.disks[0].uuid == before.disks[1].uuid


def test_addresses_that_are_none_are_left_out() -> None:
    made = machine()
    made.nics[0].ip_addresses.extend(["unset", "300.1.1.1", ""])
    assert record(made).nics[0].addresses == ("10.0.0.5", "2001:db8::5")


def test_an_adapter_of_an_invisible_network_shows_its_port_group() -> None:
    made = machine(nics=[])
    made.nics.add(key=4000, label="Network adapter 1", portgroup_key="dvportgroup-9")
    made.nics.add(key=4001, label="Network adapter 2")
    labels = [nic.network_label for nic in record(made).nics]
    assert labels == ["dvportgroup-9", "Network adapter 2"]


def test_metadata_refers_to_vcenter_and_is_short_enough() -> None:
    made = machine(disks=[])
    for key in range(60):
        made.disks.add(key=key, capacity_bytes=1024**3, file_name=f"[ds] {'long' * 9}/{key}.vmdk")
    metadata = record(made).metadata
    assert all(key.startswith("vsphere:") for key in metadata)
    assert all(0 < len(value) <= 255 for value in metadata.values())
    assert metadata["vsphere:vcenter"] == VCENTER
    assert metadata["vsphere:host"] == "name of host-1"
    assert metadata["vsphere:moref"].startswith("vm-")
    assert len(metadata) <= 16, "metadata_items of Nova's quota is 128 for users and us together"


def test_an_inaccessible_machine_says_so() -> None:
    made = machine(connection_state=inventory_pb2.CONNECTION_STATE_INACCESSIBLE)
    assert record(made).metadata["vsphere:connection_state"] == "inaccessible"
    assert "vsphere:connection_state" not in record(machine()).metadata


def test_times_come_from_vcenter_and_else_from_now() -> None:
    made = machine()
    assert record(made).created_at == datetime(2020, 9, 13, 12, 26, 40)  # noqa: DTZ001
    made.ClearField("booted_at")
    assert record(made).launched_at == record(made).created_at
    made.ClearField("created_at")
    assert record(made).created_at == NOW


def test_a_nameless_machine_shows_its_reference() -> None:
    for nothing in ("", "  ", "\t\x9b"):
        assert record(machine(name=nothing)).display_name.startswith("vm-")
        assert image(machine(name=nothing)).name == "vm-77"


def test_a_machine_without_a_usable_name_has_a_host_name() -> None:
    made = machine(name="数据库")
    assert record(made).hostname == f"server-{made.instance_uuid}"


def test_flavors_tell_their_hardware() -> None:
    assert sized_flavor(2, 4096, 40, 0).name == "vsphere-2c-4096m-40g"
    assert sized_flavor(2, 4096, 40, 5).name == "vsphere-2c-4096m-40g-5g"


def test_policy_and_image_are_the_pipelines_decision() -> None:
    one = record(policy=Policy.LISTED, image_id="some image")
    assert one.policy is Policy.LISTED
    assert (one.image_id, one.image_properties["base_image_ref"]) == ("some image",) * 2


def test_a_template_is_an_image_that_only_its_vcenter_boots() -> None:
    made = machine(name="ubuntu \U0001f600", firmware="efi")
    one = image(made)
    assert one.name == "ubuntu \\u{1F600}"
    assert (one.size_bytes, one.min_disk_gb) == (40 * 1024**3, 40)
    assert one.properties[f"trait:{mapping.vcenter_trait(VCENTER)}"] == "required"
    assert one.properties["vmware_adaptertype"] == "paraVirtual"
    assert one.properties["vmware_disktype"] == "thin"
    assert one.properties["vmware_ostype"] == "ubuntu64Guest"
    assert one.properties["hw_firmware_type"] == "uefi"
    assert one.properties["vsphere_moref"] == "vm-77"


def test_the_pointer_to_a_template_can_be_dialled_by_no_store() -> None:
    made = machine(disks=[])
    made.disks.add(key=2000, capacity_bytes=1, file_name="[my ds] a b/c.vmdk")
    assert (
        image(made).location == f"vsphere://{VCENTER}/folder/a%20b/c.vmdk?dcPath=DC0&dsName=my+ds"
    )


def test_a_template_without_disks_is_an_image() -> None:
    one = image(inventory_pb2.VirtualMachine(name="empty", vmx_path="[ds1] e/e.vmx"))
    assert (one.size_bytes, one.min_disk_gb) == (0, 0)
    assert "/folder/e/e.vmx" in one.location


@pytest.mark.parametrize("adapter", ["sata", "nvme", "", "somethingNew"])
def test_adapters_that_nova_does_not_know_are_not_told_as_scsi_models(adapter: str) -> None:
    made = machine()
    made.disks[0].adapter_type = adapter
    assert "vmware_adaptertype" not in image(made).properties


def test_traits_are_valid_for_placement() -> None:
    trait = mapping.vcenter_trait(VCENTER)
    assert trait == "CUSTOM_VSG_VCENTER_DBED6E0C_BD88_4EF6_B594_21283E1C677F"


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().display_name = "other"  # type: ignore[misc]
