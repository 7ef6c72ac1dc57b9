"""A mistake of ours stops no background thread for good, and is reported while it lasts."""

from collections.abc import Callable

import pytest

from controlplane.operations import settlement
from controlplane.operations.pending import PendingOperation
from controlplane.operations.settlement import SettlementStep
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationState
from tests.support.edge_side import ScriptedEdge, SteppedClock, in_thread
from tests.support.ledger_life import LedgerLife, MakeRequest
from tests.support.waiting import eventually
from tests.unit.controlplane.operations.test_ledger import await_state, reason


def down(life: LedgerLife) -> Callable[[], list[str]]:
    """The background threads that are down."""
    return lambda: [failure.thread for failure in life.monitor.down()]


def test_an_operation_that_cannot_be_settled_keeps_no_other_from_being_settled(
    life: LedgerLife,
    edge: ScriptedEdge,
    clock: SteppedClock,
    request_for: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decide = settlement.step

    def broken(pending: PendingOperation, now: float, name: str) -> SettlementStep:
        if pending.action == "reboot":
            raise TypeError("a mistake of ours")
        return decide(pending, now, name)

    edge.hold = {"reboot", "power_off"}
    reboot = in_thread(lambda: life.ledger.execute(request_for("reboot", seconds=3600)))
    edge.lose(edge.await_arrival("reboot"))
    power_off = in_thread(lambda: life.ledger.execute(request_for("power_off", seconds=3600)))
    edge.lose(edge.await_arrival("power_off"))
    edge.break_link()
    edge.hold = set()
    with monkeypatch.context() as patch:
        patch.setattr("controlplane.operations.settlement.step", broken)
        edge.reconnect()
        assert reason(power_off()) == -1
        eventually(down(life), ["ledger-settler"], seconds=5, poll=0.01)
    clock.advance(60)
    assert reason(reboot()) == -1
    eventually(down(life), [], seconds=5, poll=0.01)


def test_a_mark_that_could_not_be_noted_is_noted_later(
    life: LedgerLife, edge: ScriptedEdge, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a mistake of ours")

    edge.hold = {"power_off"}
    with monkeypatch.context() as patch:
        patch.setattr(store, "mark", broken)
        call = in_thread(lambda: life.ledger.execute(request_for("power_off")))
        operation = edge.await_arrival("power_off")
        edge.accept(operation)
        eventually(down(life), ["ledger-journal"], seconds=5, poll=0.01)
        assert life.row().state is OperationState.PENDING
    await_state(life, OperationState.ACCEPTED)
    eventually(down(life), [], seconds=5, poll=0.01)
    edge.run(operation)
    assert reason(call()) == -1
