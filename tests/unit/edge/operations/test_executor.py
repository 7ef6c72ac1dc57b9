"""The executor's promises: once, in order, kept until acknowledged, never past the lease."""

import time
from collections.abc import Iterator

import pytest
from google.rpc import code_pb2

from common.background import ThreadMonitor
from edge.control_messages import CallMessages, ControlMessages
from edge.operations import executor as executor_module
from edge.operations.executor import OperationExecutor
from edge.vcenter.client import faults
from edge.vcenter.operations.errors import DiskInUseError
from tests.support.control_call import welcomed_call
from tests.support.scripted_operations import PATIENCE, NumberedStates, ScriptedOperations
from vsphere_gateway.v1 import link_pb2, operations_pb2

EPOCH = 7


@pytest.fixture
def vcenter() -> ScriptedOperations:
    return ScriptedOperations()


@pytest.fixture
def control() -> ControlMessages:
    return ControlMessages()


@pytest.fixture
def sent(control: ControlMessages) -> CallMessages:
    """What a call of the link sends, from before the first operation on."""
    return welcomed_call(control)


@pytest.fixture
def executor(
    vcenter: ScriptedOperations, control: ControlMessages, sent: CallMessages
) -> Iterator[OperationExecutor]:
    runner = OperationExecutor(vcenter, NumberedStates(), control, ThreadMonitor())
    runner.lease_changed(link_pb2.Lease(held=True, fencing_epoch=EPOCH, holder="edge-1"))
    yield runner
    runner.close(0)


def operation(
    number: int, machine: str = "", key: str = "", seconds: float = 60, **fields: object
) -> operations_pb2.Operation:
    made = operations_pb2.Operation(
        operation_id=f"operation-{number}",
        idempotency_key=key or f"key-{number}",
        fencing_epoch=EPOCH,
        target=operations_pb2.VirtualMachineTarget(instance_uuid=machine or f"machine-{number}"),
        power_on=operations_pb2.PowerOn(),
    )
    made.deadline.FromNanoseconds(int((time.time() + seconds) * 1e9))
    made.MergeFrom(operations_pb2.Operation(**fields))
    return made


