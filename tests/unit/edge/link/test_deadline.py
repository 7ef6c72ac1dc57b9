"""Deadlines are told by the control plane's clock, and the appliance's own may be wrong."""

import pytest

from edge.link.heartbeats import Heartbeats, to_timestamp
from vsphere_gateway.v1 import link_pb2, operations_pb2


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
