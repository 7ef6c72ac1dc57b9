"""A virtual machine that is relocated or migrated is where it says, in every list and path."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from tests.integration.tools.simulator.vcenter_client import VCenterClient

Spec = vim.vm.RelocateSpec


@contextmanager
def maintenance(vcenter: VCenterClient, host: Any) -> Iterator[None]:
    vcenter.finish(host.EnterMaintenanceMode_Task(0))
    try:
        yield
    finally:
        vcenter.finish(host.ExitMaintenanceMode_Task(0))


def other_host(machine: Any) -> Any:
    here = machine.runtime.host
    return next(each for each in here.parent.host if each != here)


def other_datastore(vcenter: VCenterClient, machine: Any) -> Any:
    return next(each for each in vcenter.objects(vim.Datastore) if each != machine.datastore[0])


def paths(described: Any) -> list[str]:
    """Every file that the configuration of a virtual machine or snapshot names."""
    files = described.config.files
    return [
        *(files.vmPathName, files.logDirectory, files.snapshotDirectory, files.suspendDirectory),
        *(device.backing.fileName for device in disks(described)),
    ]


def disks(described: Any) -> list[Any]:
    device = described.config.hardware.device
    return [each for each in device if isinstance(each, vim.vm.device.VirtualDisk)]


def test_a_watcher_sees_another_host_and_the_host_lists_the_machine(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    before, after = machine.runtime.host, other_host(machine)
    watch = vcenter.watch(machine, ["runtime.host"])
    watch_host = vcenter.watch(after, ["vm"])
    vcenter.finish(machine.RelocateVM_Task(Spec(host=after)))
    watch.until(lambda seen: seen["runtime.host"] == after)
    watch_host.until(lambda seen: machine in seen["vm"])
    assert machine not in before.vm
    assert machine.summary.runtime.host == after


def test_another_cluster_lists_the_machine_in_its_pool_and_host(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    before, there = machine.resourcePool, vcenter.cluster(1)
    spec = Spec(host=there.host[1], pool=there.resourcePool)
    vcenter.finish(machine.RelocateVM_Task(spec))
    assert machine in there.resourcePool.vm
    assert machine in there.host[1].vm
    assert machine not in before.vm
    assert machine.environmentBrowser == there.environmentBrowser


def test_a_host_in_service_is_chosen_for_a_pool_of_another_cluster(
    vcenter: VCenterClient,
) -> None:
    there = vcenter.cluster(1)
    with maintenance(vcenter, there.host[0]):
        machine = vcenter.machine()
        vcenter.finish(machine.RelocateVM_Task(Spec(pool=there.resourcePool)))
    assert machine.runtime.host == there.host[1]


def test_a_host_in_maintenance_is_refused(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    before, after = machine.runtime.host, other_host(machine)
    with maintenance(vcenter, after):
        refused = vcenter.fault(machine.RelocateVM_Task(Spec(host=after)))
        assert isinstance(refused, vim.fault.InvalidState)
        refused = vcenter.fault(machine.MigrateVM_Task(host=after, priority="defaultPriority"))
        assert isinstance(refused, vim.fault.InvalidState)
    assert machine.runtime.host == before
    assert machine in before.vm


def test_a_host_of_another_cluster_than_the_pool_is_refused(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    refused = vcenter.fault(machine.RelocateVM_Task(Spec(host=vcenter.cluster(1).host[0])))
    assert isinstance(refused, vmodl.fault.InvalidArgument)
    assert refused.invalidProperty == "spec.pool"


@pytest.mark.parametrize("field", ["host", "pool", "datastore"])
def test_a_target_that_does_not_exist_is_refused_and_nothing_changes(
    vcenter: VCenterClient, field: str
) -> None:
    machine = vcenter.machine()
    before = (machine.runtime.host, machine.resourcePool, list(machine.datastore))
    kind = {"host": vim.HostSystem, "pool": vim.ResourcePool, "datastore": vim.Datastore}[field]
    nothing = kind(f"{field}-nowhere", machine._stub)
    refused = vcenter.fault(machine.RelocateVM_Task(Spec(**{field: nothing})))
    assert isinstance(refused, vmodl.fault.ManagedObjectNotFound)
    assert (machine.runtime.host, machine.resourcePool, list(machine.datastore)) == before


def test_every_file_and_path_moves_to_another_datastore(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.CreateSnapshot_Task("before", "", False, False))
    before, after = machine.datastore[0], other_datastore(vcenter, machine)
    old = [file.name for file in machine.layoutEx.file]
    watch = vcenter.watch(machine, ["datastore", "config.files", "summary.config.vmPathName"])
    vcenter.finish(machine.RelocateVM_Task(Spec(datastore=after)))
    watch.until(lambda seen: seen["datastore"] == [after])
    assert watch.values["config.files"].vmPathName == machine.config.files.vmPathName
    for path in (
        *paths(machine),
        *paths(machine.snapshot.currentSnapshot),
        machine.summary.config.vmPathName,
        *(file.name for file in machine.layoutEx.file),
    ):
        assert path.startswith(f"[{after.name}] ")
    assert {disk.backing.datastore for disk in disks(machine)} == {after}
    assert machine in after.vm
    assert machine not in before.vm
    assert len(machine.layoutEx.file) == len(old)
    assert all(vcenter.file_exists(file.name) for file in machine.layoutEx.file)
    assert not any(vcenter.file_exists(name) for name in old)


def test_one_disk_moves_alone(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    here, there = machine.datastore[0], other_datastore(vcenter, machine)
    locator = Spec.DiskLocator(diskId=disks(machine)[0].key, datastore=there)
    vcenter.finish(machine.RelocateVM_Task(Spec(disk=[locator])))
    disk = disks(machine)[0]
    assert disk.backing.datastore == there
    assert disk.backing.fileName.startswith(f"[{there.name}] ")
    assert vcenter.file_exists(disk.backing.fileName)
    assert machine.config.files.vmPathName.startswith(f"[{here.name}] ")
    assert set(machine.datastore) == {here, there}
    assert machine in there.vm
    vcenter.finish(machine.Destroy_Task())
    assert not vcenter.file_exists(disk.backing.fileName)


def test_a_machine_that_was_relocated_goes_on_working(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.RelocateVM_Task(Spec(datastore=other_datastore(vcenter, machine))))
    vcenter.finish(machine.PowerOnVM_Task())
    vcenter.finish(machine.PowerOffVM_Task())
    vcenter.finish(machine.Destroy_Task())
    assert machine not in vcenter.objects(vim.VirtualMachine)


def test_migrate_changes_the_host(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    after = other_host(machine)
    vcenter.finish(machine.MigrateVM_Task(host=after, priority="highPriority"))
    assert machine.runtime.host == after
    assert machine in after.vm


def test_migrate_honours_the_power_state_that_it_requires(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    with pytest.raises(vim.fault.InvalidPowerState):
        machine.MigrateVM_Task(
            host=other_host(machine), priority="defaultPriority", state="poweredOff"
        )