def result_of(sent: CallMessages, operation_id: str) -> operations_pb2.OperationResult:
    """Take messages until the result of an operation comes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        message = sent.next_message(0.1)
        if message is not None and message.operation_result.operation_id == operation_id:
            return message.operation_result
    raise AssertionError(f"no result of {operation_id}")


def reconnect(control: ControlMessages, executor: OperationExecutor) -> CallMessages:
    """Begin another call, as after a broken one."""
    sent = control.open(link_pb2.Hello())
    assert sent.next_message(0) is not None
    executor.replay()
    return sent


def fault_of(result: operations_pb2.OperationResult) -> operations_pb2.OperationFault:
    fault = operations_pb2.OperationFault()
    assert result.status.details[0].Unpack(fault)
    return fault


def messages(sent: CallMessages) -> list[str]:
    kinds = []
    while (message := sent.next_message(0)) is not None:
        kinds.append(message.WhichOneof("message"))
    return kinds


def test_an_operation_is_accepted_before_its_result_comes(executor, vcenter, sent) -> None:
    executor.submit(operation(1))
    first = sent.next_message(PATIENCE)
    assert first is not None
    assert first.operation_accepted.operation_id == "operation-1"
    result = result_of(sent, "operation-1")
    assert result.status.code == code_pb2.OK
    assert result.idempotency_key == "key-1"
    assert result.virtual_machine.revision == 1


def test_a_repeated_key_repeats_the_first_result_and_runs_nothing(executor, vcenter, sent) -> None:
    executor.submit(operation(1, key="same"))
    first = result_of(sent, "operation-1")
    executor.submit(operation(2, key="same"))
    again = result_of(sent, "operation-2")
    assert vcenter.started == ["operation-1"]
    assert again.virtual_machine == first.virtual_machine
    executor.acknowledged("operation-2")
    assert executor.unsettled() == []


def test_a_repeated_key_is_answered_after_the_result_was_acknowledged(
    executor, vcenter, sent
) -> None:
    executor.submit(operation(1))
    result_of(sent, "operation-1")
    executor.acknowledged("operation-1")
    assert executor.unsettled() == []
    executor.submit(operation(1))
    assert result_of(sent, "operation-1").status.code == code_pb2.OK
    assert [each.operation_id for each in executor.unsettled()] == ["operation-1"]
    assert vcenter.started == ["operation-1"]


def test_a_repeated_key_of_a_running_operation_starts_no_second_one(
    executor, vcenter, sent
) -> None:
    vcenter.hold()
    executor.submit(operation(1))
    assert vcenter.wait_for_start("operation-1")
    executor.submit(operation(1))
    vcenter.release("operation-1")
    result_of(sent, "operation-1")
    assert vcenter.started == ["operation-1"]


def test_operations_on_one_machine_run_one_after_the_other_in_order(
    executor, vcenter, sent
) -> None:
    vcenter.hold()
    for number in range(1, 4):
        executor.submit(operation(number, machine="Same" if number == 2 else "same"))
    for number in range(1, 4):
        assert vcenter.wait_for_start(f"operation-{number}")
        assert vcenter.running == 1
        vcenter.release(f"operation-{number}")
        result_of(sent, f"operation-{number}")
    assert vcenter.started == ["operation-1", "operation-2", "operation-3"]


def test_operations_on_different_machines_run_side_by_side(executor, vcenter) -> None:
    vcenter.hold()
    for number in range(1, 6):
        executor.submit(operation(number))
    for number in range(1, 6):
        assert vcenter.wait_for_start(f"operation-{number}")
    assert vcenter.running == 5


def test_no_more_than_the_bound_run_at_once(vcenter, monkeypatch, control) -> None:
    monkeypatch.setattr(executor_module, "PARALLEL", 3)
    executor = OperationExecutor(vcenter, NumberedStates(), control, ThreadMonitor())
    executor.lease_changed(link_pb2.Lease(held=True, fencing_epoch=EPOCH))
    vcenter.hold()
    for number in range(10):
        executor.submit(operation(number))
    for number in range(3):  # before the first may end, so that as many as may run do
        assert vcenter.wait_for_start(f"operation-{number}")
    for number in range(10):
        assert vcenter.wait_for_start(f"operation-{number}")
        vcenter.release(f"operation-{number}")
    assert vcenter.most_at_once == 3


def test_a_question_about_the_state_waits_for_no_task_of_the_same_machine(
    executor, vcenter
) -> None:
    vcenter.hold()
    executor.submit(operation(1, machine="same"))
    assert vcenter.wait_for_start("operation-1")
    executor.submit(operation(2, machine="same", get_state=operations_pb2.GetState()))
    assert vcenter.wait_for_start("operation-2")


def test_an_operation_under_an_older_lease_is_refused(executor, vcenter, sent) -> None:
    old = operation(1)
    old.fencing_epoch = EPOCH - 1
    executor.submit(old)
    result = result_of(sent, "operation-1")
    assert result.status.code == code_pb2.ABORTED
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_LEASE_LOST
    assert vcenter.started == []


def test_what_waits_when_the_lease_is_lost_never_begins_but_what_runs_ends(
    executor, vcenter, sent
) -> None:
    vcenter.hold()
    executor.submit(operation(1, machine="same"))
    executor.submit(operation(2, machine="same"))
    assert vcenter.wait_for_start("operation-1")
    executor.lease_changed(link_pb2.Lease(held=False, fencing_epoch=EPOCH + 1, holder="edge-2"))
    vcenter.release("operation-1")
    assert result_of(sent, "operation-1").status.code == code_pb2.OK
    refused = result_of(sent, "operation-2")
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_LEASE_LOST
    assert vcenter.started == ["operation-1"]


def test_nothing_runs_before_a_lease_is_known(vcenter, control, sent) -> None:
    executor = OperationExecutor(vcenter, NumberedStates(), control, ThreadMonitor())
    executor.submit(operation(1))
    refused = result_of(sent, "operation-1")
    assert fault_of(refused).reason == operations_pb2.FAULT_REASON_LEASE_LOST


def test_an_operation_whose_deadline_passed_while_it_waited_never_begins(
    vcenter, control, sent
) -> None:
    time_now = [100.0]
    executor = OperationExecutor(
        vcenter, NumberedStates(), control, ThreadMonitor(), clock=lambda: time_now[0]
    )
    executor.lease_changed(link_pb2.Lease(held=True, fencing_epoch=EPOCH))
    vcenter.hold()
    executor.submit(operation(1, machine="same", seconds=60))
    executor.submit(operation(2, machine="same", seconds=30))
    assert vcenter.wait_for_start("operation-1")
    time_now[0] += 31
    vcenter.release("operation-1")
    late = result_of(sent, "operation-2")
    assert late.status.code == code_pb2.DEADLINE_EXCEEDED
    assert fault_of(late).reason == operations_pb2.FAULT_REASON_TIMEOUT
    assert vcenter.started == ["operation-1"]


def test_a_cancelled_operation_stops_and_says_why(executor, vcenter, sent) -> None:
    vcenter.hold()
    executor.submit(operation(1))
    assert vcenter.wait_for_start("operation-1")
    executor.cancel(
        operations_pb2.CancelOperation(operation_id="operation-1", reason="the caller has gone")
    )
    result = result_of(sent, "operation-1")
    assert result.status.code == code_pb2.CANCELLED
    assert "the caller has gone" in result.status.message
    assert fault_of(result).reason == operations_pb2.FAULT_REASON_CANCELLED


def test_an_operation_cancelled_while_it_waits_never_begins(executor, vcenter, sent) -> None:
    vcenter.hold()
    executor.submit(operation(1, machine="same"))
    executor.submit(operation(2, machine="same"))
    assert vcenter.wait_for_start("operation-1")
    executor.cancel(operations_pb2.CancelOperation(operation_id="operation-2"))
    vcenter.release("operation-1")
    assert result_of(sent, "operation-2").status.code == code_pb2.CANCELLED
    assert vcenter.started == ["operation-1"]


def test_results_are_replayed_after_a_reconnect_until_acknowledged(
    executor, vcenter, control, sent
) -> None:
    for number in (1, 2):
        executor.submit(operation(number))
        result_of(sent, f"operation-{number}")
    executor.acknowledged("operation-1")
    sent = reconnect(control, executor)
    assert result_of(sent, "operation-2").status.code == code_pb2.OK
    assert sent.next_message(0) is None
    sent = reconnect(control, executor)
    assert messages(sent) == ["operation_result"]


def test_a_reconnect_tells_what_runs_and_sends_no_stale_progress(
    executor, vcenter, control, sent
) -> None:
    vcenter.hold()
    executor.submit(operation(1))
    assert vcenter.wait_for_start("operation-1")
    sent = reconnect(control, executor)
    assert messages(sent) == []
    assert [each.idempotency_key for each in executor.unsettled()] == ["key-1"]


def test_an_acknowledgement_of_what_still_runs_forgets_nothing(
    executor, vcenter, control, sent
) -> None:
    vcenter.hold()
    executor.submit(operation(1))
    assert vcenter.wait_for_start("operation-1")
    executor.acknowledged("operation-1")
    vcenter.release("operation-1")
    result_of(sent, "operation-1")
    sent = reconnect(control, executor)
    assert messages(sent) == ["operation_result"]


def test_acknowledged_results_are_dropped_oldest_first_and_others_never(
    vcenter, monkeypatch, control, sent
) -> None:
    monkeypatch.setattr(executor_module, "REMEMBERED", 2)
    executor = OperationExecutor(vcenter, NumberedStates(), control, ThreadMonitor())
    executor.lease_changed(link_pb2.Lease(held=True, fencing_epoch=EPOCH))
    for number in range(5):
        executor.submit(operation(number))
        result_of(sent, f"operation-{number}")
    for number in range(1, 5):
        executor.acknowledged(f"operation-{number}")
    assert [each.operation_id for each in executor.unsettled()] == ["operation-0"]
    for number in range(5):
        executor.submit(operation(number))
        result_of(sent, f"operation-{number}")
    # 0 was not acknowledged, 3 and 4 were remembered; 1 and 2 had been forgotten and ran again.
    assert vcenter.started[5:] == ["operation-1", "operation-2"]


def test_no_more_is_taken_on_than_can_be_remembered(vcenter, monkeypatch, control, sent) -> None:
    monkeypatch.setattr(executor_module, "UNSETTLED", 2)
    executor = OperationExecutor(vcenter, NumberedStates(), control, ThreadMonitor())
    executor.lease_changed(link_pb2.Lease(held=True, fencing_epoch=EPOCH))
    for number in range(2):
        executor.submit(operation(number))
        result_of(sent, f"operation-{number}")
    executor.submit(operation(2))
    refused = result_of(sent, "operation-2")
    assert refused.status.code == code_pb2.UNAVAILABLE
    assert len(executor.unsettled()) == 2
    executor.acknowledged("operation-0")
    executor.submit(operation(2))
    assert result_of(sent, "operation-2").status.code == code_pb2.OK


def test_a_draining_edge_takes_on_nothing_and_waits_for_acknowledgements(
    executor, vcenter, control, sent
) -> None:
    vcenter.hold()
    executor.submit(operation(1))
    assert vcenter.wait_for_start("operation-1")
    assert not executor.drain(0.01)
    executor.submit(operation(2))
    assert result_of(sent, "operation-2").status.code == code_pb2.UNAVAILABLE
    executor.acknowledged("operation-2")
    vcenter.release("operation-1")
    result_of(sent, "operation-1")
    executor.acknowledged("operation-1")
    assert executor.drain(PATIENCE)
    sent = reconnect(control, executor)
    vcenter.release("operation-3")
    executor.submit(operation(3))
    assert result_of(sent, "operation-3").status.code == code_pb2.OK


def test_close_waits_for_what_runs_and_begins_nothing_that_waits(executor, vcenter, sent) -> None:
    vcenter.hold()
    executor.submit(operation(1, machine="same"))
    executor.submit(operation(2, machine="same"))
    assert vcenter.wait_for_start("operation-1")
    assert not executor.close(0.01)
    vcenter.release("operation-1")
    assert executor.close(PATIENCE)
    assert result_of(sent, "operation-1").status.code == code_pb2.OK
    assert result_of(sent, "operation-2").status.code == code_pb2.UNAVAILABLE
    assert vcenter.started == ["operation-1"]


@pytest.mark.parametrize(
    ("error", "code", "reason", "vsphere_fault"),
    [
        (
            faults.PermissionDeniedError(
                "the user lacks the privilege VirtualMachine.Interact.PowerOn",
                "VirtualMachine.Interact.PowerOn",
                "VirtualMachine:vm-1",
            ),
            code_pb2.PERMISSION_DENIED,
            operations_pb2.FAULT_REASON_NO_PERMISSION,
            "NoPermission",
        ),
        (
            faults.unknown_fault("ShinyNewFault", "never seen before"),
            code_pb2.INTERNAL,
            operations_pb2.FAULT_REASON_TASK_FAILED,
            "ShinyNewFault",
        ),
        (
            DiskInUseError("used elsewhere"),
            code_pb2.FAILED_PRECONDITION,
            operations_pb2.FAULT_REASON_DISK_IN_USE,
            "",
        ),
        (
            faults.VCenterUnreachableError("no connection"),
            code_pb2.UNAVAILABLE,
            operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
            "",
        ),
        (ZeroDivisionError(), code_pb2.INTERNAL, operations_pb2.FAULT_REASON_UNSPECIFIED, ""),
    ],
)
def test_an_error_becomes_a_status_with_reason_fault_and_advice(
    executor, vcenter, error, code, reason, vsphere_fault, sent
) -> None:
    vcenter.errors["operation-1"] = error
    executor.submit(operation(1))
    result = result_of(sent, "operation-1")
    fault = fault_of(result)
    assert result.status.code == code
    assert result.status.message
    assert (fault.reason, fault.vsphere_fault) == (reason, vsphere_fault)
    assert fault.advice


def test_a_failed_operation_does_not_stop_the_next_one_on_that_machine(
    executor, vcenter, sent
) -> None:
    vcenter.errors["operation-1"] = ZeroDivisionError()
    executor.submit(operation(1, machine="same"))
    executor.submit(operation(2, machine="same"))
    assert result_of(sent, "operation-2").status.code == code_pb2.OK
