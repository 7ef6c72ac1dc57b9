"""A clone is what was asked for, where it was asked for, once; or nothing is left of it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from google.rpc import code_pb2
from pyVmomi import vim

from edge.config import ManagedSettings
from edge.vcenter.operations import clone as clone_module
from edge.vcenter.operations.control import OperationControl
from tests.support.operations_site import OperationsSite, disks, fault_of, reference
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

GIB = 1 << 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationsSite]:
    folder = tmp_path_factory.mktemp("clone")
    simulator = Vcsim(folder / "vcsim", cluster=2, host=2, vm=4, ds=3)
    simulator.start()
    managed = ManagedSettings(clusters=("DC0_C0",), read_only_names=("site-*",))
    running = OperationsSite(simulator, folder, managed)
    try:
        yield running
    finally:
        running.close()
        simulator.stop()


@pytest.fixture(scope="module")
def template(site: OperationsSite) -> Any:
    return site.template()


def nics(machine: Any) -> list[Any]:
    card = vim.vm.device.VirtualEthernetCard
    return [each for each in machine.config.hardware.device if isinstance(each, card)]


def test_a_clone_has_the_hardware_and_identity_asked_for(
    site: OperationsSite, template: Any
) -> None:
    operation = site.clone_of(
        template,
        "web",
        cpus=3,
        memory_mb=512,
        root_disk_gb=20,
        power_on=True,
        annotation="server of project blue",
        remove_nics=True,
    )
    result = site.execute(operation)
    assert result.status.code == code_pb2.OK, result
    (made,) = site.by_uuid(operation.clone_virtual_machine.instance_uuid)
    state = result.virtual_machine.virtual_machine
    assert result.virtual_machine.reference == reference(made)
    assert (state.name, made.name) == ("web", "web")
    assert (state.cpus, made.config.hardware.numCPU) == (3, 3)
    assert (state.memory_mb, made.config.hardware.memoryMB) == (512, 512)
    assert [each.capacity_bytes for each in state.disks] == [20 * GIB]
    assert disks(made)[0].capacityInBytes == 20 * GIB
    assert made.config.annotation == "server of project blue"
    assert nics(made) == []
    assert state.power_state == inventory_pb2.POWER_STATE_ON
    assert made.resourcePool == site.cluster().resourcePool
    assert disks(made)[0].backing.fileName != disks(template)[0].backing.fileName
    assert template.config.template


def test_what_is_not_asked_for_stays_as_in_the_template(
    site: OperationsSite, template: Any
) -> None:
    result = site.execute(site.clone_of(template, "plain"))
    (made,) = site.by_name("plain")
    assert result.virtual_machine.virtual_machine.power_state == inventory_pb2.POWER_STATE_OFF
    assert made.config.hardware.numCPU == template.config.hardware.numCPU
    assert disks(made)[0].capacityInBytes == disks(template)[0].capacityInBytes
    assert len(nics(made)) == len(nics(template)) == 1


def test_a_repeated_clone_returns_the_first_one(site: OperationsSite, template: Any) -> None:
    operation = site.clone_of(template, "again", power_on=True)
    first = site.execute(operation)
    operation.operation_id, operation.idempotency_key = "another", "another"
    second = site.execute(operation)
    assert second.virtual_machine.reference == first.virtual_machine.reference
    assert len(site.by_uuid(operation.clone_virtual_machine.instance_uuid)) == 1


def test_a_clone_that_an_earlier_try_left_unfinished_is_finished(
    site: OperationsSite, template: Any
) -> None:
    operation = site.clone_of(template, "halfway", cpus=2, root_disk_gb=12, power_on=True)
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(pool=site.cluster().resourcePool),
        config=vim.vm.ConfigSpec(instanceUuid=operation.clone_virtual_machine.instance_uuid),
    )
    site.finish(template.CloneVM_Task(template.parent, "halfway", spec))
    result = site.execute(operation)
    state = result.virtual_machine.virtual_machine
    assert (state.cpus, state.power_state) == (2, inventory_pb2.POWER_STATE_ON)
    assert state.disks[0].capacity_bytes == 12 * GIB


def test_a_taken_name_is_made_unique_with_the_instance_uuid(
    site: OperationsSite, template: Any
) -> None:
    site.execute(site.clone_of(template, "twin"))
    operation = site.clone_of(template, "twin")
    result = site.execute(operation)
    instance_uuid = operation.clone_virtual_machine.instance_uuid
    assert result.virtual_machine.virtual_machine.name == f"twin-{instance_uuid[:8]}"


def test_a_disk_never_shrinks(site: OperationsSite, template: Any) -> None:
    before = len(site.machines())
    result = site.execute(site.clone_of(template, "small", root_disk_gb=5))
    assert result.status.code == code_pb2.INVALID_ARGUMENT
    assert "10.0 GiB" in result.status.message
    assert len(site.machines()) == before


def test_a_template_that_is_gone_or_none_any_more_is_said(
    site: OperationsSite, template: Any
) -> None:
    operation = site.clone_of(template, "from-nothing")
    operation.clone_virtual_machine.template.value = "vm-999999"
    operation.clone_virtual_machine.template_instance_uuid = str(uuid.uuid4())
    gone = site.execute(operation)
    assert fault_of(gone).reason == operations_pb2.FAULT_REASON_TEMPLATE_NOT_FOUND
    machine = site.unmanaged_machine()
    site.finish(machine.RelocateVM_Task(vim.vm.RelocateSpec(pool=site.cluster().resourcePool)))
    converted = site.execute(site.clone_of(machine, "from-machine"))
    assert fault_of(converted).reason == operations_pb2.FAULT_REASON_TEMPLATE_NOT_FOUND


def test_a_clone_into_an_unmanaged_cluster_is_refused(site: OperationsSite, template: Any) -> None:
    operation = site.clone_of(template, "elsewhere")
    operation.cluster.CopyFrom(reference(site.cluster("DC0_C1")))
    refused = site.execute(operation)
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert site.by_name("elsewhere") == []


def test_a_name_that_the_site_keeps_for_itself_is_refused(
    site: OperationsSite, template: Any
) -> None:
    refused = site.execute(site.clone_of(template, "site-proxy"))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert site.by_name("site-proxy") == []


def test_the_templates_own_datastore_is_preferred(site: OperationsSite, template: Any) -> None:
    site.execute(site.clone_of(template, "near"))
    (made,) = site.by_name("near")
    assert disks(made)[0].backing.datastore == disks(template)[0].backing.datastore


def test_only_datastores_that_are_allowed_are_used(site: OperationsSite, template: Any) -> None:
    site.execute(site.clone_of(template, "sent", datastore_patterns=["*_2"]))
    (made,) = site.by_name("sent")
    assert disks(made)[0].backing.datastore.name == "LocalDS_2"
    refused = site.execute(site.clone_of(template, "lost", datastore_patterns=["none-*"]))
    assert refused.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_NO_SPACE
    assert "LocalDS_0: not among those allowed" in refused.status.message


def test_without_a_usable_host_nothing_is_cloned(site: OperationsSite, template: Any) -> None:
    hosts = site.cluster().host
    for host in hosts:
        site.finish(host.EnterMaintenanceMode_Task(0))
    try:
        refused = site.execute(site.clone_of(template, "homeless"))
    finally:
        for host in hosts:
            site.finish(host.ExitMaintenanceMode_Task(0))
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_NO_RESOURCES
    assert site.by_name("homeless") == []


@pytest.mark.parametrize(
    ("method", "fault"),
    [("PowerOnVM_Task", "InsufficientResourcesFault"), ("ReconfigVM_Task", "NoPermission")],
)
def test_a_clone_that_cannot_be_finished_leaves_nothing_behind(
    site: OperationsSite, template: Any, method: str, fault: str
) -> None:
    before = {each._moId for each in site.machines()}
    site.simulator.inject_fault(fault, method)
    try:
        result = site.execute(site.clone_of(template, "unlucky", root_disk_gb=30, power_on=True))
    finally:
        site.simulator.clear_faults()
    assert fault_of(result).vsphere_fault == fault
    assert {each._moId for each in site.machines()} == before
    assert not site.file_exists("[LocalDS_0] unlucky/unlucky.vmdk")


def test_a_failed_clone_task_leaves_nothing_behind(site: OperationsSite, template: Any) -> None:
    before = len(site.machines())
    site.simulator.inject_fault("NoPermission", "CloneVM_Task")
    try:
        result = site.execute(site.clone_of(template, "forbidden"))
    finally:
        site.simulator.clear_faults()
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_NO_PERMISSION
    assert len(site.machines()) == before


def test_a_clone_of_which_the_caller_tires_is_removed(
    site: OperationsSite, template: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each._moId for each in site.machines()}
    made: list[str] = []
    finish = clone_module._finish

    def tire_first(context: Any, found: Any, request: Any, control: OperationControl) -> Any:
        made.append(found.machine.name)
        control.cancel("the user has gone")
        return finish(context, found, request, control)

    monkeypatch.setattr(clone_module, "_finish", tire_first)
    result = site.execute(site.clone_of(template, "unwanted", power_on=True))
    assert result.status.code == code_pb2.CANCELLED
    assert made == ["unwanted"]
    assert {each._moId for each in site.machines()} == before
