"""Leases, silence and verdicts. Time is turned by hand; the link and the database are real."""

from collections.abc import Callable

import grpc
import pytest

from controlplane.domain.errors import EdgeOfflineError
from controlplane.gateway.edges.edge_registry import RESTART_SECONDS, RETURN_SECONDS, EdgeRegistry
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own import edges
from tests.support.dialled_edge import VCENTER, Call, DialledEdge, heartbeat
from tests.support.running_gateway import INTERVAL, RunningGateway
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import link_pb2, operations_pb2

Dial = Callable[..., DialledEdge]

SILENCE = 3 * INTERVAL
VERDICT = SILENCE + 0.5 * INTERVAL
"""After the last heartbeat, with the jitter that the fixture gives."""


def lease_of(call: Call) -> link_pb2.Lease:
    """Return the next lease told, whatever comes before it."""
    while not (response := call.receive()).HasField("lease"):
        pass
    return response.lease


def beat(gateway: RunningGateway, call: Call, sequence: int) -> None:
    """Send a heartbeat and wait for its echo."""
    call.send(heartbeat(sequence))
    while not call.receive().HasField("heartbeat_echo"):
        pass


def test_the_second_edge_stands_by_and_takes_over_when_the_first_is_offline(
    dial: Dial, gateway: RunningGateway
) -> None:
    first = dial("site-1").connect()
    held = lease_of(first)
    second = dial("site-2").connect()
    waiting = lease_of(second)
    assert (held.held, waiting.held, waiting.holder) == (True, False, "site-1")

    first.cancel()
    eventually_true(lambda: not gateway.registry.online(VCENTER))
    gateway.hands.turn(INTERVAL)
    beat(gateway, second, 1)
    gateway.registry.check()
    gateway.hands.turn(SILENCE - INTERVAL - 1)
    beat(gateway, second, 2)
    gateway.registry.check()
    assert not gateway.registry.online(VCENTER)

    gateway.hands.turn(INTERVAL)
    gateway.registry.check()
    taken = lease_of(second)
    assert (taken.held, taken.holder) == (True, "site-2")
    assert taken.fencing_epoch > held.fencing_epoch
    operation = operations_pb2.Operation(operation_id="o-1", power_on=operations_pb2.PowerOn())
    assert gateway.registry.send(VCENTER, operation) == "site-2"
    assert operation.fencing_epoch == taken.fencing_epoch
    gateway.operations.record.wait_for(lambda c: c == ("edge_connected", "site-2", VCENTER, []))
    assert gateway.edges.record.named("edge_offline") == []


def test_the_first_edge_comes_back_to_stand_by(dial: Dial, gateway: RunningGateway) -> None:
    first = dial("site-1").connect()
    lease_of(first)
    second = dial("site-2").connect()
    lease_of(second)
    gateway.hands.turn(SILENCE - 1)
    beat(gateway, second, 1)
    gateway.hands.turn(INTERVAL)
    gateway.registry.check()
    assert first.end()[0] is grpc.StatusCode.UNAVAILABLE
    assert lease_of(second).held
    again = lease_of(dial("site-1").connect())
    assert (again.held, again.holder) == (False, "site-2")


def test_an_edge_that_is_back_in_time_was_never_offline(
    dial: Dial, gateway: RunningGateway
) -> None:
    edge = dial("site-1")
    call = edge.connect()
    before = lease_of(call)
    call.cancel()
    assert gateway.registry.sessions.wait_until_empty(5)
    gateway.hands.turn(VERDICT - 1)
    gateway.registry.check()
    after = lease_of(edge.connect())
    assert (after.held, after.fencing_epoch) == (True, before.fencing_epoch)
    gateway.hands.turn(2)
    gateway.registry.check()
    assert gateway.edges.record.named("edge_offline") == []


def test_an_edge_that_left_is_expected_back_for_a_moment(
    dial: Dial, gateway: RunningGateway
) -> None:
    assert gateway.registry.expected(VCENTER) == 0
    call = dial("site-1").connect()
    lease_of(call)
    eventually_true(lambda: gateway.registry.online(VCENTER))
    assert gateway.registry.expected(VCENTER) == RETURN_SECONDS
    call.cancel()
    assert gateway.registry.sessions.wait_until_empty(5)
    gateway.hands.turn(RETURN_SECONDS - 1)
    assert gateway.registry.expected(VCENTER) == 1
    gateway.hands.turn(2)
    assert gateway.registry.expected(VCENTER) == 0


def test_a_control_plane_that_has_just_begun_expects_the_edges_of_the_one_before(
    dial: Dial, gateway: RunningGateway, start_gateway: Callable[[], RunningGateway]
) -> None:
    lease_of(dial("site-1").connect())
    gateway.stop()
    later = start_gateway()
    assert later.registry.expected(VCENTER) == RESTART_SECONDS
    later.hands.turn(RESTART_SECONDS + 1)
    assert later.registry.expected(VCENTER) == 0


