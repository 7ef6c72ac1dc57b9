"""The parser: what pyVmomi would say, for what vCenter sends and no simulator has."""

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from common.references import key_of, reference_of
from edge.vcenter.client import faults
from edge.vcenter.client.answers import (
    continuation_token,
    parse_objects,
    parse_updates,
    returned_reference,
    updates_header,
)
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE, spec_of
from edge.vcenter.collector.machines import Machine
from edge.vcenter.collector.parser import apply_full_read, apply_properties, body_of, new_object
from tests.support.pyvmomi_reading import READINGS
from tests.support.vsphere_answers import (
    array,
    change,
    changed,
    content,
    read_answer,
    soap,
    update_answer,
)
from vsphere_gateway.v1 import inventory_pb2

DEVICE = vim.vm.device
DISK = DEVICE.VirtualDisk
CARD = DEVICE.VirtualEthernetCard
UTC = datetime.UTC
KEY = "VirtualMachine:vm-7"


def parsed(managed_object: Any, values: Mapping[str, Any]) -> Any:
    (found,) = (
        applied(found.key, found.values, found.missing)
        for found in parse_objects(content(managed_object, values))
    )
    return found


def applied(key: str, values: Mapping[str, Any], missing: Mapping[str, str]) -> Any:
    state = new_object(key)
    spec = spec_of(key.partition(":")[0])
    assert spec is not None
    apply_full_read(key, body_of(state), values, spec.all_paths, missing)
    return body_of(state)


def disk(key: int, backing: Any, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "key": key,
        "controllerKey": 1000,
        "unitNumber": key - 2000,
        "capacityInKB": 4 << 20,
        "deviceInfo": vim.Description(label=f"Hard disk {key - 1999}", summary=""),
        "backing": backing,
    }
    return DISK(**(given | fields))


