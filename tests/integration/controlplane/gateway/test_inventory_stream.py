"""The inventory stream: whose it is taken from, and what may come on it."""

import datetime
import functools
from collections.abc import Callable

import grpc
import pytest

from controlplane.domain.errors import FlowControlError
from controlplane.gateway.streams import inventory_stream
from controlplane.store.own import leases
from tests.support.dialled_edge import VCENTER, Call, DialledEdge
from tests.support.gateway_parties import RecordedFeed
from tests.support.running_gateway import INTERVAL, RunningGateway
from vsphere_gateway.v1 import link_pb2

Dial = Callable[..., DialledEdge]


def leaseholder(edge: DialledEdge) -> Call:
    """Connect until the lease is held."""
    call = edge.connect()
    assert call.receive().lease.held
    return call


def batch(
    sequence: int, lane: "link_pb2.Lane" = link_pb2.LANE_CHANGES
) -> link_pb2.InventoryRequest:
    return link_pb2.InventoryRequest(batch=link_pb2.ObjectBatch(lane=lane, sequence=sequence))


def opened(edge: DialledEdge) -> Call:
    """Open the inventory and take the holdings."""
    call = edge.inventory()
    call.send(edge.opened())
    assert call.receive().holdings.object_count == 7
    return call


def test_holdings_come_first_and_batches_are_acknowledged(
    dial: Dial, gateway: RunningGateway
) -> None:
    edge = dial()
    leaseholder(edge)
    call = opened(edge)
    call.send(batch(4))
    call.send(batch(5))
    call.send(batch(1, link_pb2.LANE_SNAPSHOT))
    acks = [call.receive().ack for _ in range(3)]
    assert [(ack.lane, ack.sequence, ack.epoch) for ack in acks] == [
        (link_pb2.LANE_CHANGES, 4, 1),
        (link_pb2.LANE_CHANGES, 5, 1),
        (link_pb2.LANE_SNAPSHOT, 1, 1),
    ]
    call.close()
    assert call.end()[0] is grpc.StatusCode.OK
    gateway.pipeline.record.wait_for(lambda call: call == ("close",))


@pytest.mark.parametrize(
    ("requests", "problem"),
    [
        ([batch(1), batch(3)], "batch 3 in LANE_CHANGES, expected 2"),
        ([batch(2), batch(2)], "expected 3"),
        ([batch(0)], "batch 0"),
        ([batch(1, link_pb2.LANE_UNSPECIFIED)], "lane 0"),
        ([link_pb2.InventoryRequest(open=link_pb2.InventoryOpen())], "second open"),
        ([link_pb2.InventoryRequest()], "does not know"),
        (
            [link_pb2.InventoryRequest(bucket_query=link_pb2.BucketQuery(buckets=[256]))],
            "bucket number",
        ),
        (
            [link_pb2.InventoryRequest(snapshot_end=link_pb2.SnapshotEnd(bucket_digests=b"x"))],
            "2048 bytes",
        ),
    ],
)
def test_a_message_that_breaks_the_protocol_ends_the_stream_and_not_the_link(
    dial: Dial, gateway: RunningGateway, requests: list[link_pb2.InventoryRequest], problem: str
) -> None:
    edge = dial()
    leaseholder(edge)
    call = opened(edge)
    for request in requests:
        call.send(request)
    code, details = call.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in details
    gateway.pipeline.record.wait_for(lambda call: call == ("close",))
    assert gateway.registry.online(VCENTER)
    opened(edge)


def test_a_batch_before_open_is_refused(dial: Dial) -> None:
    edge = dial()
    leaseholder(edge)
    call = edge.inventory()
    call.send(batch(1))
    code, details = call.end()
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the first message on an inventory stream must be open",
    )


def test_an_edge_that_stands_by_is_told_whom_it_waits_for(
    dial: Dial, gateway: RunningGateway
) -> None:
    leaseholder(dial("site-1"))
    second = dial("site-2")
    assert not second.connect().receive().lease.held
    call = second.inventory()
    call.send(second.opened())
    code, details = call.end()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "edge site-1 holds the lease" in details
    assert gateway.pipeline.record.calls == []


def test_inventory_needs_a_control_stream_of_the_same_process(dial: Dial) -> None:
    leaseholder(dial(epoch=2))
    older = dial(epoch=1)
    call = older.inventory()
    call.send(older.opened())
    code, details = call.end()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "no control stream" in details


def test_inventory_of_another_vcenter_than_the_hellos_is_refused(dial: Dial) -> None:
    edge = dial()
    leaseholder(edge)
    call = edge.inventory()
    call.send(edge.opened("99999999-0000-0000-0000-000000000000"))
    assert call.end()[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_losing_the_lease_ends_the_inventory(dial: Dial, gateway: RunningGateway) -> None:
    edge = dial()
    control = leaseholder(edge)
    call = opened(edge)
    # As another control plane would, once this edge has been silent for too long.
    later = datetime.datetime.fromtimestamp(gateway.hands.now + 1000, datetime.UTC)
    taken = functools.partial(
        leases.acquire,
        resource=f"vcenter:{VCENTER}",
        holder="site-9",
        now=later.replace(tzinfo=None),
        duration=datetime.timedelta(seconds=1000),
    )
    gateway.database.run(taken)
    gateway.hands.turn(INTERVAL)
    gateway.registry.check()
    lease = control.receive().lease
    assert (lease.held, lease.holder) == (False, "site-9")
    code, details = call.end()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "edge site-9 holds the lease" in details
    assert not gateway.registry.online(VCENTER)


def test_the_end_of_control_ends_the_inventory(dial: Dial, gateway: RunningGateway) -> None:
    edge = dial()
    control = leaseholder(edge)
    call = opened(edge)
    control.close()
    assert call.end()[0] is grpc.StatusCode.UNAVAILABLE
    gateway.pipeline.record.wait_for(lambda call: call == ("close",))


def test_a_newer_inventory_stream_takes_the_place_of_an_older_one(dial: Dial) -> None:
    edge = dial()
    leaseholder(edge)
    old = opened(edge)
    new = opened(edge)
    assert old.end()[0] is grpc.StatusCode.ABORTED
    new.send(batch(1))
    assert new.receive().ack.sequence == 1


def test_an_edge_that_exceeds_its_window_is_refused(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FlowControlError("5 snapshot batches under way, the window is 4")

    monkeypatch.setattr(RecordedFeed, "receive", full)
    edge = dial()
    leaseholder(edge)
    call = opened(edge)
    call.send(batch(1))
    assert call.end() == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "5 snapshot batches under way, the window is 4",
    )


def test_an_edge_that_does_not_read_loses_its_stream_and_no_memory(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_stream, "QUEUE_LIMIT", 8)
    flood = link_pb2.InventoryResponse(
        bucket_contents=link_pb2.BucketContents(
            objects=[link_pb2.HeldObject(content_hash=b"x" * 1000) for _ in range(1000)]
        )
    )

    def answer(feed: RecordedFeed, request: link_pb2.InventoryRequest) -> None:
        for _ in range(100):
            feed._sink.send(flood)

    monkeypatch.setattr(RecordedFeed, "receive", answer)
    edge = dial()
    leaseholder(edge)
    call = opened(edge)
    call.send(batch(1))
    assert call.end()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