def test_an_edge_away_for_too_long_is_declared_offline_once(
    dial: Dial, gateway: RunningGateway
) -> None:
    call = dial("site-1").connect()
    lease_of(call)
    call.cancel()
    assert gateway.registry.sessions.wait_until_empty(5)
    left_at = gateway.hands.now
    assert gateway.registry.check() <= INTERVAL
    gateway.hands.turn(VERDICT + 1)
    gateway.registry.check()
    gateway.hands.turn(VERDICT + 1)
    gateway.registry.check()
    assert gateway.edges.record.named("edge_offline") == [
        ("edge_offline", VCENTER, "site-1", left_at)
    ]
    with pytest.raises(EdgeOfflineError, match="edge site-1 is offline since 2027-"):
        gateway.registry.send(VCENTER, operations_pb2.Operation())


def test_a_silent_stream_is_ended_and_its_edge_declared_offline(
    dial: Dial, gateway: RunningGateway
) -> None:
    call = dial("site-1").connect()
    lease_of(call)
    gateway.hands.turn(VERDICT - 1)
    gateway.registry.check()
    assert gateway.registry.online(VCENTER)
    gateway.hands.turn(2)
    gateway.registry.check()
    code, details = call.end()
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "no heartbeat for 88 s")
    gateway.registry.check()
    assert len(gateway.edges.record.named("edge_offline")) == 1


def test_the_time_of_the_next_check_is_that_of_the_next_verdict(
    dial: Dial, gateway: RunningGateway
) -> None:
    gateway.registry.check()
    call = dial("site-1").connect("")
    gateway.hands.turn(INTERVAL)
    assert gateway.registry.check() == pytest.approx(INTERVAL)
    gateway.hands.turn(2 * INTERVAL)
    assert gateway.registry.check() == pytest.approx(0.5 * INTERVAL)
    call.cancel()


def test_an_edge_without_its_vcenter_gets_no_lease(dial: Dial, gateway: RunningGateway) -> None:
    call = dial("site-1").connect("")
    beat(gateway, call, 1)
    gateway.hands.turn(INTERVAL + 1)
    gateway.registry.check()
    beat(gateway, call, 2)
    assert not gateway.registry.online(VCENTER)


def test_fencing_outlives_the_control_plane(
    dial: Dial, gateway: RunningGateway, start_gateway: Callable[[], RunningGateway]
) -> None:
    call = dial("site-1").connect()
    before = lease_of(call)
    gateway.stop()
    later = start_gateway()
    other = lease_of(dial("site-2", port=later.port).connect())
    assert (other.held, other.holder) == (False, "site-1")
    again = lease_of(dial("site-1", port=later.port).connect())
    assert (again.held, again.fencing_epoch) == (True, before.fencing_epoch)


def test_an_edge_that_does_not_return_to_a_restarted_control_plane_is_declared_offline(
    dial: Dial, gateway: RunningGateway, start_gateway: Callable[[], RunningGateway]
) -> None:
    lease_of(dial("site-1").connect())
    gateway.stop()
    later = start_gateway()
    gateway.hands.turn(VERDICT + 1)
    later.registry.check()
    ((_, vcenter, name, _),) = later.edges.record.named("edge_offline")
    assert (vcenter, name) == (VCENTER, "site-1")


def test_a_lease_that_another_control_plane_renews_is_no_business_of_this_one(
    dial: Dial, gateway: RunningGateway, start_gateway: Callable[[], RunningGateway]
) -> None:
    other = start_gateway()
    edge = dial("site-1")
    call = edge.connect()
    lease_of(call)
    call.cancel()
    assert gateway.registry.sessions.wait_until_empty(5)
    there = dial("site-1", port=other.port).connect()
    assert lease_of(there).held
    gateway.hands.turn(VERDICT + 1)
    beat(other, there, 1)
    other.registry.check()
    gateway.registry.check()
    assert gateway.edges.record.named("edge_offline") == []


def test_edges_stay_connected_while_the_database_is_away(
    dial: Dial, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.database, "run", away)
        call = dial("site-1").connect()
        beat(gateway, call, 1)
        assert not gateway.registry.online(VCENTER)
    gateway.hands.turn(INTERVAL + 1)
    gateway.registry.check()
    assert lease_of(call).held


def test_what_is_known_of_an_edge_outlives_the_control_plane(
    dial: Dial, gateway: RunningGateway, database: Database
) -> None:
    call = dial("site-1", epoch=77).connect()
    lease_of(call)
    call.cancel()
    assert gateway.registry.sessions.wait_until_empty(5)
    gateway.stop()
    with database.read() as connection:
        (row,) = edges.list_all(connection)
        (vcenter,) = edges.list_vcenters(connection)
    assert (row.name, row.epoch, row.vcenter_uuid, row.online) == ("site-1", 77, VCENTER, False)
    assert row.certificate_not_after is not None
    assert vcenter.full_name == "vcsim"


def test_an_unexpected_error_ends_no_watch_over_edges_and_is_reported_until_it_is_over(
    start_gateway: Callable[[], RunningGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(registry: EdgeRegistry) -> float:
        raise TypeError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr(EdgeRegistry, "check", broken)
        gateway = start_gateway()
        eventually_true(
            lambda: [failure.thread for failure in gateway.monitor.down()] == ["edge-watch"]
        )
    eventually_true(lambda: gateway.monitor.down() == [])
