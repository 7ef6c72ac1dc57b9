"""An inventory stream: changes go first, windows hold, and the lag of changes is measured."""

import pytest

from controlplane.domain.errors import FlowControlError
from controlplane.inventory.stream import Lags, Lanes
from vsphere_gateway.v1 import link_pb2

CHANGES, SNAPSHOT = link_pb2.LANE_CHANGES, link_pb2.LANE_SNAPSHOT


def _batch(lane: int, sequence: int) -> link_pb2.InventoryRequest:
    return link_pb2.InventoryRequest(batch=link_pb2.ObjectBatch(lane=lane, sequence=sequence))


def _lanes(window: int = 4) -> Lanes:
    return Lanes(link_pb2.InventoryOpen(window=window, changes_window=window))


def test_changes_overtake_the_snapshot() -> None:
    lanes = _lanes()
    for request in (_batch(SNAPSHOT, 1), _batch(SNAPSHOT, 2), _batch(CHANGES, 1)):
        lanes.put(request)

    assert lanes.take_first() == _batch(CHANGES, 1)
    assert lanes.take_first() is None
    assert lanes.take_later() == _batch(SNAPSHOT, 1)


def test_end_of_a_pass_waits_for_the_batches_before_it_and_changes_after_it_wait() -> None:
    lanes = _lanes()
    end = link_pb2.InventoryRequest(snapshot_end=link_pb2.SnapshotEnd(generation=1))
    for request in (_batch(SNAPSHOT, 1), _batch(CHANGES, 1), end, _batch(CHANGES, 2)):
        lanes.put(request)

    taken = [lanes.take_first() for _ in range(4)]

    assert taken == [_batch(CHANGES, 1), _batch(SNAPSHOT, 1), end, _batch(CHANGES, 2)]


def test_window_counts_what_is_not_acknowledged() -> None:
    lanes = _lanes(window=2)
    lanes.put(_batch(SNAPSHOT, 7))
    lanes.put(_batch(SNAPSHOT, 8))
    with pytest.raises(FlowControlError, match="snapshot lane"):
        lanes.put(_batch(SNAPSHOT, 9))

    lanes.acknowledged(_batch(SNAPSHOT, 7).batch)

    lanes.put(_batch(SNAPSHOT, 9))


def test_lags_of_the_last_thousand_changes() -> None:
    lags = Lags()
    for milliseconds in range(2000):
        lags.add("vc", 10, milliseconds)
    lags.add("vc", 10, -5.0)

    assert lags.quantile("vc", 10, 0.5) == 1500
    assert lags.quantile("vc", 11, 0.5) == 0
