"""Pure comparison: each value that differs is named, whatever is OpenStack's is not."""

import copy
import dataclasses
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest

from controlplane.domain.mapping import hardware as mapping_hardware
from controlplane.domain.records import ImageRecord, NicRecord, Origin, Policy, Power, ServerRecord
from controlplane.openstack.placement.client import Provider
from controlplane.store.glance.readers import ImageRows
from controlplane.store.nova import primitives
from controlplane.store.nova.readers import HostRows, ServerRows
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.verification.findings import Findings, Place, Subject
from controlplane.verification.hosts import (
    compare_allocation,
    compare_former_host,
    compare_host,
    compare_provider,
    compare_totals,
)
from controlplane.verification.images import compare_image
from controlplane.verification.servers import ExpectedServer, compare_server
from vsphere_gateway.v1 import inventory_pb2

UUID = "5b9e1f6e-0000-4000-8000-000000000001"
SUBJECT = Subject("vcenter", "VirtualMachine:vm-1", "web")
THEN = datetime(2026, 1, 1)  # noqa: DTZ001 - as the columns hold it
DISKS = [
    inventory_pb2.VirtualDisk(key=2000, capacity_bytes=40 << 30, adapter_type="paraVirtual"),
    inventory_pb2.VirtualDisk(key=2001, capacity_bytes=5 << 30, adapter_type="ide"),
]
NIC = inventory_pb2.VirtualNic(
    key=4000,
    mac_address="00:50:56:00:00:01",
    network=inventory_pb2.ObjectReference(type="Network", value="network-1"),
    connected=True,
    ip_addresses=["10.0.0.1", "fd00::1"],
)
RECORD = ServerRecord(
    uuid=UUID,
    project_id="project",
    user_id="user",
    compute_host="production",
    node="domain-c1.vcenter",
    compute_node_uuid="node",
    display_name="web",
    hostname="web",
    power=Power.RUNNING,
    flavor=mapping_hardware.flavor(2, 4096, DISKS),
    disks=mapping_hardware.disks(UUID, DISKS),
    nics=mapping_hardware.nics("vcenter", [NIC], ["VM Network"]),
    metadata={"vsphere:moref": "vm-1"},
    image_id="unknown",
    image_properties={},
    created_at=THEN,
    launched_at=THEN,
    os_type="linux",
    policy=Policy.MANAGED,
)
EXPECTED = ExpectedServer(RECORD, Origin.ADOPTED, 7, 1, frozenset({"unknown"}))


def server_rows() -> ServerRows:
    """Rows as they should be, made anew."""
    flavor = RECORD.flavor
    rows: dict[str, Any] = {
        "instance": {
            "uuid": UUID, "deleted": 0, "project_id": "project", "user_id": "user",
            "display_name": "web", "host": "production", "node": "domain-c1.vcenter",
            "compute_id": 7, "vm_state": "active", "power_state": 1, "task_state": None,
            "vcpus": 2, "memory_mb": 4096, "root_gb": 40, "ephemeral_gb": 5,
            "instance_type_id": flavor.id, "root_device_name": "/dev/sda",
            "disable_terminate": False, "image_ref": "unknown",
            "reservation_id": "vsg-5b9e1f6e", "launched_at": THEN,
        },
        "extra": [{"flavor": primitives.embedded_flavor(flavor)}],
        "info_caches": [{"network_info": primitives.network_info(RECORD.nics)}],
        "metadata": [
            {"key": "vsphere:moref", "value": "vm-1"}, {"key": "mine", "value": "anything"},
        ],
        "system_metadata": [
            {"key": "image_base_image_ref", "value": "unknown"},
            {"key": "image_container_format", "value": "bare"},
            {"key": "image_disk_format", "value": "vmdk"},
            {"key": "image_hypervisor_type", "value": "vmware"},
        ],
        "devices": [
            {
                "uuid": disk.uuid, "device_name": disk.device_name, "volume_size": disk.size_gb,
                "boot_index": disk.boot_index, "disk_bus": disk.disk_bus,
                "source_type": "image" if disk.boot_index == 0 else "blank",
                "destination_type": "local",
            }
            for disk in RECORD.disks
        ],
        "mappings": [
            {"cell_id": 1, "project_id": "project", "user_id": "user", "queued_for_delete": False}
        ],
        "request_specs": [{"spec": primitives.request_spec(RECORD)}],
    }  # fmt: skip
    return ServerRows(**copy.deepcopy(rows))


