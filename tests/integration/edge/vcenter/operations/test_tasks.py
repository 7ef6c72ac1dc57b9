"""Tasks that take long, fail, never end, or lose their vCenter on the way.

The simulator's tasks are slow here and stay `running` meanwhile, so that the administrator can end
them with any fault (SetTaskState), as vCenter's own extensions do.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2
from pyVmomi import vim, vmodl

from common.background import ThreadMonitor
from edge.config import ManagedSettings
from edge.vcenter.client.faults import VCenterUnreachableError
from edge.vcenter.collector.collector import VCenterCollector
from edge.vcenter.operations import tasks
from edge.vcenter.operations.control import OperationControl
from edge.vcenter.operations.dispatch import VCenterOperations
from tests.support.operations_site import PATIENCE, OperationsSite, fault_of
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import operations_pb2

ON = operations_pb2.PowerOn()
OFF = operations_pb2.PowerOff()
SLOW_MILLISECONDS = 1500
UNREADABLE_FAULT = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<SetTaskState xmlns="urn:vim25"><_this type="Task">{task}</_this><state>error</state>
<fault><fault xsi:type="InvalidPowerState"/><localizedMessage>not now</localizedMessage></fault>
</SetTaskState></soapenv:Body></soapenv:Envelope>"""
DELAYS = f"PowerOff:{SLOW_MILLISECONDS},ShutdownGuest:{SLOW_MILLISECONDS},LockHandoff:0"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationsSite]:
    folder = tmp_path_factory.mktemp("tasks")
    simulator = Vcsim(folder / "vcsim", cluster=1, host=2, vm=40, method_delay=DELAYS)
    simulator.start()
    running = OperationsSite(simulator, folder, ManagedSettings(clusters=("DC0_C0",)))
    try:
        yield running
    finally:
        running.close()
        simulator.stop()


