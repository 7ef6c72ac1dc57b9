"""Lanes, retries, the mass-removal guard and digests."""

import threading
from collections.abc import Callable

import pytest

from common.backoff import Backoff
from controlplane.domain.errors import FlowControlError
from controlplane.inventory.apply.pipeline import AbandonedError, RetryPolicy
from controlplane.inventory.jobs import RetryQueue
from controlplane.inventory.model.replica_digest import Freshness, Held, ReplicaDigest
from controlplane.inventory.model.topology import Waiting
from controlplane.inventory.rules.mass_removal_guard import MassRemovalGuard, MassRemovalLimits
from controlplane.inventory.stream import Lags, Lanes
from controlplane.store.errors import (
    DatabaseUnavailableError,
    RowRejectedError,
    StatementRejectedError,
    StoreError,
)
from controlplane.store.own.objects import ObjectStatus
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


def _held(revision: int, status: ObjectStatus = ObjectStatus.APPLIED, epoch: int = 1) -> Held:
    return Held(10, b"h" * 16, epoch, revision, status)


def test_stale_states_drop_out_within_an_epoch_only() -> None:
    holdings = ReplicaDigest()
    holdings.put("k", _held(5))

    assert holdings.freshness("k", b"x" * 16, 1, 4) is Freshness.STALE
    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.SAME
    assert holdings.freshness("k", b"x" * 16, 1, 5) is Freshness.NEW
    assert holdings.freshness("k", b"x" * 16, 2, 1) is Freshness.NEW


def test_removal_is_remembered_until_the_call_ends() -> None:
    holdings = ReplicaDigest()
    holdings.put("k", _held(5))
    holdings.drop("k", 1, 9)

    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.STALE
    holdings.end_of_call()
    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.NEW


def test_what_is_not_shown_or_refused_counts_on_neither_side() -> None:
    holdings = ReplicaDigest()
    holdings.put("a", _held(1))
    holdings.put("b", _held(2))
    both = holdings.message()

    holdings.set_status("a", ObjectStatus.HIDDEN)
    assert holdings.message().object_count == 1
    assert holdings.freshness("a", b"h" * 16, 1, 3) is Freshness.NEW
    query = link_pb2.BucketQuery(generation=3, buckets=range(256))
    assert [one.reference.type for one in holdings.contents(query).objects] == ["b"]

    holdings.set_status("a", ObjectStatus.APPLIED)
    assert holdings.message() == both


def test_delays_of_a_row_grow_and_start_small_again() -> None:
    now = [0.0]
    queue = RetryQueue(lambda: now[0])

    queue.retry_later("k")
    assert queue.next_due() == 1.0
    now[0] = 1.0
    assert queue.take(10) == ["k"]
    queue.retry_later("k")
    assert queue.next_due() == 3.0
    for _ in range(10):
        queue.retry_later("k")
    assert queue.next_due() == now[0] + 60.0

    queue.schedule(["k"])
    assert queue.take(10) == ["k"]
    queue.discard("k")
    assert queue.next_due() is None


@pytest.mark.parametrize(
    ("missing", "servers", "exceeded"),
    [
        (20, 100, False),
        (21, 100, True),
        (21, 210, False),
        (22, 210, True),
        (3, 3, True),
        (2, 3, False),
    ],
)
def test_guard_holds_back_a_whole_cluster_or_many_of_it(
    missing: int, servers: int, exceeded: bool
) -> None:
    assert MassRemovalLimits().exceeded(missing, servers) is exceeded


def test_only_what_vanishes_at_once_counts() -> None:
    guard = MassRemovalGuard(MassRemovalLimits(fraction=0.0, count=1))
    guard.add("a", 0.0)
    assert guard.excess(10, 400.0) == ()
    guard.add("b", 400.0)
    assert guard.excess(10, 401.0) == ()
    guard.add("c", 402.0)
    assert guard.excess(10, 403.0) == ("b", "c")
    guard.discard("b")
    assert guard.excess(10, 403.0) == ()


def test_machine_waits_for_what_may_come_and_not_for_what_is_never_shown() -> None:
    waiting = Waiting()
    waiting.want("vm", ["folder", "network"], 10.0)
    assert waiting.worth_waiting("vm", ["folder"], 11.0, 3.0)
    assert not waiting.worth_waiting("vm", ["folder"], 14.0, 3.0)

    assert waiting.arrived("folder") == {"vm"}
    waiting.complete()

    assert not waiting.worth_waiting("other", ["network"], 11.0, 3.0)
    assert waiting.worth_waiting("other", ["folder"], 11.0, 3.0)
    assert waiting.arrived("network") == {"vm"}


def test_lags_of_the_last_thousand_changes() -> None:
    lags = Lags()
    for milliseconds in range(2000):
        lags.add("vc", 10, milliseconds)
    lags.add("vc", 10, -5.0)

    assert lags.quantile("vc", 10, 0.5) == 1500
    assert lags.quantile("vc", 11, 0.5) == 0


class Waits(threading.Event):
    """Waits for nobody; notes for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.delays.append(timeout or 0.0)
        return self.is_set()


def retrying(waits: Waits, unwanted: Callable[[], bool] = lambda: False) -> RetryPolicy:
    return RetryPolicy("vc", waits, unwanted, lambda: Backoff(0.2, 2.0, 5.0, lambda _, most: most))


def failing(*errors: Exception) -> Callable[[], str]:
    answers = iter(errors)

    def work() -> str:
        for error in answers:
            raise error
        return "done"

    return work


def test_database_that_is_away_is_waited_for_longer_and_longer() -> None:
    waits = Waits()

    done = retrying(waits).run(failing(*[DatabaseUnavailableError("away")] * 7))

    assert done == "done"
    assert waits.delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


@pytest.mark.parametrize(
    "error", [StatementRejectedError("Unknown column"), RowRejectedError("too long")]
)
def test_error_that_will_come_again_is_not_repeated(error: StoreError) -> None:
    waits = Waits()

    with pytest.raises(type(error), match=str(error)):
        retrying(waits).run(failing(error))

    assert waits.delays == []


def test_work_that_nobody_wants_is_abandoned() -> None:
    waits = Waits()
    with pytest.raises(AbandonedError):
        retrying(waits, lambda: True).run(failing(DatabaseUnavailableError("away")))
    waits.set()
    with pytest.raises(AbandonedError):
        retrying(waits).run(failing(DatabaseUnavailableError("away")))
