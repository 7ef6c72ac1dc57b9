"""What becomes of operations when links and processes break under them."""

import threading

import pytest

from controlplane.operations import faults
from controlplane.store.own.operations import OperationState
from tests.support.edge_side import ON, ScriptedEdge, SteppedClock, in_thread
from tests.support.ledger_life import SERVER, LedgerLife, MakeRequest
from tests.unit.controlplane.operations.test_ledger import await_state, reason
from vsphere_gateway.v1 import operations_pb2

UNKNOWN = operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN


def test_result_is_replayed_after_a_broken_link(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off")))
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    edge.break_link()
    edge.execute(operation)
    edge.reconnect()
    assert reason(call()) == -1
    assert edge.executed == ["power_off"]
    assert len(edge.received) == 1


def test_operation_that_still_runs_is_waited_for(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"clone_virtual_machine"}
    call = in_thread(lambda: life.ledger.execute(request_for("clone_virtual_machine")))
    operation = edge.await_arrival("clone_virtual_machine")
    edge.accept(operation)
    edge.break_link()
    edge.reconnect()
    edge.run(operation)
    assert reason(call()) == -1
    assert edge.executed == ["clone_virtual_machine"]


@pytest.mark.parametrize("action", ["power_off", "reboot", "clone_virtual_machine"])
def test_operation_that_never_arrived_is_sent_again_and_runs_once(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest, action: str
) -> None:
    if action == "clone_virtual_machine":
        edge.power.clear()
    edge.hold = {action}
    call = in_thread(lambda: life.ledger.execute(request_for(action)))
    edge.lose(edge.await_arrival(action))
    edge.break_link()
    edge.hold = set()
    edge.reconnect()
    assert reason(call()) == -1
    assert edge.executed.count(action) == 1


def test_reboot_that_an_earlier_edge_process_began_is_not_repeated(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"reboot"}
    call = in_thread(lambda: life.ledger.execute(request_for("reboot")))
    edge.accept(edge.await_arrival("reboot"))
    edge.break_link()
    edge.restart()
    edge.hold = set()
    edge.reconnect()
    assert reason(call()) == UNKNOWN
    assert "reboot" not in edge.executed


def test_reboot_is_not_repeated_by_the_edge_that_takes_over(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"reboot"}
    call = in_thread(lambda: life.ledger.execute(request_for("reboot")))
    edge.await_arrival("reboot")  # taken on, but the link breaks before it can say so
    await_state(life, OperationState.SENT)
    edge.break_link()
    edge.restart()
    edge.reconnect("edge-2")
    assert reason(call()) == UNKNOWN
    assert len([1 for one in edge.received if one.HasField("reboot")]) == 1


def test_clone_that_finished_after_the_edge_restarted_is_found_in_vcenter(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.power.clear()
    edge.hold = {"clone_virtual_machine"}
    call = in_thread(lambda: life.ledger.execute(request_for("clone_virtual_machine")))
    edge.accept(edge.await_arrival("clone_virtual_machine"))
    edge.break_link()
    edge.restart()
    edge.power[SERVER] = ON
    edge.reconnect()
    assert reason(call()) == -1
    assert edge.executed.count("clone_virtual_machine") == 0, "not cloned twice"


def test_clone_that_vcenter_is_still_at_is_asked_for_again_at_the_deadline(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.power.clear()
    edge.hold = {"clone_virtual_machine"}
    call = in_thread(lambda: life.ledger.execute(request_for("clone_virtual_machine", seconds=600)))
    edge.accept(edge.await_arrival("clone_virtual_machine"))
    edge.break_link()
    edge.restart()
    edge.reconnect()
    edge.await_arrival("get_state")
    threading.Event().wait(0.2)
    edge.power[SERVER] = ON
    clock.advance(601)
    clock.advance(5)
    assert reason(call()) == -1
    assert len([1 for one in edge.received if one.HasField("clone_virtual_machine")]) == 1


def test_edge_that_stays_away_leaves_the_outcome_unknown_until_it_is_back(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off", seconds=60)))
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    edge.break_link()
    edge.execute(operation)
    edge.restart()
    clock.advance(61)
    result = call()
    assert reason(result) == UNKNOWN
    assert life.row().state is OperationState.UNKNOWN
    edge.reconnect()
    await_state(life, OperationState.DONE)
    assert len([1 for one in edge.received if one.HasField("power_off")]) == 1, "only asked"


def test_what_nova_was_told_has_failed_is_not_done_later(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"destroy"}
    call = in_thread(
        lambda: life.ledger.execute(request_for("destroy", seconds=60, recorded_delete=True))
    )
    edge.lose(edge.await_arrival("destroy"))
    edge.break_link()
    clock.advance(61)
    assert reason(call()) == UNKNOWN
    assert life.history.delete_recorded(SERVER), "it may be under way"
    edge.hold = set()
    edge.reconnect()
    await_state(life, OperationState.FAILED)
    assert SERVER in edge.power
    assert not life.history.delete_recorded(SERVER)


def test_restart_of_the_control_plane_settles_what_ran(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off", key="k")))
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    life.restart()
    assert reason(call()) == operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE
    again = in_thread(lambda: life.ledger.execute(request_for("power_off", key="k")))
    edge.execute(operation)
    edge.reconnect()
    assert reason(again()) == -1
    assert edge.executed == ["power_off"]
    await_state(life, OperationState.DONE)


def test_restart_of_both_sides_settles_by_asking_vcenter(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"destroy"}
    call = in_thread(lambda: life.ledger.execute(request_for("destroy", recorded_delete=True)))
    operation = edge.await_arrival("destroy")
    edge.accept(operation)
    life.restart()
    call()
    edge.execute(operation)
    edge.restart()
    clock.advance(3600)
    edge.reconnect()
    await_state(life, OperationState.DONE)
    assert life.history.delete_recorded(SERVER)


def test_clone_of_a_failed_build_goes_when_its_edge_is_back(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.power.clear()
    edge.hold = {"clone_virtual_machine"}
    call = in_thread(lambda: life.ledger.execute(request_for("clone_virtual_machine", seconds=60)))
    operation = edge.await_arrival("clone_virtual_machine")
    edge.accept(operation)
    edge.break_link()
    edge.execute(operation)
    clock.advance(61)
    assert reason(call()) == UNKNOWN
    result = life.ledger.execute(request_for("destroy"))
    assert reason(result) == operations_pb2.FAULT_REASON_EDGE_OFFLINE
    clock.advance(3600)
    edge.hold = set()
    assert SERVER in edge.power
    edge.reconnect()
    edge.await_arrival("destroy")
    for _ in range(500):
        if {row.state for row in life.rows()} == {OperationState.DONE}:
            break
        threading.Event().wait(0.01)
    assert [row.state for row in life.rows()] == [OperationState.DONE, OperationState.DONE]
    assert edge.power == {}


def test_settling_is_tried_again_while_vcenter_is_away(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: life.ledger.execute(request_for("power_off", seconds=60)))
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    edge.break_link()
    edge.execute(operation)
    edge.restart()
    clock.advance(61)
    call()
    edge.faults["get_state"] = operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE
    edge.reconnect()
    edge.await_arrival("get_state")
    threading.Event().wait(0.2)
    assert life.row().state is OperationState.UNKNOWN
    edge.faults.clear()
    clock.advance(31)
    await_state(life, OperationState.DONE)


def test_stop_of_a_machine_that_vanished_meanwhile_says_so(
    life: LedgerLife, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    edge.hold = {"power_off"}
    in_thread(lambda: life.ledger.execute(request_for("power_off", seconds=60)))
    edge.accept(edge.await_arrival("power_off"))
    edge.break_link()
    edge.restart()
    edge.power.clear()
    clock.advance(61)
    await_state(life, OperationState.UNKNOWN)
    edge.reconnect()
    await_state(life, OperationState.FAILED)
    assert life.row().fault == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND
    assert faults.fault_of(operations_pb2.OperationResult.FromString(life.row().result or b""))