class Started:
    """A power off that the executor has begun, with its vCenter task."""

    def __init__(self, site: OperationsSite, machine: Any, seconds: float = PATIENCE) -> None:
        self.site = site
        self.machine = machine
        self.operation = site.operation(machine, seconds, power_off=OFF)
        site.executor.submit(self.operation)
        self.task: Any = site.administrator.managed_object(self.progress().task)

    def progress(self) -> operations_pb2.OperationProgress:
        """Wait for the next progress message."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.site.sent.next_message(0.1)
            if message and message.HasField("operation_progress"):
                return message.operation_progress
        raise AssertionError("no progress")

    def result(self) -> operations_pb2.OperationResult:
        """Wait for the result."""
        return self.site.result_of(self.operation)


def test_a_running_task_is_reported_with_its_reference_and_progress(site: OperationsSite) -> None:
    started = Started(site, site.machine())
    assert site.executor.unsettled()[0].task.value == started.task._moId
    started.task.UpdateProgress(42)
    assert started.progress().percent == 42
    assert started.result().status.code == code_pb2.OK


@pytest.mark.parametrize(
    ("fault", "reason", "code"),
    [
        (
            vim.fault.TaskInProgress(task=vim.Task("task-1")),
            operations_pb2.FAULT_REASON_CONCURRENT_ACCESS,
            code_pb2.ABORTED,
        ),
        (
            vim.fault.NoDiskSpace(file="[LocalDS_0] x", datastore="LocalDS_0"),
            operations_pb2.FAULT_REASON_NO_SPACE,
            code_pb2.RESOURCE_EXHAUSTED,
        ),
        (
            vim.fault.InsufficientMemoryResourcesFault(unreserved=1, requested=2),
            operations_pb2.FAULT_REASON_NO_RESOURCES,
            code_pb2.RESOURCE_EXHAUSTED,
        ),
        (
            vim.fault.NoPermission(privilegeId="VirtualMachine.Interact.PowerOff"),
            operations_pb2.FAULT_REASON_NO_PERMISSION,
            code_pb2.PERMISSION_DENIED,
        ),
        (
            vim.fault.InvalidPowerState(requestedState="poweredOff", existingState="suspended"),
            operations_pb2.FAULT_REASON_INVALID_POWER_STATE,
            code_pb2.FAILED_PRECONDITION,
        ),
        (
            vim.fault.GenericVmConfigFault(reason="the disk is broken"),
            operations_pb2.FAULT_REASON_TASK_FAILED,
            code_pb2.INTERNAL,
        ),
        (
            vmodl.fault.ManagedObjectNotFound(obj=vim.VirtualMachine("vm-1")),
            operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND,
            code_pb2.NOT_FOUND,
        ),
    ],
)
def test_a_failed_task_names_its_fault(
    site: OperationsSite, fault: Any, reason: int, code: int
) -> None:
    started = Started(site, site.machine())
    fault.msg = "as vCenter puts it"
    started.task.SetTaskState("error", None, fault)
    result = started.result()
    assert (result.status.code, fault_of(result).reason) == (code, reason)
    assert fault_of(result).vsphere_fault == type(fault).__name__.rpartition(".")[2]
    if isinstance(fault, vim.fault.NoPermission):
        assert fault.privilegeId in result.status.message


def test_a_fault_that_pyvmomi_cannot_read_is_named_all_the_same(site: OperationsSite) -> None:
    started = Started(site, site.machine())
    # vCenter would say which states; without them pyVmomi fails as with a fault that it lacks.
    site.administrator.soap(UNREADABLE_FAULT.format(task=started.task._moId).encode())
    result = started.result()
    assert fault_of(result).vsphere_fault == "InvalidPowerState"


def test_a_task_past_its_deadline_is_cancelled_in_vcenter(site: OperationsSite) -> None:
    started = Started(site, site.machine(), seconds=0.7)
    began = time.monotonic()
    result = started.result()
    assert time.monotonic() - began < SLOW_MILLISECONDS / 1000
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_TIMEOUT
    assert result.status.code == code_pb2.DEADLINE_EXCEEDED
    assert "has stopped" in result.status.message
    assert started.task.info.cancelled


def test_a_question_that_holds_a_task_up_is_passed_on(site: OperationsSite) -> None:
    machine = site.machine()
    question = vim.vm.QuestionInfo(
        id="7",
        text="Did you move it, or copy it?",
        choice=vim.option.ChoiceOption(
            choiceInfo=[vim.ElementDescription(key="0", label="Moved", summary="Moved")]
        ),
    )
    site.set_property(machine, "runtime.question", question)
    result = Started(site, machine, seconds=0.7).result()
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_TIMEOUT
    assert "Did you move it, or copy it?" in result.status.message


def test_a_cancelled_operation_cancels_its_task(site: OperationsSite) -> None:
    started = Started(site, site.machine())
    site.executor.cancel(
        operations_pb2.CancelOperation(
            operation_id=started.operation.operation_id, reason="the user has gone"
        )
    )
    result = started.result()
    assert result.status.code == code_pb2.CANCELLED
    assert "has stopped" in result.status.message
    assert started.task.info.cancelled


def test_a_task_that_cannot_be_cancelled_is_reported_as_still_running(site: OperationsSite) -> None:
    started = Started(site, site.machine(), seconds=0.7)
    site.simulator.inject_fault("NotSupported", "CancelTask")
    try:
        result = started.result()
    finally:
        site.simulator.clear_faults()
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_TIMEOUT
    assert f"still runs {started.task._moId}" in result.status.message


def test_a_task_that_succeeds_while_it_is_being_cancelled_counts(
    site: OperationsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(site, site.machine())
    real = tasks.TaskRunner._cancel

    def slow_to_cancel(runner: Any, task: Any) -> float:
        site.finish(started.task)
        return real(runner, task)

    monkeypatch.setattr(tasks.TaskRunner, "_cancel", slow_to_cancel)
    site.executor.cancel(
        operations_pb2.CancelOperation(operation_id=started.operation.operation_id)
    )
    assert started.result().status.code == code_pb2.OK


def test_a_session_that_ends_while_a_task_runs_loses_nothing(site: OperationsSite) -> None:
    started = Started(site, site.machine())
    logins = site.session.generation
    sessions: Any = site.administrator.content.sessionManager
    others = [each.key for each in sessions.sessionList if each.key != sessions.currentSession.key]
    sessions.TerminateSession(others)
    result = started.result()
    assert result.status.code == code_pb2.OK
    assert result.virtual_machine.virtual_machine.instance_uuid
    assert site.session.generation == logins + 1


def test_an_operation_on_an_expired_session_logs_in_again_once(site: OperationsSite) -> None:
    machine = site.machine()
    sessions: Any = site.administrator.content.sessionManager
    others = [each.key for each in sessions.sessionList if each.key != sessions.currentSession.key]
    logins = site.session.generation
    sessions.TerminateSession(others)
    result = site.execute(site.operation(machine, power_off=OFF))
    assert result.status.code == code_pb2.OK
    assert site.session.generation == logins + 1


def test_an_administrator_who_was_faster_is_no_error(site: OperationsSite) -> None:
    machine = site.machine()
    theirs = machine.PowerOffVM_Task()
    # Both tasks run for a while; ours is the second to take effect.
    result = site.execute(site.operation(machine, power_off=OFF))
    assert result.status.code == code_pb2.OK
    site.finish(theirs)
    assert machine.runtime.powerState == "poweredOff"


def test_power_off_is_forced_when_the_guest_takes_longer_than_its_grace(
    site: OperationsSite,
) -> None:
    machine = site.machine()
    site.set_property(machine, "guest.toolsRunningStatus", "guestToolsRunning")
    wish = operations_pb2.PowerOff()
    wish.guest_grace.FromMilliseconds(200)
    operation = site.operation(machine, power_off=wish)
    site.executor.submit(operation)
    result = site.result_of(operation)
    assert result.status.code == code_pb2.OK
    assert machine.runtime.powerState == "poweredOff"
    assert operations_of(machine)[-2:] == ["shutdownGuest", "powerOff"]


def operations_of(machine: Any) -> list[str]:
    return [task.info.descriptionId.rpartition(".")[2] for task in machine.recentTask]


def test_operations_on_one_machine_wait_for_each_other_others_do_not(site: OperationsSite) -> None:
    machine, others = site.machine(), [site.machine() for _ in range(6)]
    began = time.monotonic()
    off = site.operation(machine, power_off=OFF)
    on = site.operation(machine, power_on=ON)
    beside = [site.operation(each, power_off=OFF) for each in others]
    for operation in [off, on, *beside]:
        site.executor.submit(operation)
    codes = {}
    while len(codes) < 8:
        message = site.sent.next_message(PATIENCE)
        assert message is not None
        if message.HasField("operation_result"):
            result = message.operation_result
            site.executor.acknowledged(result.operation_id)
            codes[result.operation_id] = result.status.code
    assert set(codes.values()) == {code_pb2.OK}
    assert machine.runtime.powerState == "poweredOn"
    assert {each.runtime.powerState for each in others} == {"poweredOff"}
    assert list(codes).index(off.operation_id) < list(codes).index(on.operation_id)
    assert time.monotonic() - began < 3 * SLOW_MILLISECONDS / 1000


def test_many_tasks_are_waited_for_by_one_thread(
    vcsim: Callable[..., Vcsim], tmp_path: Path
) -> None:
    # A site of its own: that of the other tests has a waiting thread already.
    earlier = set(threading.enumerate())
    simulator = vcsim(cluster=1, vm=10, method_delay=DELAYS)
    site = OperationsSite(simulator, tmp_path, ManagedSettings(clusters=("*",)))
    try:
        operations = [site.operation(site.machine(), power_off=OFF) for _ in range(8)]
        for operation in operations:
            site.executor.submit(operation)
        done, watchers = 0, 0
        while done < len(operations):
            message = site.sent.next_message(PATIENCE)
            assert message is not None
            done += message.HasField("operation_result")
            names = [thread.name for thread in set(threading.enumerate()) - earlier]
            watchers = max(watchers, names.count("vcenter-watcher"))
    finally:
        site.close()
    assert watchers == 1


@pytest.fixture
def short_lived(vcsim: Callable[..., Vcsim], tmp_path: Path) -> Iterator[OperationsSite]:
    simulator = vcsim(cluster=1, vm=3, method_delay="PowerOff:1500,LockHandoff:0")
    running = OperationsSite(simulator, tmp_path, ManagedSettings(clusters=("*",)))
    yield running
    simulator.start()
    running.close()


def test_a_vcenter_that_goes_away_leaves_the_outcome_unknown(
    short_lived: OperationsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RETRY_SECONDS", 0.2)
    started = Started(short_lived, short_lived.machine(), seconds=2)
    short_lived.simulator.stop()
    result = started.result()
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN
    assert result.status.code == code_pb2.UNKNOWN


def test_without_vcenter_an_operation_fails_at_once_and_says_so(
    short_lived: OperationsSite,
) -> None:
    operation = short_lived.operation(short_lived.machine(), power_off=OFF)
    short_lived.simulator.stop()
    began = time.monotonic()
    result = short_lived.execute(operation)
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE
    assert result.status.code == code_pb2.UNAVAILABLE
    assert time.monotonic() - began < 5
    assert short_lived.simulator.password not in str(result)


def test_without_vcenter_nobody_waits_for_its_inventory(short_lived: OperationsSite) -> None:
    operation = short_lived.operation(short_lived.machine(), power_off=OFF)
    unread = VCenterCollector(short_lived.session, short_lived.managed)
    operations = VCenterOperations(
        short_lived.session, unread, short_lived.managed, ThreadMonitor()
    )
    short_lived.simulator.stop()
    began = time.monotonic()
    with pytest.raises(VCenterUnreachableError):
        operations.run(operation, OperationControl(time.monotonic() + PATIENCE))
    assert time.monotonic() - began < 5
    operations.close()