def compared(rows: ServerRows, expected: ExpectedServer = EXPECTED) -> dict[str, tuple[str, str]]:
    """Return expected and found by field of what differs."""
    findings = Findings()
    compare_server(findings, SUBJECT, expected, rows)
    assert all(one.subject is SUBJECT for one in findings.differences)
    return {one.field: (one.expected, one.found) for one in findings.differences}


def test_rows_as_they_should_be_differ_in_nothing() -> None:
    assert compared(server_rows()) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project_id", "x"), ("user_id", "x"), ("display_name", "x"), ("display_name", None),
        ("host", "x"), ("host", None), ("node", "x"), ("compute_id", 8), ("vm_state", "stopped"),
        ("power_state", 4), ("vcpus", 3), ("memory_mb", 1), ("root_gb", 1), ("ephemeral_gb", 0),
        ("instance_type_id", 1), ("root_device_name", None), ("disable_terminate", True),
    ],
)  # fmt: skip
def test_each_column_of_instances_that_differs_is_named_alone(name: str, value: object) -> None:
    rows = server_rows()
    before = rows.instance[name]
    cast(Any, rows.instance)[name] = value
    found = "NULL" if value is None else str(value)
    assert compared(rows) == {f"instances.{name}": (str(before), found)}


def without(name: str) -> Callable[[ServerRows], None]:
    return lambda rows: getattr(rows, name).clear()


def twice(name: str) -> Callable[[ServerRows], None]:
    return lambda rows: getattr(rows, name).append(getattr(rows, name)[0])


def setting(name: str, index: int, **values: object) -> Callable[[ServerRows], None]:
    return lambda rows: getattr(rows, name)[index].update(values)


def network(change: Callable[[list[Any]], object]) -> Callable[[ServerRows], None]:
    def apply(rows: ServerRows) -> None:
        interfaces = json.loads(rows.info_caches[0]["network_info"])
        change(interfaces)
        cast(Any, rows.info_caches[0])["network_info"] = json.dumps(interfaces)

    return apply


INTERFACE = "instance_info_caches.network_info 00:50:56:00:00:01"


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (without("extra"), {"instance_extra rows"}),
        (twice("extra"), {"instance_extra rows"}),
        (setting("extra", 0, flavor=None), {"instance_extra.flavor"}),
        (without("info_caches"), {"instance_info_caches rows"}),
        (twice("info_caches"), {"instance_info_caches rows"}),
        (network(list.clear), {INTERFACE}),
        (network(lambda some: some[0].update(active=False)), {f"{INTERFACE} active"}),
        (
            network(lambda some: some[0].update(address="x")),
            {INTERFACE, "instance_info_caches.network_info x"},
        ),
        (network(lambda some: some[0]["network"].update(label="x")), {f"{INTERFACE} label"}),
        (network(lambda some: some[0]["network"].update(id="x")), {f"{INTERFACE} network"}),
        (network(lambda some: some[0]["network"]["subnets"].pop()), {f"{INTERFACE} addresses"}),
        (setting("metadata", 0, value="vm-2"), {"instance_metadata.vsphere:moref"}),
        (setting("metadata", 1, key="vsphere:odd"), {"instance_metadata.vsphere:odd"}),
        (twice("metadata"), {"instance_metadata rows of vsphere:moref"}),
        (
            setting("system_metadata", 2, value="raw"),
            {"instance_system_metadata.image_disk_format"},
        ),
        (setting("devices", 1, volume_size=6), {"block_device_mapping /dev/sdb volume_size"}),
        (
            setting("devices", 1, device_name="/dev/sdc"),
            {"block_device_mapping /dev/sdb device_name"},
        ),
        (setting("devices", 0, boot_index=-1), {"block_device_mapping /dev/sda boot_index"}),
        (setting("devices", 0, disk_bus="ide"), {"block_device_mapping /dev/sda disk_bus"}),
        (setting("devices", 1, source_type="image"), {"block_device_mapping /dev/sdb source_type"}),
        (twice("devices"), {f"block_device_mapping rows of {RECORD.disks[0].uuid}"}),
        (lambda rows: rows.devices.pop(), {"block_device_mapping /dev/sdb"}),
        (
            lambda rows: rows.devices.append({**rows.devices[1], "uuid": "x", "device_name": "/y"}),
            {"block_device_mapping /y"},
        ),
        (without("mappings"), {"instance_mappings"}),
        (setting("mappings", 0, cell_id=2), {"instance_mappings.cell_id"}),
        (setting("mappings", 0, project_id="x"), {"instance_mappings.project_id"}),
        (setting("mappings", 0, user_id="x"), {"instance_mappings.user_id"}),
        (setting("mappings", 0, queued_for_delete=True), {"instance_mappings.queued_for_delete"}),
        (without("request_specs"), {"request_specs"}),
        (setting("request_specs", 0, spec="{"), {"request_specs.spec"}),
    ],
)  # fmt: skip
def test_each_other_row_that_differs_is_named_alone(
    change: Callable[[ServerRows], None], fields: set[str]
) -> None:
    rows = server_rows()
    change(rows)
    assert compared(rows).keys() == fields


