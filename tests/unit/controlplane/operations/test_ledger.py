"""What the ledger promises to Nova."""

import threading

import pytest

from controlplane.operations import faults
from controlplane.store.database import Database
from controlplane.store.own.operations import OperationState
from tests.support.edge_side import (
    OFF,
    ON,
    VCENTER,
    RecordingPipeline,
    ScriptedEdge,
    SteppedClock,
    in_thread,
)
from tests.support.ledger_life import SERVER, LedgerLife, MakeRequest
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import operations_pb2


def reason(result: object) -> int:
    assert isinstance(result, operations_pb2.OperationResult)
    fault = faults.fault_of(result)
    return fault.reason if fault else -1


def await_state(life: LedgerLife, state: OperationState) -> None:
    eventually_true(lambda: life.row().state is state, seconds=5)


def test_result_comes_back_with_the_state_after_the_operation(
    life: LedgerLife, edge: ScriptedEdge, pipeline: RecordingPipeline, request_for: MakeRequest
) -> None:
    result = life.ledger.execute(request_for("power_off"))
    assert reason(result) == -1
    assert result.virtual_machine.virtual_machine.power_state == OFF
    await_state(life, OperationState.DONE)
    row = life.row()
    assert (row.action, row.instance_uuid, row.edge) == ("power_off", SERVER, "edge-1")
    assert (row.request_id, row.project_id, row.cluster) == ("req-1", "p1", "domain-c1")
    assert row.finished_at is not None
    eventually_true(lambda: pipeline.reasserted == [SERVER], seconds=5)
    assert [one.virtual_machine.power_state for one in pipeline.seen] == [OFF]


