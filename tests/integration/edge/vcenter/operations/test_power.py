"""Power operations do what Nova asks on a real (simulated) vCenter, and nothing to anyone else."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.rpc import code_pb2

from common.background import ThreadMonitor
from edge.config import ManagedSettings
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.faults import NotReadYetError
from edge.vcenter.collector.collector import VCenterCollector
from edge.vcenter.operations.control import OperationControl
from edge.vcenter.operations.dispatch import VCenterOperations
from tests.support.operations_site import PATIENCE, OperationsSite, fault_of, reference
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

ON = operations_pb2.PowerOn()
OFF = operations_pb2.PowerOff()
SUSPEND = operations_pb2.Suspend()
GET = operations_pb2.GetState()
TOOLS = "guest.toolsRunningStatus"
READ_ONLY = "DC0_C0_RP0_VM0"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationsSite]:
    folder = tmp_path_factory.mktemp("power")
    simulator = Vcsim(folder / "vcsim", cluster=2, host=2, vm=30, ds=2)
    simulator.start()
    managed = ManagedSettings(clusters=("DC0_C0",), read_only_names=(READ_ONLY,))
    running = OperationsSite(simulator, folder, managed)
    try:
        yield running
    finally:
        running.close()
        simulator.stop()


def power(machine: Any) -> str:
    return str(machine.runtime.powerState)


def tasks_of(site: OperationsSite) -> int:
    manager: Any = site.administrator.content.taskManager
    return len(manager.recentTask)


def test_power_off_returns_when_it_is_off_with_that_state(site: OperationsSite) -> None:
    machine = site.machine()
    result = site.execute(site.operation(machine, power_off=OFF))
    assert result.status.code == code_pb2.OK
    assert power(machine) == "poweredOff"
    state = result.virtual_machine
    assert state.virtual_machine.power_state == inventory_pb2.POWER_STATE_OFF
    assert state.virtual_machine.instance_uuid == machine.config.instanceUuid
    assert state.revision > 0
    assert result.vcenter_time_us > 0


@pytest.mark.parametrize(
    ("action", "existing"), [({"power_on": ON}, "poweredOn"), ({"power_off": OFF}, "poweredOff")]
)
def test_what_is_there_already_starts_no_task(
    site: OperationsSite, action: dict[str, Any], existing: str
) -> None:
    machine = site.machine()
    if existing == "poweredOff":
        site.finish(machine.PowerOffVM_Task())
    before = tasks_of(site)
    assert site.execute(site.operation(machine, **action)).status.code == code_pb2.OK
    assert tasks_of(site) == before
    assert power(machine) == existing


class CountedLooks(VCenterCollector):
    """Counts how often an operation looks at a virtual machine."""

    looks = 0

    def look(self, reference: inventory_pb2.ObjectReference) -> CollectorUpdate:
        self.looks += 1
        return super().look(reference)


def test_virtual_machine_is_read_once_and_again_only_after_a_change(site: OperationsSite) -> None:
    machine = site.machine()
    collector = CountedLooks(site.session, site.managed)
    for _ in collector.read_once(threading.Event()):
        continue
    operations = VCenterOperations(site.session, collector, site.managed, ThreadMonitor())
    control = OperationControl(time.monotonic() + PATIENCE)
    for action, looks in (({"power_on": ON}, 1), ({"power_off": OFF}, 2), ({"get_state": GET}, 1)):
        collector.looks = 0
        outcome = operations.run(site.operation(machine, **action), control)
        assert outcome.virtual_machine is not None
        state = outcome.virtual_machine.virtual_machine.power_state
        assert inventory_pb2.PowerState.Name(state).endswith(
            "ON" if "power_on" in action else "OFF"
        )
        assert collector.looks == looks, action
    operations.close()


def test_suspend_and_resume(site: OperationsSite) -> None:
    machine = site.machine()
    suspended = site.execute(site.operation(machine, suspend=SUSPEND))
    assert (
        suspended.virtual_machine.virtual_machine.power_state == inventory_pb2.POWER_STATE_SUSPENDED
    )
    assert site.execute(site.operation(machine, suspend=SUSPEND)).status.code == code_pb2.OK
    assert power(machine) == "suspended"
    resumed = site.execute(site.operation(machine, power_on=ON))
    assert resumed.virtual_machine.virtual_machine.power_state == inventory_pb2.POWER_STATE_ON
    assert power(machine) == "poweredOn"


def test_a_machine_that_is_off_cannot_be_suspended(site: OperationsSite) -> None:
    machine = site.machine()
    site.finish(machine.PowerOffVM_Task())
    result = site.execute(site.operation(machine, suspend=SUSPEND))
    assert result.status.code == code_pb2.FAILED_PRECONDITION
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_INVALID_POWER_STATE


def guest_operation(seconds: float) -> operations_pb2.PowerOff:
    wish = operations_pb2.PowerOff()
    wish.guest_grace.FromNanoseconds(int(seconds * 1e9))
    return wish


def test_power_off_with_grace_lets_the_guest_shut_itself_down(site: OperationsSite) -> None:
    machine = site.machine()
    site.set_property(machine, TOOLS, "guestToolsRunning")
    site.simulator.inject_fault("NoPermission", "PowerOffVM_Task")
    try:
        result = site.execute(site.operation(machine, power_off=guest_operation(10)))
    finally:
        site.simulator.clear_faults()
    assert result.status.code == code_pb2.OK
    assert result.vcenter_time_us > 0
    assert power(machine) == "poweredOff"


@pytest.mark.parametrize("tools", ["guestToolsNotRunning", "guestToolsRunning"])
def test_power_off_with_grace_needs_no_tools_that_work(site: OperationsSite, tools: str) -> None:
    machine = site.machine()
    site.set_property(machine, TOOLS, tools)
    site.simulator.inject_fault("ToolsUnavailable", "ShutdownGuest")
    try:
        result = site.execute(site.operation(machine, power_off=guest_operation(10)))
    finally:
        site.simulator.clear_faults()
    assert result.status.code == code_pb2.OK
    assert power(machine) == "poweredOff"


def reboot(soft: bool, seconds: float = 0) -> operations_pb2.Reboot:
    wish = operations_pb2.Reboot(soft=soft)
    wish.guest_grace.FromNanoseconds(int(seconds * 1e9))
    return wish


def booted_at(machine: Any) -> Any:
    return machine.summary.runtime.bootTime


def test_a_hard_reboot_resets(site: OperationsSite) -> None:
    machine = site.machine()
    before = booted_at(machine)
    result = site.execute(site.operation(machine, reboot=reboot(soft=False)))
    assert result.virtual_machine.virtual_machine.power_state == inventory_pb2.POWER_STATE_ON
    assert booted_at(machine) != before


@pytest.mark.parametrize("state", ["off", "suspended"])
def test_a_hard_reboot_brings_up_what_does_not_run(site: OperationsSite, state: str) -> None:
    machine = site.machine()
    site.finish(machine.PowerOffVM_Task() if state == "off" else machine.SuspendVM_Task())
    result = site.execute(site.operation(machine, reboot=reboot(soft=False)))
    assert result.status.code == code_pb2.OK
    assert power(machine) == "poweredOn"


def test_a_soft_reboot_without_tools_resets(site: OperationsSite) -> None:
    machine = site.machine()
    before = booted_at(machine)
    assert site.execute(site.operation(machine, reboot=reboot(soft=True))).status.code == 0
    assert booted_at(machine) != before


def test_a_soft_reboot_is_done_when_the_guest_goes_down(site: OperationsSite) -> None:
    machine = site.machine()
    site.set_property(machine, TOOLS, "guestToolsRunning")
    before = booted_at(machine)
    operation = site.operation(machine, reboot=reboot(soft=True, seconds=PATIENCE))
    site.executor.submit(operation)
    goes_down = threading.Timer(0.5, site.set_property, (machine, TOOLS, "guestToolsNotRunning"))
    goes_down.start()
    assert site.result_of(operation).status.code == code_pb2.OK
    goes_down.join()
    assert booted_at(machine) == before


def test_a_soft_reboot_resets_a_guest_that_does_not_go_down_in_time(site: OperationsSite) -> None:
    machine = site.machine()
    site.set_property(machine, TOOLS, "guestToolsRunning")
    before = booted_at(machine)
    operation = site.operation(machine, reboot=reboot(soft=True, seconds=0.2))
    assert site.execute(operation).status.code == code_pb2.OK
    assert booted_at(machine) != before


def test_a_soft_reboot_without_grace_waits_for_nothing(site: OperationsSite) -> None:
    machine = site.machine()
    site.set_property(machine, TOOLS, "guestToolsRunning")
    before = booted_at(machine)
    assert site.execute(site.operation(machine, reboot=reboot(soft=True))).status.code == 0
    assert booted_at(machine) == before


def test_a_machine_is_found_although_its_reference_is_stale(site: OperationsSite) -> None:
    machine = site.machine()
    operation = site.operation(machine, power_off=OFF)
    operation.target.reference.value = "vm-999999"
    assert site.execute(operation).status.code == code_pb2.OK
    assert power(machine) == "poweredOff"


def test_a_reference_that_now_means_another_machine_is_not_believed(site: OperationsSite) -> None:
    machine, other = site.machine(), site.machine()
    operation = site.operation(machine, power_off=OFF)
    operation.target.reference.CopyFrom(reference(other))
    assert site.execute(operation).status.code == code_pb2.OK
    assert power(machine) == "poweredOff"
    assert power(other) == "poweredOn"


def test_a_machine_that_is_gone_is_not_found(site: OperationsSite) -> None:
    machine = site.machine()
    operation = site.operation(machine, power_off=OFF)
    site.finish(machine.PowerOffVM_Task())
    site.finish(machine.Destroy_Task())
    result = site.execute(operation)
    assert result.status.code == code_pb2.NOT_FOUND
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND
    asked = site.execute(site.operation(None, target=operation.target, get_state=GET))
    assert fault_of(asked).reason == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND


def test_of_two_machines_with_one_instance_uuid_none_is_touched_by_chance(
    site: OperationsSite,
) -> None:
    machine, copy = site.machine(), site.machine()
    site.reconfigure(copy, instanceUuid=machine.config.instanceUuid)
    operation = site.operation(machine, power_off=OFF)
    operation.target.reference.Clear()
    refused = site.execute(operation)
    assert refused.status.code == code_pb2.FAILED_PRECONDITION
    assert machine._moId in refused.status.message
    assert copy._moId in refused.status.message
    assert (power(machine), power(copy)) == ("poweredOn", "poweredOn")
    # The reference says which one is meant.
    assert site.execute(site.operation(machine, power_off=OFF)).status.code == code_pb2.OK
    assert (power(machine), power(copy)) == ("poweredOff", "poweredOn")


def test_a_machine_outside_of_the_managed_clusters_is_refused(site: OperationsSite) -> None:
    machine = site.unmanaged_machine()
    for hint in (reference(machine), inventory_pb2.ObjectReference()):
        operation = site.operation(machine, power_off=OFF)
        operation.target.reference.CopyFrom(hint)
        refused = site.execute(operation)
        assert refused.status.code == code_pb2.PERMISSION_DENIED
        assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert power(machine) == "poweredOn"


def test_a_machine_that_the_site_protects_can_be_looked_at_only(site: OperationsSite) -> None:
    machine = site.by_name(READ_ONLY)[0]
    for action in ({"power_off": OFF}, {"destroy": operations_pb2.DestroyVirtualMachine()}):
        refused = site.execute(site.operation(machine, **action))
        assert fault_of(refused).reason == operations_pb2.FAULT_REASON_REFUSED_BY_SITE
    assert power(machine) == "poweredOn"
    looked_at = site.execute(site.operation(machine, get_state=GET))
    assert looked_at.virtual_machine.virtual_machine.protected_by_site


def test_a_missing_privilege_is_said(site: OperationsSite) -> None:
    machine = site.machine()
    site.simulator.inject_fault("NoPermission", "PowerOffVM_Task")
    try:
        result = site.execute(site.operation(machine, power_off=OFF))
    finally:
        site.simulator.clear_faults()
    assert result.status.code == code_pb2.PERMISSION_DENIED
    fault = fault_of(result)
    assert fault.reason == operations_pb2.FAULT_REASON_NO_PERMISSION
    assert fault.vsphere_fault == "NoPermission"
    assert "vsg-edge check" in fault.advice


def test_diagnostics_show_hardware_statistics_and_host(site: OperationsSite) -> None:
    machine = site.machine()
    site.set_property(machine, "summary.quickStats.uptimeSeconds", 4711)
    site.set_property(machine, "summary.quickStats.overallCpuUsage", 321)
    site.set_property(machine, "summary.quickStats.guestMemoryUsage", 12)
    result = site.execute(site.operation(machine, get_diagnostics=operations_pb2.GetDiagnostics()))
    shown = result.diagnostics
    assert shown.power_state == inventory_pb2.POWER_STATE_ON
    assert shown.host_name == machine.runtime.host.name
    assert (shown.cpus, shown.memory_mb) == (1, 32)
    assert (shown.uptime_seconds, shown.cpu_usage_mhz, shown.memory_used_mb) == (4711, 321, 12)
    assert [each.capacity_bytes for each in shown.disks] == [10 << 30]
    assert len(shown.nics) == 1
    assert result.virtual_machine.virtual_machine.name == machine.name


def test_an_unknown_operation_answers_unimplemented(site: OperationsSite) -> None:
    result = site.execute(site.operation(site.machine()))
    assert result.status.code == code_pb2.UNIMPLEMENTED
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_UNIMPLEMENTED


def test_right_after_a_start_an_operation_waits_until_the_inventory_is_read(
    site: OperationsSite,
) -> None:
    machine = site.machine()
    collector = VCenterCollector(site.session, site.managed)
    operations = VCenterOperations(site.session, collector, site.managed, ThreadMonitor())
    control = OperationControl(time.monotonic() + PATIENCE)
    with pytest.raises(NotReadYetError):
        operations.run(site.operation(machine, get_state=GET), control)
    with pytest.raises(NotReadYetError):
        # Nothing of the structure is settled yet, and everything would look unmanaged.
        collector.confirm([reference(machine)])
    pages = collector.updates(threading.Event())

    def read_everything() -> None:
        while not next(pages).complete:
            continue

    reading = threading.Timer(0.5, read_everything)
    reading.start()
    outcome = operations.run(site.operation(machine, power_off=OFF), control)
    assert outcome.virtual_machine is not None
    assert power(machine) == "poweredOff"
    reading.join()
    pages.close()
    operations.close()
