"""Reverting to a snapshot restores what the snapshot has."""

from typing import Any

from pyVmomi import vim

from tests.integration.tools.simulator.vcenter_client import VCenterClient


def snapshot(vcenter: VCenterClient, machine: Any, *, memory: bool = False) -> Any:
    return vcenter.finish(machine.CreateSnapshot_Task("s", "", memory, False))


def reconfigure(vcenter: VCenterClient, machine: Any, **fields: Any) -> None:
    vcenter.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(**fields)))


def devices(machine: Any, kind: type) -> list[Any]:
    return [each for each in machine.config.hardware.device if isinstance(each, kind)]


def test_hardware_and_configuration_are_those_of_the_snapshot(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    reconfigure(vcenter, machine, numCPUs=2, memoryMB=64, annotation="before")
    taken = snapshot(vcenter, machine)
    option = vim.option.OptionValue(key="guestinfo.late", value="yes")
    reconfigure(vcenter, machine, numCPUs=4, memoryMB=128, annotation="after", extraConfig=[option])
    watch = vcenter.watch(machine, ["config.hardware.numCPU", "config.annotation"])
    vcenter.finish(taken.RevertToSnapshot_Task())
    watch.until(lambda seen: seen["config.hardware.numCPU"] == 2)
    assert watch.values["config.annotation"] == "before"
    assert machine.config.hardware.memoryMB == 64
    assert (machine.summary.config.numCpu, machine.summary.config.memorySizeMB) == (2, 64)
    assert machine.summary.config.annotation == "before"
    assert "guestinfo.late" not in {each.key for each in machine.config.extraConfig}
    assert machine.snapshot.currentSnapshot == taken


def test_a_device_that_came_later_goes_and_one_that_went_comes_back(
    vcenter: VCenterClient,
) -> None:
    machine = vcenter.machine()
    nic_kind = vim.vm.device.VirtualEthernetCard
    disk_kind = vim.vm.device.VirtualDisk
    taken = snapshot(vcenter, machine)
    nic, disk = devices(machine, nic_kind)[0], devices(machine, disk_kind)[0]
    backing = disk_kind.FlatVer2BackingInfo(fileName="", diskMode="persistent")
    late = disk_kind(
        key=-1,
        controllerKey=disk.controllerKey,
        unitNumber=5,
        capacityInKB=1024,
        backing=backing,
    )
    change = vim.vm.device.VirtualDeviceSpec
    reconfigure(
        vcenter,
        machine,
        deviceChange=[
            change(operation="remove", device=nic),
            change(operation="add", fileOperation="create", device=late),
        ],
    )
    added = devices(machine, disk_kind)[1]
    assert machine.network == []
    vcenter.finish(taken.RevertToSnapshot_Task())
    assert [each.macAddress for each in devices(machine, nic_kind)] == [nic.macAddress]
    assert [each.key for each in devices(machine, disk_kind)] == [disk.key]
    assert len(machine.network) == len(machine.guest.net) == 1
    assert machine.summary.config.numVirtualDisks == 1
    assert machine.summary.config.numEthernetCards == 1
    assert vcenter.file_exists(added.backing.fileName)


def test_identity_and_place_in_the_inventory_stay(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    taken = snapshot(vcenter, machine)
    vcenter.finish(machine.Rename_Task("renamed-since"))
    before = machine.config.instanceUuid
    vcenter.finish(taken.RevertToSnapshot_Task())
    assert machine.name == "renamed-since"
    assert machine.config.instanceUuid == before


def test_a_snapshot_without_memory_is_a_machine_switched_off(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    taken = snapshot(vcenter, machine)
    watch = vcenter.watch(machine, ["runtime.powerState"])
    vcenter.finish(taken.RevertToSnapshot_Task())
    watch.until(lambda seen: seen["runtime.powerState"] == "poweredOff")
    assert machine.summary.runtime.powerState == "poweredOff"
    vcenter.finish(machine.PowerOnVM_Task())


def test_a_snapshot_with_memory_runs_unless_that_is_suppressed(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    taken = snapshot(vcenter, machine, memory=True)
    vcenter.finish(machine.PowerOffVM_Task())
    vcenter.finish(taken.RevertToSnapshot_Task(suppressPowerOn=True))
    assert machine.runtime.powerState == "poweredOff"
    vcenter.finish(taken.RevertToSnapshot_Task())
    assert machine.runtime.powerState == "poweredOn"


def test_the_current_snapshot_is_reverted_to_in_the_same_way(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    reconfigure(vcenter, machine, annotation="before")
    snapshot(vcenter, machine)
    reconfigure(vcenter, machine, annotation="after")
    vcenter.finish(machine.RevertToCurrentSnapshot_Task())
    assert machine.config.annotation == "before"


def test_a_snapshot_can_be_reverted_to_again(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    reconfigure(vcenter, machine, annotation="before")
    taken = snapshot(vcenter, machine)
    for change in ("first", "second"):
        reconfigure(vcenter, machine, annotation=change)
        vcenter.finish(taken.RevertToSnapshot_Task())
        assert machine.config.annotation == "before"