def test_a_fault_of_vcenter_is_recorded_and_returned(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.faults["power_on"] = operations_pb2.FAULT_REASON_NO_RESOURCES
    assert reason(life.ledger.execute(request_for("power_on"))) == (
        operations_pb2.FAULT_REASON_NO_RESOURCES
    )
    await_state(life, OperationState.FAILED)
    assert life.row().fault == operations_pb2.FAULT_REASON_NO_RESOURCES
    assert life.row().error == "FAULT_REASON_NO_RESOURCES happened"


def test_repeated_key_returns_the_first_result_and_runs_nothing(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    first = life.ledger.execute(request_for("reboot", key="k"))
    await_state(life, OperationState.DONE)
    assert life.ledger.execute(request_for("reboot", key="k")) == first
    assert edge.executed == ["reboot"]


def test_repeated_key_joins_the_operation_that_runs(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"reboot"}
    first = in_thread(lambda: life.ledger.execute(request_for("reboot", key="k")))
    operation = edge.await_arrival("reboot")
    second = in_thread(lambda: life.ledger.execute(request_for("reboot", key="k")))
    edge.run(operation)
    assert first() == second()
    assert edge.executed == ["reboot"]


def test_offline_edge_fails_at_once_with_its_name_and_since_when(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.break_link()
    result = life.ledger.execute(request_for("power_off"))
    assert reason(result) == operations_pb2.FAULT_REASON_EDGE_OFFLINE
    assert "edge-1" in result.status.message
    assert "2026-01-01" in result.status.message
    assert life.row().state is OperationState.FAILED


def test_edge_that_is_expected_back_is_waited_for_and_gets_the_operation_once(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.break_link()
    edge.expected_seconds = 15.0
    call = in_thread(lambda: life.ledger.execute(request_for("power_off")))
    assert edge.refused.wait(5)
    # What was never sent is not taken for lost with a link, and sent twice.
    eventually_true(lambda: life.ledger.lost(VCENTER, 1, []) == [], seconds=5)
    edge.reconnect()
    assert reason(call()) == -1
    assert [one.WhichOneof("action") for one in edge.received] == ["power_off"]
    await_state(life, OperationState.DONE)


def test_edge_that_was_expected_back_in_vain_fails_the_operation(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.break_link()
    edge.expected_seconds = 15.0
    call = in_thread(lambda: life.ledger.execute(request_for("power_off")))
    assert edge.refused.wait(5)
    clock.advance(16)
    assert reason(call()) == operations_pb2.FAULT_REASON_EDGE_OFFLINE
    edge.reconnect()
    assert edge.received == []


def test_question_does_not_wait_for_an_edge_that_is_expected_back(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.break_link()
    edge.expected_seconds = 15.0
    result = life.ledger.execute(request_for("get_state"))
    assert reason(result) == operations_pb2.FAULT_REASON_EDGE_OFFLINE


def test_operation_that_waits_for_its_edge_survives_a_restart(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.break_link()
    edge.expected_seconds = 15.0
    request = request_for("power_off", key="k")
    call = in_thread(lambda: life.ledger.execute(request))
    assert edge.refused.wait(5)
    later = life.restart()
    assert reason(call()) == operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE
    again = in_thread(lambda: later.execute(request))
    edge.reconnect()
    assert reason(again()) == -1
    assert edge.executed == ["power_off"]


def test_nothing_is_sent_that_could_not_be_recorded(
    life: LedgerLife, edge: ScriptedEdge, database: Database, request_for: MakeRequest
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE operations RENAME TO gone")
    result = life.ledger.execute(request_for("destroy", recorded_delete=True))
    assert reason(result) == operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE
    assert edge.received == []


def test_destroy_is_recorded_before_it_is_sent(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    recorded = []
    plain_send = edge.send

    def send(vcenter_uuid: str, operation: operations_pb2.Operation) -> str:
        recorded.append(life.history.delete_recorded(SERVER))
        return plain_send(vcenter_uuid, operation)

    edge.send = send  # type: ignore[method-assign]
    assert not life.history.delete_recorded(SERVER)
    assert reason(life.ledger.execute(request_for("destroy", recorded_delete=True))) == -1
    assert recorded == [True]
    assert life.history.deletes_recorded([SERVER, "other"]).keys() == {SERVER}


def test_a_refused_delete_is_not_a_recorded_one(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.faults["destroy"] = operations_pb2.FAULT_REASON_DISK_IN_USE
    life.ledger.execute(request_for("destroy", recorded_delete=True))
    await_state(life, OperationState.FAILED)
    assert not life.history.delete_recorded(SERVER)


def test_destroy_that_nobody_asked_for_never_leaves(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    result = life.ledger.execute(request_for("destroy"))
    assert reason(result) == operations_pb2.FAULT_REASON_NOT_RECORDED
    assert edge.received == []
    assert SERVER in edge.power


def test_clone_of_a_failed_build_may_be_destroyed(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    life.ledger.execute(request_for("clone_virtual_machine"))
    assert reason(life.ledger.execute(request_for("destroy"))) == -1
    assert edge.power == {}


def test_clone_that_was_never_sent_gives_no_right_to_destroy(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.break_link()
    life.ledger.execute(request_for("clone_virtual_machine"))
    edge.online_now = True
    result = life.ledger.execute(request_for("destroy"))
    assert reason(result) == operations_pb2.FAULT_REASON_NOT_RECORDED
    assert SERVER in edge.power


def test_deadline_ends_the_wait_and_cancels(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off", seconds=60)))
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    clock.advance(61)
    clock.advance(5)
    assert reason(call()) == operations_pb2.FAULT_REASON_TIMEOUT
    assert edge.cancelled == [operation.operation_id]
    await_state(life, OperationState.UNKNOWN)
    edge.run(operation)
    await_state(life, OperationState.DONE)


def test_reads_leave_no_row(life: LedgerLife, request_for: MakeRequest) -> None:
    result = life.ledger.execute(request_for("get_state"))
    assert result.virtual_machine.virtual_machine.power_state == ON
    assert life.rows() == []


def test_a_result_that_cannot_be_stored_is_not_acknowledged(
    life: LedgerLife, edge: ScriptedEdge, database: Database, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off")))
    operation = edge.await_arrival("power_off")
    edge.execute(operation)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE operations RENAME TO away")
    with pytest.raises(Exception, match="operations"):
        edge.report(operation.operation_id)
    assert reason(call()) == -1, "Nova need not wait for our database"
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO operations")
    edge.reconnect()
    await_state(life, OperationState.DONE)


def test_operations_older_than_the_retention_are_forgotten(
    life: LedgerLife, clock: SteppedClock, request_for: MakeRequest
) -> None:
    life.ledger.execute(request_for("power_off"))
    await_state(life, OperationState.DONE)
    clock.advance(91 * 86400)
    for _ in range(500):
        if not life.rows():
            return
        threading.Event().wait(0.01)
    raise AssertionError("still there")


def test_recent_operations_are_told_newest_first(
    life: LedgerLife, clock: SteppedClock, request_for: MakeRequest
) -> None:
    life.ledger.execute(request_for("power_off"))
    clock.advance(1)
    life.ledger.execute(request_for("power_on"))
    assert [one.action for one in life.history.recent()] == ["power_on", "power_off"]
