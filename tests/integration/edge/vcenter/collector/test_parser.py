"""The parser says of every object in a vcsim exactly what pyVmomi's own parse says.

What vcsim does not have (sparse and raw disks, linked clones, Fault Tolerance) is in the unit test
of the same promise.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from common.references import type_name_of
from edge.config import ManagedSettings
from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.property_specs import spec_of
from edge.vcenter.collector.object_reader import ObjectReader
from edge.vcenter.collector.parser import apply_full_read, body_of, new_object
from tests.support.edge_vcenter_site import VCenterSite
from tests.support.pyvmomi_reading import READINGS
from tests.support.servers import StartVcsim

DEVICE = vim.vm.device
DISK = DEVICE.VirtualDisk
CARD = DEVICE.VirtualEthernetCard


@pytest.fixture
def site(vcsim: StartVcsim, tmp_path: Path) -> Iterator[VCenterSite]:
    simulator = vcsim(cluster=2, host=2, vm=2, standalone_host=1, ds=2, pg=2, pool=1, app=1, pod=1)
    opened = VCenterSite(simulator, tmp_path, ManagedSettings(("*",)))
    make_rich(opened)
    yield opened
    opened.close()


def make_rich(site: VCenterSite) -> None:
    """Give one virtual machine one of everything that vcsim knows."""
    machine = site.machine("DC0_C0_RP1_VM0")
    site.reconfigure(machine, deviceChange=[add(each) for each in controllers()])
    bus = {type(each).__name__: each.key for each in machine.config.hardware.device}
    site.reconfigure(machine, deviceChange=list(disks(bus)))
    site.reconfigure(machine, deviceChange=[add(each) for each in cards(site)])
    site.reconfigure(
        machine,
        annotation="näme\nsecond line <&>",
        numCPUs=4,
        numCoresPerSocket=2,
        managedBy=vim.ext.ManagedByInfo(extensionKey="com.vmware.vcDr", type="placeholderVm"),
    )
    site.finish(machine.CreateSnapshot_Task("before", "", False, False))
    site.finish(machine.Rename_Task("50%25 of a%2fb%5cc"))
    fields = site.administrator.content.customFieldsManager
    for name, value in (("owner", "alice"), ("empty", "")):
        fields.SetField(machine, fields.AddCustomFieldDef(name, vim.VirtualMachine).key, value)
    template = site.machine("DC0_C0_RP1_VM1")
    site.finish(template.PowerOffVM_Task())
    template.MarkAsTemplate()
    site.finish(site.machine("DC0_C1_RP1_VM0").SuspendVM_Task())


def add(device: Any, file: str | None = None) -> Any:
    return DEVICE.VirtualDeviceSpec(operation="add", device=device, fileOperation=file)


def controllers() -> Iterator[Any]:
    kinds = (
        DEVICE.VirtualLsiLogicController,
        DEVICE.VirtualBusLogicController,
        DEVICE.VirtualLsiLogicSASController,
    )
    for number, kind in enumerate(kinds, start=1):
        yield kind(key=-number, busNumber=number, sharedBus="noSharing")
    yield DEVICE.VirtualAHCIController(key=-8, busNumber=0)
    yield DEVICE.VirtualNVMEController(key=-9, busNumber=0)


def disks(bus: dict[str, int]) -> Iterator[Any]:
    flat = DISK.FlatVer2BackingInfo
    backings = [
        flat(fileName="", diskMode="persistent", thinProvisioned=True),
        flat(fileName="", diskMode="persistent", thinProvisioned=False, eagerlyScrub=True),
        flat(fileName="", diskMode="independent_persistent", sharing="sharingMultiWriter"),
    ]
    keys = [key for name, key in sorted(bus.items()) if "Logic" in name]
    for number, backing in enumerate(backings):
        disk = DISK(
            key=-20 - number,
            capacityInKB=(number + 1) << 20,
            controllerKey=keys[number % len(keys)],
            unitNumber=number + 1,
            backing=backing,
        )
        yield add(disk, "create")


def cards(site: VCenterSite) -> Iterator[Any]:
    plain = CARD.NetworkBackingInfo(
        deviceName="VM Network", network=site.named(vim.Network, "VM Network")
    )
    group = site.named(vim.dvs.DistributedVirtualPortgroup, "DC0_DVPG1")
    distributed = CARD.DistributedVirtualPortBackingInfo(
        port=vim.dvs.PortConnection(
            portgroupKey=group.key, switchUuid=group.config.distributedVirtualSwitch.uuid
        )
    )
    for number, kind in enumerate(
        (
            DEVICE.VirtualE1000e,
            DEVICE.VirtualVmxnet2,
            DEVICE.VirtualVmxnet3,
            DEVICE.VirtualPCNet32,
            DEVICE.VirtualSriovEthernetCard,
        )
    ):
        backing = plain if number % 2 else distributed
        yield kind(key=-40 - number, backing=backing, macAddress=f"00:50:56:AB:CD:0{number}")


def test_every_object_is_parsed_as_pyvmomi_parses_it(site: VCenterSite) -> None:
    content = site.administrator.content
    view: Any = content.viewManager.CreateContainerView(content.rootFolder, [], True)
    objects = [each for each in view.view if spec_of(each._wsdlName) is not None]
    objects.append(content.rootFolder)
    expected = {f"{each._wsdlName}:{each._moId}": pyvmomi_message(site, each) for each in objects}
    parsed = {}
    for found, spec in ObjectReader(site.session).read_whole(sorted(expected)):
        state = new_object(found.key)
        apply_full_read(found.key, body_of(state), found.values, spec.all_paths, found.missing)
        parsed[found.key] = body_of(state)
    assert parsed.keys() == expected.keys()
    for key, message in expected.items():
        assert parsed[key] == message, key
    assert {type_name_of(key) for key in parsed} >= {
        "StoragePod",
        "VirtualApp",
        "DistributedVirtualPortgroup",
        "HostSystem",
    }


def pyvmomi_message(site: VCenterSite, managed_object: Any) -> Any:
    spec = spec_of(managed_object._wsdlName)
    assert spec is not None
    values = read_properties(site.administrator, managed_object, spec.all_paths)
    return READINGS[managed_object._wsdlName](values)


def test_the_machine_that_is_compared_has_one_of_everything(site: VCenterSite) -> None:
    with site.following() as follower:
        machine = follower.machine("50% of a/b\\c")
        template = follower.object("DC0_C0_RP1_VM1")
    assert {each.adapter_type for each in machine.disks} >= {
        "paraVirtual",
        "lsiLogic",
        "busLogic",
        "lsiLogicsas",
    }
    assert {each.disk_type for each in machine.disks} == {
        "thin",
        "eagerZeroedThick",
        "preallocated",
    }
    assert any(each.shared for each in machine.disks)
    assert {each.model for each in machine.nics} == {
        "VirtualE1000",
        "VirtualE1000e",
        "VirtualVmxnet",
        "VirtualVmxnet3",
        "VirtualPCNet32",
        "VirtualSriovEthernetCard",
    }
    assert all(each.network.value for each in machine.nics)
    assert machine.placeholder
    assert machine.has_snapshot
    assert [each.name for each in machine.custom_attributes] == ["owner"]
    assert template.WhichOneof("body") == "template"
