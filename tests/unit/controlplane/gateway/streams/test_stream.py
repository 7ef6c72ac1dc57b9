"""What waits to be sent on a stream, refusals, and what people read of durations and sizes."""

import doctest
import logging
import threading

import grpc
import pytest

from certs.errors import IdentityError
from controlplane.commands import text
from controlplane.domain.errors import EdgeOfflineError, FlowControlError, InvalidMessageError
from controlplane.gateway import refusals
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import FINISHED, RefusedError, StreamEnd, end_of
from controlplane.gateway.streams.stream import Outgoing
from controlplane.store.errors import DatabaseUnavailableError

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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IdentityError("x"), grpc.StatusCode.UNAUTHENTICATED),
        (InvalidMessageError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (FlowControlError("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (EdgeOfflineError("x"), grpc.StatusCode.UNAVAILABLE),
        (DatabaseUnavailableError("x"), grpc.StatusCode.UNAVAILABLE),
        (RefusedError(grpc.StatusCode.PERMISSION_DENIED, "x"), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_errors_have_their_status(error: Exception, code: grpc.StatusCode) -> None:
    assert end_of(error).code is code


def test_what_is_not_foreseen_tells_the_peer_nothing() -> None:
    end = end_of(KeyError("password"))
    assert end.code is grpc.StatusCode.INTERNAL
    assert "password" not in end.details


def test_a_refusal_is_logged_once_until_the_peer_was_let_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted = Refusals()
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            counted.refused("edge:site-1", "Control", REPLACED)
        counted.refused("edge:site-2", "Control", REPLACED)
        assert counted.count("edge:site-1") == 5
        counted.accepted("edge:site-1")
        assert counted.count("edge:site-1") == 0
        counted.refused("edge:site-1", "Control", REPLACED)
    assert [message.split()[0:2] for message in caplog.messages] == [
        ["call", "refused"],
        ["call", "refused"],
        ["calls", "were"],
        ["call", "refused"],
    ]


def test_refusals_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REMEMBERED", 3)
    counted = Refusals()
    for number in range(10):
        counted.refused(f"peer-{number}", "Control", REPLACED)
    assert [counted.count(f"peer-{number}") for number in (0, 6, 7, 9)] == [0, 0, 1, 1]


def test_durations_and_sizes_read_well() -> None:
    assert doctest.testmod(text).failed == 0