def machine_values(**changes: Any) -> dict[str, Any]:
    store = vim.Datastore("datastore-1")
    devices = [
        DEVICE.VirtualAHCIController(key=15000, busNumber=1),
        DEVICE.VirtualNVMEController(key=31000, busNumber=0),
        DEVICE.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing"),
        disk(
            2003,
            DISK.SeSparseBackingInfo(fileName="[a] c.vmdk", diskMode="persistent", datastore=store),
        ),
        disk(
            2001,
            DISK.RawDiskMappingVer1BackingInfo(
                fileName="[a] rdm.vmdk", compatibilityMode="physicalMode", lunUuid="0200"
            ),
            controllerKey=15000,
        ),
        disk(
            2000,
            DISK.FlatVer2BackingInfo(
                fileName="[a] child.vmdk",
                diskMode="persistent",
                thinProvisioned=True,
                datastore=store,
                uuid="6000C29-1",
                parent=DISK.FlatVer2BackingInfo(fileName="[a] parent.vmdk", diskMode="persistent"),
            ),
            capacityInBytes=4 << 30,
            vDiskId=vim.vslm.ID(id="fcd-1"),
        ),
        disk(2005, DISK.RawDiskVer2BackingInfo(descriptorFileName="x", deviceName="y")),
        disk(2006, None, controllerKey=31000, deviceInfo=None),
        DEVICE.VirtualVmxnet3(
            key=4000,
            macAddress="00:50:56:AA:BB:CC",
            connectable=DEVICE.VirtualDevice.ConnectInfo(
                startConnected=True, allowGuestControl=True, connected=False
            ),
            backing=CARD.OpaqueNetworkBackingInfo(
                opaqueNetworkId="segment-1", opaqueNetworkType="nsx.LogicalSwitch"
            ),
        ),
        DEVICE.VirtualVmxnet3Vrdma(
            key=4001,
            macAddress="00:50:56:aa:bb:cd",
            backing=CARD.DistributedVirtualPortBackingInfo(
                port=vim.dvs.PortConnection(switchUuid="50 1d", portgroupKey="dvportgroup-9")
            ),
        ),
        DEVICE.VirtualCdrom(key=3000, backing=DEVICE.VirtualCdrom.AtapiBackingInfo(deviceName="")),
    ]
    values: dict[str, Any] = {
        "name": "100%25 a%2Fb%5Cc",
        "parent": vim.Folder("group-v3"),
        "resourcePool": vim.ResourcePool("resgroup-8"),
        "datastore": array("vim.Datastore", [vim.Datastore("datastore-2"), store]),
        "customValue": array(
            "vim.CustomFieldsManager.Value",
            [
                vim.CustomFieldsManager.StringValue(key=103, value="late"),
                vim.CustomFieldsManager.StringValue(key=12, value="early"),
                vim.CustomFieldsManager.StringValue(key=13, value=""),
            ],
        ),
        "rootSnapshot": array("vim.vm.Snapshot", [vim.vm.Snapshot("snapshot-1")]),
        "runtime.host": vim.HostSystem("host-9"),
        "runtime.powerState": vim.VirtualMachine.PowerState.suspended,
        "runtime.connectionState": vim.VirtualMachine.ConnectionState.inaccessible,
        "runtime.bootTime": datetime.datetime(2026, 3, 1, 12, 30, 5, 123456, tzinfo=UTC),
        "config.template": False,
        "config.changeVersion": "2026-03-01T12:30:05.123456Z",
        "guest.toolsRunningStatus": "guestToolsRunning",
        "guest.hostName": "web.example.com",
        "guest.net": array(
            "vim.vm.GuestInfo.NicInfo",
            [
                vim.vm.GuestInfo.NicInfo(
                    deviceConfigId=4000,
                    connected=True,
                    ipAddress=["192.0.2.9", "fe80::250:56ff:feaa:bbcc", "2001:db8::9"],
                ),
                vim.vm.GuestInfo.NicInfo(
                    deviceConfigId=-1, connected=True, ipAddress=["172.17.0.1"]
                ),
                vim.vm.GuestInfo.NicInfo(
                    deviceConfigId=4000, connected=True, ipAddress=["192.0.2.10", "169.254.1.1"]
                ),
            ],
        ),
        "config.instanceUuid": "5000c29a-0000-0000-0000-000000000007",
        "config.uuid": "4200c29a-0000-0000-0000-000000000007",
        "config.hardware.numCPU": 8,
        "config.hardware.numCoresPerSocket": 4,
        "config.hardware.memoryMB": 16384,
        "config.hardware.device": array("vim.vm.device.VirtualDevice", devices),
        "config.guestId": "ubuntu64Guest",
        "config.guestFullName": "Ubuntu Linux (64-bit)",
        "config.version": "vmx-21",
        "config.firmware": "efi",
        "config.annotation": "two\nlines <&> \N{SNOWMAN} \N{PILE OF POO}",
        "config.managedBy": vim.ext.ManagedByInfo(
            extensionKey="com.vmware.vim.eam", type="cluster-agent"
        ),
        "config.ftInfo.role": 2,
        "config.createDate": datetime.datetime(2020, 2, 29, tzinfo=UTC),
        "config.files.vmPathName": "[a] web/web.vmx",
    }
    return values | changes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # What vCenter leaves out.
        dict.fromkeys(
            (
                "parent",
                "resourcePool",
                "datastore",
                "customValue",
                "rootSnapshot",
                "runtime.host",
                "runtime.bootTime",
                "guest.toolsRunningStatus",
                "guest.hostName",
                "guest.net",
                "config.annotation",
                "config.managedBy",
                "config.ftInfo.role",
                "config.createDate",
                "config.hardware.numCoresPerSocket",
            )
        ),
        # vCenter's way to say that it does not know.
        {"config.createDate": datetime.datetime(1970, 1, 1, tzinfo=UTC)},
        {"config.managedBy": vim.ext.ManagedByInfo(extensionKey="com.x", type="placeholderVm")},
        {
            "runtime.bootTime": datetime.datetime(
                2026, 1, 1, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
            )
        },
    ],
)
def test_virtual_machine_is_parsed_as_pyvmomi_reads_it(changes: dict[str, Any]) -> None:
    values = machine_values(**changes)
    expected = READINGS["VirtualMachine"]({k: v for k, v in values.items() if v is not None})
    assert parsed(vim.VirtualMachine("vm-7"), values) == expected


def test_details_that_nova_and_glance_depend_on() -> None:
    machine = parsed(vim.VirtualMachine("vm-7"), machine_values())
    assert machine.name == "100% a/b\\c"
    disks = {each.key: each for each in machine.disks}
    assert [each.key for each in machine.disks] == [2000, 2001, 2003, 2005, 2006]
    assert disks[2000].parent_file_name == "[a] parent.vmdk"
    assert disks[2000].first_class_disk_id == "fcd-1"
    assert disks[2000].disk_type == "thin"
    assert disks[2001].raw_device_mapping
    assert disks[2005].raw_device_mapping
    assert disks[2001].adapter_type == "sata"
    assert disks[2003].disk_type == "sparse"
    assert disks[2006].adapter_type == "nvme"
    assert disks[2006].capacity_bytes == 4 << 30
    first, second = machine.nics
    assert list(first.ip_addresses) == ["192.0.2.10", "192.0.2.9", "2001:db8::9"]
    assert first.mac_address == "00:50:56:aa:bb:cc"
    assert first.portgroup_key == "segment-1"
    assert not first.connected
    assert (second.model, second.portgroup_key) == ("VirtualVmxnet3", "dvportgroup-9")
    assert [each.name for each in machine.custom_attributes] == ["12", "103"]
    assert machine.fault_tolerance_role == 2


