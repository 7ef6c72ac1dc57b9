"""A peer that is refused again and again fills neither the log nor the memory."""

import logging

import grpc
import pytest

from controlplane.gateway import refusals
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import StreamEnd

REPLACED = StreamEnd(grpc.StatusCode.ABORTED, "replaced")


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