def test_embedded_flavor_that_differs_is_named_with_what_follows_it() -> None:
    rows = server_rows()
    other = mapping_hardware.sized_flavor(3, 4096, 40, 5)
    cast(Any, rows.extra[0])["flavor"] = primitives.embedded_flavor(other)
    fields = compared(rows)
    assert fields["instance_extra.flavor.vcpus"] == ("2", "3")
    assert fields["instances.vcpus"] == ("3", "2")
    assert fields["request_specs.flavor.vcpus"] == ("3", "2")


def test_flavor_of_novas_table_says_what_was_ordered_but_its_processors_are_compared() -> None:
    rows = server_rows()
    ordered = dataclasses.replace(RECORD.flavor, id=5, root_gb=0, ephemeral_gb=0, name="m1.small")
    cast(Any, rows.extra[0])["flavor"] = primitives.embedded_flavor(ordered)
    spec = primitives.request_spec_with(rows.request_specs[0]["spec"], ordered)
    cast(Any, rows.request_specs[0])["spec"] = spec
    cast(Any, rows.instance).update(root_gb=0, ephemeral_gb=0, instance_type_id=5)
    assert compared(rows) == {}
    grown = dataclasses.replace(RECORD, flavor=mapping_hardware.flavor(4, 4096, DISKS))
    expected = dataclasses.replace(EXPECTED, record=grown)
    assert compared(rows, expected).keys() == {"instance_extra.flavor.vcpus"}


def test_created_server_keeps_its_disks_its_lock_and_its_name_where_it_was_made_unique() -> None:
    rows = server_rows()
    rows.devices.clear()
    cast(Any, rows.instance).update(reservation_id="r-1", disable_terminate=True, image_ref="other")
    record = dataclasses.replace(RECORD, display_name=f"web-{UUID}")
    expected = dataclasses.replace(EXPECTED, origin=Origin.CREATED, record=record)
    assert compared(rows, expected) == {}
    assert compared(rows).keys() >= {"instances.reservation_id", "instances.disable_terminate"}


@pytest.mark.parametrize("state", ["error", "rescued", "building", "resized", "shelved_offloaded"])
def test_states_that_are_novas_own_are_not_compared_with_power(state: str) -> None:
    rows = server_rows()
    cast(Any, rows.instance).update(vm_state=state)
    assert compared(rows) == {}
    cast(Any, rows.instance).update(power_state=4)
    assert compared(rows).keys() == {"instances.power_state"}


def test_interface_of_a_neutron_port_is_neutrons_and_covers_its_adapter() -> None:
    def own(interfaces: list[Any]) -> None:
        interfaces[0].update(id="5b9e1f6e-0000-4000-8000-00000000000a", active=False)

    rows = server_rows()
    network(own)(rows)
    assert compared(rows) == {}
    second = NicRecord("n", "l", "00:50:56:00:00:02", "VirtualE1000", True, ())
    record = dataclasses.replace(RECORD, nics=(*RECORD.nics, second))
    found = compared(rows, dataclasses.replace(EXPECTED, record=record))
    assert found == {"instance_info_caches.network_info 00:50:56:00:00:02": ("l", "")}


