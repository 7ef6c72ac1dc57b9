"""What waits to be sent on a stream, and how a stream ends."""

import threading

import grpc

from controlplane.gateway.status import FINISHED, StreamEnd
from controlplane.gateway.streams.stream import Outgoing

MISSING = StreamEnd(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing came")
REPLACED = StreamEnd(grpc.StatusCode.ABORTED, "replaced")


def test_what_is_queued_before_a_good_end_is_still_sent() -> None:
    outgoing: Outgoing[int] = Outgoing(10)
    assert outgoing.put(1)
    assert outgoing.put(2)
    outgoing.end()
    assert not outgoing.put(3)
    assert list(outgoing.messages(1.0, MISSING)) == [1, 2]
    assert outgoing.ended is FINISHED


def test_a_bad_end_drops_what_is_queued() -> None:
    outgoing: Outgoing[int] = Outgoing(10)
    outgoing.put(1)
    outgoing.end(REPLACED)
    assert list(outgoing.messages(1.0, MISSING)) == []
    assert outgoing.ended is REPLACED


def test_the_first_end_counts() -> None:
    outgoing: Outgoing[int] = Outgoing(10)
    outgoing.end(REPLACED)
    outgoing.end(FINISHED)
    assert outgoing.ended is REPLACED


def test_a_stream_on_which_nothing_happens_ends() -> None:
    outgoing: Outgoing[int] = Outgoing(10)
    assert list(outgoing.messages(0.01, MISSING)) == []
    assert outgoing.ended is MISSING


def test_a_peer_that_does_not_read_ends_its_stream() -> None:
    outgoing: Outgoing[int] = Outgoing(2)
    assert outgoing.put(1)
    assert outgoing.put(2)
    assert not outgoing.put(3)
    assert outgoing.ended is not None
    assert outgoing.ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_whoever_waits_for_messages_is_woken_by_the_end() -> None:
    outgoing: Outgoing[int] = Outgoing(10)
    received: list[int] = []
    consumer = threading.Thread(target=lambda: received.extend(outgoing.messages(10.0, MISSING)))
    consumer.start()
    outgoing.put(1)
    outgoing.end()
    consumer.join(5.0)
    assert not consumer.is_alive()
    assert received == [1]