def test_port_group_on_a_trunk_has_no_vlan() -> None:
    policy = vim.dvs.VmwareDistributedVirtualSwitch
    group = vim.dvs.DistributedVirtualPortgroup("dvportgroup-3")
    for vlan, expected in (
        (policy.TrunkVlanSpec(vlanId=[vim.NumericRange(start=1, end=4094)]), 0),
        (policy.PvlanSpec(pvlanId=7), 0),
        (policy.VlanIdSpec(vlanId=12), 12),
        (None, 0),
    ):
        values = {
            "name": "g",
            "key": "dvportgroup-3",
            "parent": vim.Folder("group-n1"),
            "config.defaultPortConfig": policy.VmwarePortConfigPolicy(vlan=vlan),
        }
        assert parsed(group, values) == READINGS["DistributedVirtualPortgroup"](values)
        assert parsed(group, values).vlan_id == expected


def test_host_that_is_away_keeps_what_vcenter_hides_meanwhile() -> None:
    host = vim.HostSystem("host-9")
    whole = {
        "name": "esx1",
        "hardware.systemInfo.uuid": "4c4c4544-1",
        "summary.hardware.numCpuThreads": 64,
        "runtime.connectionState": vim.HostSystem.ConnectionState.connected,
    }
    state = new_object("HostSystem:host-9")
    for values in (
        whole,
        {"name": "esx1", "runtime.connectionState": vim.HostSystem.ConnectionState.notResponding},
    ):
        for found in parse_objects(content(host, values)):
            apply_full_read(
                found.key, body_of(state), found.values, spec_paths("HostSystem"), found.missing
            )
    assert state.host.connection_state == inventory_pb2.CONNECTION_STATE_NOT_RESPONDING
    assert state.host.hardware_uuid == "4c4c4544-1"
    assert state.host.cpu_threads == 64


def test_inaccessible_machine_keeps_its_configuration() -> None:
    """Losing ``managedBy`` would let an agent's virtual machine be adopted."""
    machine = Machine()
    whole = machine_values()
    away = {k: v for k, v in whole.items() if not k.startswith("config.")}
    for values in (whole, away):
        for found in parse_objects(content(vim.VirtualMachine("vm-7"), values)):
            machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    assert machine.message().managed_by.type == "cluster-agent"
    assert machine.message().annotation
    assert machine.problem == ""


def test_what_may_not_be_seen_keeps_what_it_was() -> None:
    machine = Machine()
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), machine_values())):
        machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    missing = [
        vmodl.query.PropertyCollector.MissingProperty(
            path="config.annotation", fault=vim.fault.NoPermission(privilegeId="System.Read")
        )
    ]
    rest = {k: v for k, v in machine_values().items() if k != "config.annotation"}
    one = vmodl.query.PropertyCollector.ObjectContent(
        obj=vim.VirtualMachine("vm-7"),
        propSet=[vmodl.DynamicProperty(name=k, val=v) for k, v in rest.items()],
        missingSet=missing,
    )
    answer = read_answer(vmodl.query.PropertyCollector.RetrieveResult(objects=[one]))
    for found in parse_objects(answer):
        assert found.missing == {"config.annotation": "NoPermission"}
        machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    assert machine.message().annotation.startswith("two")


def test_properties_missing_for_lack_of_a_session_say_nothing() -> None:
    one = vmodl.query.PropertyCollector.ObjectContent(
        obj=vim.VirtualMachine("vm-7"),
        missingSet=[
            vmodl.query.PropertyCollector.MissingProperty(
                path="name", fault=vim.fault.NotAuthenticated(privilegeId="System.Read")
            )
        ],
    )
    answer = read_answer(vmodl.query.PropertyCollector.RetrieveResult(objects=[one]))
    with pytest.raises(faults.SessionExpiredError):
        list(parse_objects(answer))


def spec_paths(type_name: str) -> tuple[str, ...]:
    spec = spec_of(type_name)
    assert spec is not None
    return spec.all_paths


# Updates


def test_header_is_read_without_parsing() -> None:
    header = updates_header(update_answer(version="8&amp;", truncated=True))
    assert header is not None
    assert (header.version, header.truncated) == ("8&", True)
    assert updates_header(soap('<WaitForUpdatesExResponse xmlns="urn:vim25"/>')) is None


def test_assigned_and_removed_values_are_told_apart() -> None:
    answer = update_answer(
        changed(
            change("name", "new"),
            change("config.annotation", operation="remove"),
            change("guest.hostName", operation="indirectRemove"),
            change("runtime.bootTime"),
        )
    )
    for found in parse_updates(answer):
        assert (found.key, found.kind) == (KEY, "modify")
        name = found.values["name"]
        assert name is not None
        assert name.text == "new"
        for path in ("config.annotation", "guest.hostName", "runtime.bootTime"):
            assert found.values[path] is None