IMAGE = ImageRecord(
    id="image", name="template", owner="project", visibility="shared",
    members=frozenset({"friend"}), size_bytes=40 << 30, min_disk_gb=40, min_ram_mb=0, location="vsphere://vcenter/folder/a",
    properties={"vsphere_moref": "vm-1", "hypervisor_type": "vmware"}, created_at=THEN,
)  # fmt: skip


def image_rows() -> ImageRows:
    columns: Any = {
        "id": "image", "name": "template", "size": 40 << 30, "virtual_size": 40 << 30,
        "min_disk": 40, "min_ram": 0, "disk_format": "vmdk", "container_format": "bare",
        "status": "active", "protected": True, "deleted": False, "owner": "project",
        "visibility": "shared",
    }  # fmt: skip
    properties = {**IMAGE.properties, "users": "own"}
    return ImageRows(columns, properties, [IMAGE.location, "http://elsewhere"], {"friend"})


def image_fields(rows: ImageRows | None) -> set[str]:
    findings = Findings()
    compare_image(findings, SUBJECT, IMAGE, rows, with_locations=True)
    return {one.field for one in findings.differences}


def test_image_as_it_should_be_differs_in_nothing() -> None:
    assert image_fields(image_rows()) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "x"), ("size", 1), ("virtual_size", 1), ("min_disk", 1), ("min_ram", 1),
        ("disk_format", "raw"), ("container_format", "ova"), ("status", "queued"),
        ("protected", False), ("owner", "x"), ("owner", None), ("visibility", "public"),
    ],
)  # fmt: skip
def test_each_column_of_an_image_that_differs_is_named_alone(name: str, value: object) -> None:
    rows = image_rows()
    cast(Any, rows.image)[name] = value
    assert image_fields(rows) == {f"images.{name}"}


def test_properties_and_locations_of_an_image_are_compared() -> None:
    assert image_fields(None) == {"images"}
    rows = image_rows()
    rows.properties.update(vsphere_moref="x", vmware_ostype="x")
    del rows.properties["hypervisor_type"]
    rows.locations[0] = "vsphere://vcenter/folder/b"
    assert image_fields(rows) == {
        "image_properties.vsphere_moref", "image_properties.vmware_ostype",
        "image_properties.hypervisor_type", "image_locations",
    }  # fmt: skip


def test_project_that_the_rules_name_must_be_a_member_and_others_may_be() -> None:
    rows = image_rows()
    rows.members.clear()
    assert image_fields(rows) == {"image_members"}
    rows.members.update({"friend", "another"})
    findings = Findings()
    compare_image(findings, SUBJECT, IMAGE, rows, with_locations=True)
    assert findings.differences == []
    assert ["another" in one.reason for one in findings.excuses] == [True]


CLUSTER = ClusterRow(
    uuid="cluster", vcenter_uuid="vcenter", moref="domain-c1", name="production",
    known_name="production", host_uuids=(), compute_host="production", compute_node_uuid="node",
    hypervisor_hostname="domain-c1.vcenter", state=ClusterState.ACTIVE, state_reason="",
    policy="managed", created_at=THEN, updated_at=THEN,
)  # fmt: skip
NODE: Any = {"uuid": "node", "hypervisor_hostname": "domain-c1.vcenter"}
SERVICE: Any = {"host": "production"}


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        (HostRows([SERVICE], [NODE], [cast(Any, {"cell_id": 1})]), set()),
        (HostRows([], [NODE], [cast(Any, {"cell_id": 1})]), {"services rows"}),
        (HostRows([SERVICE, SERVICE], [NODE], [cast(Any, {"cell_id": 1})]), {"services rows"}),
        (HostRows([SERVICE], [], [cast(Any, {"cell_id": 1})]), {"compute_nodes rows"}),
        (
            HostRows([SERVICE], [{**NODE, "uuid": "x"}], [cast(Any, {"cell_id": 1})]),
            {"compute_nodes.uuid"},
        ),
        (HostRows([SERVICE], [NODE], []), {"host_mappings.cell_id"}),
        (HostRows([SERVICE], [NODE], [cast(Any, {"cell_id": 2})]), {"host_mappings.cell_id"}),
    ],
)
def test_each_row_of_a_compute_host_that_differs_is_named_alone(
    rows: HostRows, fields: set[str]
) -> None:
    findings = Findings()
    compare_host(findings, SUBJECT, CLUSTER, rows, 1)
    assert {one.field for one in findings.differences} == fields


