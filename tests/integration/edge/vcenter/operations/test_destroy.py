"""A destroy takes the virtual machine and its own disks, and nothing that anybody else needs."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.rpc import code_pb2
from pyVmomi import vim

from edge.config import ManagedSettings
from edge.vcenter.operations import destroy as destroy_module
from edge.vcenter.operations.disk_users import users_of
from tests.support.operations_site import DISK, OperationsSite, disks, fault_of
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import operations_pb2

DESTROY = operations_pb2.DestroyVirtualMachine()
FLAT = DISK.FlatVer2BackingInfo


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationsSite]:
    folder = tmp_path_factory.mktemp("destroy")
    simulator = Vcsim(folder / "vcsim", cluster=2, host=2, vm=20, ds=2)
    simulator.start()
    running = OperationsSite(simulator, folder, ManagedSettings(clusters=("DC0_C0",)))
    try:
        yield running
    finally:
        running.close()
        simulator.stop()


def exists(site: OperationsSite, machine: Any) -> bool:
    return any(each._moId == machine._moId for each in site.machines())


def backing(file_name: str = "", parent: str = "", mode: str = "persistent") -> Any:
    made = FLAT(fileName=file_name, diskMode=mode, thinProvisioned=True)
    if parent:
        made.parent = FLAT(fileName=parent, diskMode="persistent")
    return made


def test_a_running_machine_is_switched_off_and_destroyed_with_its_files(
    site: OperationsSite,
) -> None:
    machine = site.machine()
    file_name = disks(machine)[0].backing.fileName
    result = site.execute(site.operation(machine, destroy=DESTROY))
    assert result.status.code == code_pb2.OK
    assert not result.HasField("virtual_machine")
    assert not exists(site, machine)
    assert not site.file_exists(file_name)


def test_a_machine_that_is_gone_already_is_success(site: OperationsSite) -> None:
    machine = site.machine()
    operation = site.operation(machine, destroy=DESTROY)
    site.finish(machine.PowerOffVM_Task())
    site.finish(machine.Destroy_Task())
    assert site.execute(operation).status.code == code_pb2.OK


def test_a_machine_that_disappears_on_the_way_is_success(
    site: OperationsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = site.machine()

    def look_while_someone_destroys(*arguments: Any) -> dict[str, str]:
        users = users_of(*arguments)
        site.finish(machine.PowerOffVM_Task())
        site.finish(machine.Destroy_Task())
        return users

    monkeypatch.setattr(destroy_module, "users_of", look_while_someone_destroys)
    result = site.execute(site.operation(machine, destroy=DESTROY))
    assert result.status.code == code_pb2.OK, result


def test_a_machine_that_vcenter_hides_is_not_called_gone(site: OperationsSite) -> None:
    machine = site.machine()
    site.simulator.inject_fault("NoPermission", "RetrievePropertiesEx")
    try:
        result = site.execute(site.operation(machine, destroy=DESTROY))
    finally:
        site.simulator.clear_faults()
    assert result.status.code == code_pb2.PERMISSION_DENIED
    assert exists(site, machine)


def test_a_template_is_never_destroyed(site: OperationsSite) -> None:
    template = site.template()
    refused = site.execute(site.operation(template, destroy=DESTROY))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert exists(site, template)


def test_a_machine_outside_of_the_managed_clusters_is_not_destroyed(site: OperationsSite) -> None:
    machine = site.unmanaged_machine()
    refused = site.execute(site.operation(machine, destroy=DESTROY))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert exists(site, machine)
    assert machine.runtime.powerState == "poweredOn"


def test_a_parent_of_a_linked_clone_is_kept_and_the_clone_may_go(site: OperationsSite) -> None:
    parent, clone = site.machine(), site.machine()
    base = disks(parent)[0].backing.fileName
    site.add_disk(clone, backing(parent=base), unit=5)
    refused = site.execute(site.operation(parent, destroy=DESTROY))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_DISK_IN_USE
    assert clone.name in refused.status.message
    assert base in refused.status.message
    assert parent.runtime.powerState == "poweredOn"
    # The clone's own disk goes, its parent's does not stand in the way.
    assert site.execute(site.operation(clone, destroy=DESTROY)).status.code == code_pb2.OK
    assert site.file_exists(base)
    assert site.execute(site.operation(parent, destroy=DESTROY)).status.code == code_pb2.OK


def test_a_disk_that_another_machine_has_attached_is_kept(site: OperationsSite) -> None:
    owner = site.machine()
    other = site.unmanaged_machine()
    shared = disks(owner)[0].backing.fileName
    added = site.add_disk(other, backing(shared), unit=6)
    refused = site.execute(site.operation(owner, destroy=DESTROY))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_DISK_IN_USE
    assert exists(site, owner)
    removal = vim.vm.device.VirtualDeviceSpec(operation="remove", device=added)
    site.reconfigure(other, deviceChange=[removal])
    assert site.execute(site.operation(owner, destroy=DESTROY)).status.code == code_pb2.OK


def test_a_borrowed_disk_is_not_destroyed_with_the_borrower(site: OperationsSite) -> None:
    owner, borrower = site.machine(), site.machine()
    shared = disks(owner)[0].backing.fileName
    site.add_disk(borrower, backing(shared), unit=6)
    refused = site.execute(site.operation(borrower, destroy=DESTROY))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_DISK_IN_USE
    assert site.file_exists(shared)


def test_volumes_are_detached_and_kept(site: OperationsSite) -> None:
    machine = site.machine()
    site.simulator.govc("datastore.mkdir", "-ds", "LocalDS_0", f"volumes-{machine._moId}")
    name = f"[LocalDS_0] volumes-{machine._moId}/volume-1.vmdk"
    site.simulator.govc(
        "datastore.disk.create", "-ds", "LocalDS_0", "-size", "1M", name.partition("] ")[2]
    )
    site.add_disk(machine, backing(name, mode="independent_persistent"), unit=6)
    own = disks(machine)[0].backing.fileName
    wish = operations_pb2.DestroyVirtualMachine(keep_disk_file_names=[name])
    result = site.execute(site.operation(machine, destroy=wish))
    assert result.status.code == code_pb2.OK, result
    assert not exists(site, machine)
    assert site.file_exists(name)
    assert not site.file_exists(own)


def test_first_class_disks_are_detached_and_kept(site: OperationsSite) -> None:
    machine = site.machine()
    datastore = disks(machine)[0].backing.datastore
    manager: Any = site.administrator.content.vStorageObjectManager
    spec = vim.vslm.CreateSpec(
        name="first-class",
        capacityInMB=10,
        backingSpec=vim.vslm.CreateSpec.DiskFileBackingSpec(datastore=datastore),
    )
    first_class = site.finish(manager.CreateDisk_Task(spec))
    # AttachDisk_Task of the simulator adds no device, so it is added here as vCenter does.
    file_name = first_class.config.backing.filePath
    site.add_disk(machine, backing(file_name), unit=6, vDiskId=first_class.config.id)
    result = site.execute(site.operation(machine, destroy=DESTROY))
    assert result.status.code == code_pb2.OK, result
    assert not exists(site, machine)
    assert site.file_exists(file_name)
    kept = manager.ListVStorageObject(datastore)
    assert [each.id for each in kept] == [first_class.config.id.id]


def test_a_volume_that_a_snapshot_includes_is_refused_before_anything_happens(
    site: OperationsSite,
) -> None:
    machine = site.machine()
    added = site.add_disk(machine, backing(), unit=6)
    site.finish(machine.CreateSnapshot_Task("before", "", False, False))
    wish = operations_pb2.DestroyVirtualMachine(keep_disk_file_names=[added.backing.fileName])
    refused = site.execute(site.operation(machine, destroy=wish))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_DISK_IN_USE
    assert "snapshot" in refused.status.message
    assert machine.runtime.powerState == "poweredOn"
    assert len(disks(machine)) == 2


def test_snapshots_of_its_own_disks_go_with_the_machine(site: OperationsSite) -> None:
    machine = site.machine()
    site.finish(machine.CreateSnapshot_Task("before", "", False, False))
    assert site.execute(site.operation(machine, destroy=DESTROY)).status.code == code_pb2.OK
    assert not exists(site, machine)


def test_a_destroy_that_vcenter_refuses_leaves_the_machine(site: OperationsSite) -> None:
    machine = site.machine()
    site.simulator.inject_fault("NoPermission", "Destroy_Task")
    try:
        result = site.execute(site.operation(machine, destroy=DESTROY))
    finally:
        site.simulator.clear_faults()
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_NO_PERMISSION
    assert exists(site, machine)
    assert site.execute(site.operation(machine, destroy=DESTROY)).status.code == code_pb2.OK
