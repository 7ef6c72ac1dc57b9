"""Heartbeats of one call: silence of the other side, and clocks that differ."""

import pytest

from edge.link.heartbeats import Heartbeats, to_timestamp
from tests.support.fake_monotonic import FakeMonotonic
from vsphere_gateway.v1 import link_pb2, operations_pb2


def echo(heartbeat: link_pb2.Heartbeat, ahead: float = 0.0) -> link_pb2.HeartbeatEcho:
    answer = link_pb2.HeartbeatEcho(sequence=heartbeat.sequence, sent_at=heartbeat.sent_at)
    answer.received_at.FromNanoseconds(heartbeat.sent_at.ToNanoseconds() + int(ahead * 1e9))
    return answer


def test_round_trip_is_not_taken_for_a_difference_of_the_clocks() -> None:
    hands = FakeMonotonic()
    heartbeats = Heartbeats(25.0, hands, hands)
    first = heartbeats.stamp(link_pb2.Heartbeat())
    hands.now += 8
    heartbeats.echoed(echo(first, ahead=90 + 4))
    operation = operations_pb2.Operation()
    operation.deadline.FromSeconds(2000)
    assert heartbeats.by_own_clock(operation).deadline.ToSeconds() == 2000 - 90
    assert heartbeats.stamp(link_pb2.Heartbeat()).sequence == first.sequence + 1


def test_three_intervals_without_an_echo_are_silence() -> None:
    hands = FakeMonotonic()
    heartbeats = Heartbeats(25.0, hands, hands)
    hands.now += 74
    assert not heartbeats.is_silent()
    heartbeats.echoed(echo(heartbeats.stamp(link_pb2.Heartbeat())))
    hands.now += 74
    assert not heartbeats.is_silent()
    hands.now += 2
    assert heartbeats.is_silent()


def test_wrong_clock_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hands = FakeMonotonic()
    heartbeats = Heartbeats(25.0, hands, hands)
    for _ in range(3):
        heartbeats.echoed(echo(heartbeats.stamp(link_pb2.Heartbeat()), ahead=90.0))
    assert len(caplog.records) == 1
    assert caplog.records[0].fields == {"skew_seconds": 90.0}  # type: ignore[attr-defined]


@pytest.mark.parametrize("ahead", [-600.0, 0.0, 600.0])
def test_a_wrong_clock_moves_no_deadline(ahead: float) -> None:
    time_now = 1_800_000_000.0
    heartbeats = Heartbeats(25, lambda: 0.0, lambda: time_now)
    beat = heartbeats.stamp(link_pb2.Heartbeat())
    echo = link_pb2.HeartbeatEcho(
        sequence=beat.sequence, sent_at=beat.sent_at, received_at=to_timestamp(time_now + ahead)
    )
    heartbeats.echoed(echo)
    operation = operations_pb2.Operation(deadline=to_timestamp(time_now + ahead + 60))
    assert heartbeats.by_own_clock(operation).deadline == to_timestamp(time_now + 60)


def test_an_operation_without_a_deadline_gets_none() -> None:
    heartbeats = Heartbeats(25, lambda: 0.0, lambda: 0.0)
    assert not heartbeats.by_own_clock(operations_pb2.Operation()).HasField("deadline")
