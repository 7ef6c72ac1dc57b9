"""An error inside the simulator, and an injected one, is a fault of the vSphere API."""

from typing import Any

import pytest
from pyVmomi import vim, vmodl

from tests.integration.tools.simulator.vcenter_client import VCenterClient


def test_a_panic_in_a_task_fails_the_task_alone(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    nowhere = vim.vm.device.VirtualVmxnet3(
        key=-1,
        backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="nowhere"),
    )
    add = vim.vm.device.VirtualDeviceSpec(operation="add", device=nowhere)
    broken = vim.vm.ConfigSpec(deviceChange=[add])
    assert isinstance(vcenter.fault(machine.ReconfigVM_Task(broken)), vmodl.fault.SystemError)
    vcenter.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="still here")))
    assert machine.config.annotation == "still here"


def test_a_panic_in_a_call_leaves_nothing_locked(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    nowhere = vim.HostSystem("host-nowhere", machine._stub)
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(host=nowhere), powerOn=False)
    with pytest.raises(Exception, match="Remote end closed connection"):
        machine.CloneVM_Task(machine.parent, "never", spec)
    vcenter.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="still here")))


@pytest.mark.parametrize(("progress", "power"), [(60, "poweredOff"), (100, "poweredOn")])
def test_a_task_fails_at_the_requested_progress(
    vcenter: VCenterClient, progress: int, power: str
) -> None:
    machine = vcenter.machine()
    vcenter.simulator.inject_fault(
        "InsufficientResourcesFault",
        "PowerOnVM_Task",
        message="no memory",
        max_count=1,
        task_progress=progress,
    )
    task = machine.PowerOnVM_Task()
    fault = vcenter.fault(task)
    assert isinstance(fault, vim.fault.InsufficientResourcesFault)
    assert fault.msg == "no memory"
    assert vcenter.value(task, "info.progress") == progress
    assert machine.runtime.powerState == power


def test_a_failed_clone_can_leave_its_machine_behind(vcenter: VCenterClient) -> None:
    vcenter.simulator.inject_fault("Timedout", "CloneVM_Task", max_count=1, task_progress=100)
    assert isinstance(vcenter.fault(_clone(vcenter.machine(), "orphan")), vim.fault.Timedout)
    assert vcenter.named(vim.VirtualMachine, "orphan").config.name == "orphan"


def test_only_the_named_task_fails(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    vcenter.simulator.inject_fault("Timedout", "CloneVM_Task", max_count=1, task_progress=50)
    vcenter.finish(machine.PowerOnVM_Task())
    assert isinstance(vcenter.fault(_clone(machine, "unborn")), vim.fault.Timedout)
    vcenter.finish(_clone(machine, "unborn"))


def test_the_progress_is_reported_while_the_task_still_runs(vcenter: VCenterClient) -> None:
    vcenter.simulator.inject_fault(
        "Timedout", "PowerOnVM_Task", max_count=1, task_progress=30, delay=1000
    )
    task = vcenter.machine().PowerOnVM_Task()
    watch = vcenter.watch(task, ["info.progress", "info.state"])
    watch.until(lambda seen: seen.get("info.progress") == 30)
    assert watch.values["info.state"] == "running"
    watch.until(lambda seen: seen["info.state"] == "error")


def _clone(machine: Any, name: str) -> Any:
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False)
    return machine.CloneVM_Task(machine.parent, name, spec)