TOTALS = {"vcpus": 96, "memory_mb": 4096, "local_gb": 100}


@pytest.mark.parametrize("name", TOTALS)
def test_each_total_of_a_compute_node_that_differs_is_named_alone(name: str) -> None:
    findings = Findings()
    compare_totals(findings, SUBJECT, TOTALS, HostRows([], [cast(Any, TOTALS)], []))
    assert findings.differences == []
    compare_totals(findings, SUBJECT, TOTALS, HostRows([], [cast(Any, {**TOTALS, name: 1})], []))
    assert [(one.field, one.found) for one in findings.differences] == [
        (f"compute_nodes.{name}", "1")
    ]


@pytest.mark.parametrize(
    ("rows", "provider", "fields"),
    [
        (HostRows(), False, set()),
        (HostRows(services=[SERVICE]), False, {"services rows"}),
        (HostRows(nodes=[NODE]), False, {"compute_nodes rows"}),
        (HostRows(mappings=[SERVICE]), False, {"host_mappings rows"}),
        (HostRows(), True, {"resource_provider"}),
    ],
)
def test_each_row_of_a_host_that_should_be_gone_is_named_alone(
    rows: HostRows, provider: bool, fields: set[str]
) -> None:
    findings = Findings()
    compare_former_host(findings, SUBJECT, rows, PROVIDER if provider else None)
    assert {one.field for one in findings.differences} == fields


INVENTORY = {"total": 10, "reserved": 0, "allocation_ratio": 1.0}
PROVIDER = Provider(
    name="domain-c1.vcenter",
    inventories=dict.fromkeys(("VCPU", "MEMORY_MB", "DISK_GB"), INVENTORY),
    usages={"VCPU": 10},
    traits=frozenset({"CUSTOM_VSG_VCENTER_VCENTER"}),
    allocations={},
)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, set()),
        ({"name": "x"}, {"resource_provider.name"}),
        ({"traits": frozenset()}, {"traits"}),
        ({"usages": {"VCPU": 11}}, {"inventories.VCPU"}),
        ({"inventories": {"VCPU": INVENTORY}}, {"inventories.MEMORY_MB", "inventories.DISK_GB"}),
    ],
)
def test_each_part_of_a_provider_that_differs_is_named_alone(
    changes: dict[str, Any], fields: set[str]
) -> None:
    findings = Findings()
    compare_provider(findings, SUBJECT, CLUSTER, dataclasses.replace(PROVIDER, **changes))
    assert {one.field for one in findings.differences} == fields


def test_missing_provider_is_named() -> None:
    findings = Findings()
    compare_provider(findings, SUBJECT, CLUSTER, None)
    assert [(one.place, one.field) for one in findings.differences] == [
        (Place.PLACEMENT, "resource_provider")
    ]


@pytest.mark.parametrize(
    ("found", "fields"),
    [
        ({"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 45}, set()),
        ({"VCPU": 3, "MEMORY_MB": 4096, "DISK_GB": 45}, {"allocations.VCPU"}),
        ({"VCPU": 2, "MEMORY_MB": 4096}, {"allocations.DISK_GB"}),
        ({"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 45, "VGPU": 1}, {"allocations.VGPU"}),
        (None, {"allocations"}),
    ],
)
def test_each_amount_that_differs_is_named_alone(
    found: dict[str, int] | None, fields: set[str]
) -> None:
    findings = Findings()
    compare_allocation(findings, SUBJECT, server_rows().instance, found)
    assert {one.field for one in findings.differences} == fields


def test_amounts_of_a_flavor_of_novas_own_are_its_own_matter() -> None:
    findings = Findings()
    row: Any = {**server_rows().instance, "instance_type_id": 5}
    compare_allocation(findings, SUBJECT, row, {"CUSTOM_GOLD": 1})
    assert findings.differences == []
    compare_allocation(findings, SUBJECT, row, None)
    assert [one.field for one in findings.differences] == ["allocations"]
