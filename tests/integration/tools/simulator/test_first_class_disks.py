"""A First Class Disk is a device of at most one virtual machine, at the requested place."""

from typing import Any

import pytest
from pyVmomi import vim

from tests.integration.tools.simulator.vcenter_client import VCenterClient

DISK = vim.vm.device.VirtualDisk


class Disk:
    """A First Class Disk in the first datastore."""

    def __init__(self, vcenter: VCenterClient, *, keep: bool = True) -> None:
        self._manager = vcenter.content.vStorageObjectManager
        self.datastore = vcenter.objects(vim.Datastore)[0]
        backing = vim.vslm.CreateSpec.DiskFileBackingSpec(
            datastore=self.datastore, provisioningType="thin"
        )
        spec = vim.vslm.CreateSpec(
            name="volume", capacityInMB=16, keepAfterDeleteVm=keep, backingSpec=backing
        )
        made = vcenter.finish(self._manager.CreateDisk_Task(spec))
        self.id = made.config.id
        self.file = made.config.backing.filePath

    def consumers(self) -> list[str]:
        """UUIDs of the virtual machines that it is attached to."""
        return [each.id for each in self._record().config.consumerId]

    def path(self) -> str:
        """Its file, according to vCenter."""
        return str(self._record().config.backing.filePath)

    def _record(self) -> Any:
        return self._manager.RetrieveVStorageObject(self.id, self.datastore)


@pytest.fixture
def disk(vcenter: VCenterClient) -> Disk:
    return Disk(vcenter)


def attached(machine: Any, disk: Disk) -> list[Any]:
    return [
        each
        for each in machine.config.hardware.device
        if isinstance(each, DISK) and each.vDiskId and each.vDiskId.id == disk.id.id
    ]


def controller(machine: Any) -> Any:
    kind = vim.vm.device.VirtualSCSIController
    return next(each for each in machine.config.hardware.device if isinstance(each, kind))


def test_it_is_attached_at_the_requested_controller_and_unit(
    vcenter: VCenterClient, disk: Disk
) -> None:
    machine = vcenter.machine(on=True)
    key = controller(machine).key
    watch = vcenter.watch(machine, ["config.hardware.device"])
    vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore, key, 9))
    watch.until(
        lambda seen: (
            disk.file
            in [
                each.backing.fileName
                for each in seen["config.hardware.device"]
                if type(each) is DISK
            ]
        )
    )
    [device] = attached(machine, disk)
    assert (device.controllerKey, device.unitNumber) == (key, 9)
    assert device.capacityInKB == 16 * 1024
    assert device.backing.thinProvisioned
    assert device.key in controller(machine).device
    assert disk.consumers() == [machine.config.uuid]


def test_a_controller_and_a_unit_are_found_if_none_is_given(
    vcenter: VCenterClient, disk: Disk
) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore))
    [device] = attached(machine, disk)
    assert device.controllerKey == controller(machine).key
    disks = [each for each in machine.config.hardware.device if isinstance(each, DISK)]
    assert len({each.unitNumber for each in disks}) == len(disks) == 2


def test_a_second_machine_is_refused(vcenter: VCenterClient, disk: Disk) -> None:
    first, second = vcenter.machine(), vcenter.machine()
    vcenter.finish(first.AttachDisk_Task(disk.id, disk.datastore))
    refused = vcenter.fault(second.AttachDisk_Task(disk.id, disk.datastore))
    assert isinstance(refused, vim.fault.ResourceInUse)
    assert attached(second, disk) == []
    assert disk.consumers() == [first.config.uuid]


def test_a_detached_disk_can_be_attached_to_another_machine(
    vcenter: VCenterClient, disk: Disk
) -> None:
    first, second = vcenter.machine(), vcenter.machine()
    vcenter.finish(first.AttachDisk_Task(disk.id, disk.datastore))
    vcenter.finish(first.DetachDisk_Task(disk.id))
    assert attached(first, disk) == []
    assert disk.consumers() == []
    vcenter.finish(second.AttachDisk_Task(disk.id, disk.datastore))
    assert vcenter.file_exists(disk.file)
    fault = vcenter.fault(first.DetachDisk_Task(disk.id))
    assert isinstance(fault, vim.fault.NotFound)
    assert disk.consumers() == [second.config.uuid]


def test_a_device_removed_by_reconfiguring_releases_the_disk(
    vcenter: VCenterClient, disk: Disk
) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore))
    [device] = attached(machine, disk)
    remove = vim.vm.device.VirtualDeviceSpec(operation="remove", device=device)
    vcenter.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[remove])))
    assert disk.consumers() == []


def test_a_unit_that_is_taken_is_refused_and_leaves_the_disk_free(
    vcenter: VCenterClient, disk: Disk
) -> None:
    machine = vcenter.machine()
    devices = machine.config.hardware.device
    taken = next(each for each in devices if isinstance(each, DISK))
    task = machine.AttachDisk_Task(disk.id, disk.datastore, taken.controllerKey, taken.unitNumber)
    assert isinstance(vcenter.fault(task), vim.fault.InvalidDeviceSpec)
    assert disk.consumers() == []


def test_destroying_a_machine_keeps_a_disk_with_keep_after_delete(vcenter: VCenterClient) -> None:
    kept, lost = Disk(vcenter), Disk(vcenter, keep=False)
    machine = vcenter.machine()
    for disk in (kept, lost):
        vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore))
    vcenter.finish(machine.Destroy_Task())
    assert vcenter.file_exists(kept.file)
    assert kept.consumers() == []
    assert not vcenter.file_exists(lost.file)
    with pytest.raises(vim.fault.NotFound):
        lost.consumers()


def test_a_relocated_machine_takes_the_disk_along(vcenter: VCenterClient, disk: Disk) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore))
    before = disk.datastore
    disk.datastore = next(each for each in vcenter.objects(vim.Datastore) if each != before)
    vcenter.finish(machine.RelocateVM_Task(vim.vm.RelocateSpec(datastore=disk.datastore)))
    [device] = attached(machine, disk)
    assert device.backing.datastore == disk.datastore
    assert vcenter.file_exists(device.backing.fileName)
    assert not vcenter.file_exists(disk.file)
    assert disk.path() == device.backing.fileName
    assert list(machine.datastore) == [disk.datastore]
    vcenter.finish(machine.DetachDisk_Task(disk.id))
    assert disk.consumers() == []


def test_a_clone_has_a_disk_of_its_own(vcenter: VCenterClient, disk: Disk) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.AttachDisk_Task(disk.id, disk.datastore))
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False)
    clone = vcenter.finish(machine.CloneVM_Task(machine.parent, "clone-of-attached", spec))
    files = [each.backing.fileName for each in clone.config.hardware.device if type(each) is DISK]
    assert len(files) == 2
    assert disk.file not in files
    assert attached(clone, disk) == []