def test_change_of_one_property_makes_the_whole_object_again() -> None:
    state = new_object(KEY)
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), machine_values())):
        apply_properties(KEY, body_of(state), found.values)
    expected = inventory_pb2.InventoryObject()
    expected.CopyFrom(state)
    expected.virtual_machine.power_state = inventory_pb2.POWER_STATE_ON
    expected.virtual_machine.ClearField("guest_hostname")
    answer = update_answer(
        changed(
            change("runtime.powerState", "poweredOn"),
            change("guest.hostName", operation="indirectRemove"),
            change("config.unknown", "x"),
        )
    )
    for found in parse_updates(answer):
        apply_properties(KEY, body_of(state), found.values)
    assert state == expected


def test_new_addresses_find_their_adapter_and_new_devices_keep_addresses() -> None:
    state = new_object(KEY)
    values = machine_values()
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), values)):
        apply_properties(KEY, body_of(state), found.values)
    before = list(state.virtual_machine.nics[0].ip_addresses)
    devices = {"config.hardware.device": values["config.hardware.device"]}
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), devices)):
        apply_properties(KEY, body_of(state), found.values)
    assert list(state.virtual_machine.nics[0].ip_addresses) == before
    nets = array(
        "vim.vm.GuestInfo.NicInfo",
        [
            vim.vm.GuestInfo.NicInfo(deviceConfigId=4001, connected=True, ipAddress=["192.0.2.1"]),
            vim.vm.GuestInfo.NicInfo(deviceConfigId=4002, connected=True, ipAddress=["192.0.2.2"]),
        ],
    )
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), {"guest.net": nets})):
        apply_properties(KEY, body_of(state), found.values)
    first, second = state.virtual_machine.nics
    assert list(first.ip_addresses) == []
    assert list(second.ip_addresses) == ["192.0.2.1"]


# Bad answers


def test_objects_of_a_page_that_is_not_xml_are_read_without_what_is_forbidden(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = update_answer(
        changed(change("name", "a&#x1;b")), changed(change("name", "second"), kind="enter")
    )
    names = [
        found.values["name"].text
        for found in parse_updates(answer)
        if found.values["name"] is not None
    ]
    assert names[-2:] == ["a\x01b", "second"]
    assert "XML forbids" in caplog.text


@pytest.mark.parametrize("body", [b"", b"<html><body>Bad gateway", b"\x00\x01", b"{}"])
def test_what_is_no_answer_at_all_is_an_error(body: bytes) -> None:
    with pytest.raises(faults.UnexpectedAnswerError):
        list(parse_objects(body))


def test_entities_are_not_expanded() -> None:
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
        + update_answer(
            changed("<changeSet><name>name</name><op>assign</op><val>&a;</val></changeSet>")
        ).partition(b"?>")[2]
    )
    for found in parse_updates(bomb):
        value = found.values["name"]
        assert value is None or not (value.text or "").strip()


def test_value_of_another_kind_makes_the_object_unreadable_and_keeps_the_rest() -> None:
    machine = Machine()
    wrong = machine_values(**{"config.hardware.numCPU": "many", "config.hardware.memoryMB": -1})
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), wrong)):
        machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    assert "config.hardware.numCPU" in machine.problem
    assert "config.hardware.memoryMB" in machine.problem
    assert machine.message().name == "100% a/b\\c"
    for found in parse_objects(content(vim.VirtualMachine("vm-7"), machine_values())):
        machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    assert machine.problem == ""


def test_machine_without_a_configuration_is_unreadable_and_says_why() -> None:
    values = {k: v for k, v in machine_values().items() if not k.startswith("config.")}
    for found in parse_objects(content(vim.VirtualMachine("vm-8"), values)):
        machine = Machine()
        machine.apply_read(found, VIRTUAL_MACHINE.all_paths)
    assert "config.instanceUuid" in machine.problem


def test_continuation_and_returned_references() -> None:
    one = vmodl.query.PropertyCollector.ObjectContent(obj=vim.Folder("group-1"))
    result = vmodl.query.PropertyCollector.RetrieveResult(token="t-1", objects=[one])
    assert continuation_token(read_answer(result)) == "t-1"
    assert continuation_token(content(vim.Folder("group-1"), {"name": "a"})) == ""
    made = soap('<R xmlns="urn:vim25"><returnval type="ContainerView">v-1</returnval></R>')
    assert returned_reference(made) == "ContainerView:v-1"
    with pytest.raises(faults.UnexpectedAnswerError):
        returned_reference(soap('<R xmlns="urn:vim25"/>'))


def test_keys_and_references_are_the_same() -> None:
    assert key_of(reference_of("Datastore:datastore-1")) == "Datastore:datastore-1"
    assert key_of(inventory_pb2.ObjectReference()) == ""
