"""What nobody expected is seen from the control plane, told once, and ends no thread."""

import logging
from collections.abc import Callable

import pytest

from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCenterTruth
from tests.support.waiting import eventually_true


class Bug:
    """Stands in the place of a method and raises until it is mended."""

    def __init__(self, method: Callable[..., object]) -> None:
        self.mended = False
        self.met = 0
        self._method = method

    def __call__(self, *arguments: object) -> object:
        if self.mended:
            return self._method(*arguments)
        self.met += 1
        raise ZeroDivisionError("a bug")


def failing(control_plane: ControlPlaneEnd) -> list[str]:
    return [
        thread
        for session in control_plane.registry.sessions.list_all()
        for thread in session.heartbeat.failing_threads
    ]


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.exc_info]


@pytest.mark.parametrize("method", ["next_request", "received"])
def test_inventory_that_fails_turns_health_red_and_leaves_the_link_open(
    control_plane: ControlPlaneEnd,
    make_edge: Callable[..., EdgeEnd],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    edge = make_edge(control_plane.port, VCenterTruth({"vm-1": "a"}))
    bug = Bug(getattr(edge.inventory, method))
    monkeypatch.setattr(edge.inventory, method, bug)
    edge.read_vcenter()
    edge.start()
    red = ["thread inventory-call is down: ZeroDivisionError: a bug"]
    eventually_true(lambda: failing(control_plane) == red and bug.met > 1)
    (session,) = control_plane.registry.sessions.list_all()
    bug.mended = True
    control_plane.pipeline.wait(lambda: control_plane.pipeline.receiver.parities)
    eventually_true(lambda: not failing(control_plane))
    assert control_plane.registry.sessions.list_all() == [session], "the link was dialled again"
    assert len(tracebacks(caplog)) == 1


def test_on_demand_read_that_fails_is_seen_and_the_next_one_is_answered(
    control_plane: ControlPlaneEnd,
    make_edge: Callable[..., EdgeEnd],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = make_edge(control_plane.port, VCenterTruth({"vm-1": "a"}))
    bug = Bug(edge.truth.read_once)
    monkeypatch.setattr(edge.truth, "read_once", bug)
    edge.read_vcenter()
    edge.start()
    control_plane.pipeline.wait(lambda: control_plane.pipeline.receiver.parities)
    (session,) = control_plane.registry.sessions.list_all()
    with pytest.raises(Exception, match=r"site-1: unexpected error in the edge.*a bug"):
        list(control_plane.on_demand_reads.read(session.vcenter_uuid))
    eventually_true(
        lambda: (
            failing(control_plane) == ["thread on-demand-read is down: ZeroDivisionError: a bug"]
        )
    )
    bug.mended = True
    assert list(control_plane.on_demand_reads.read(session.vcenter_uuid))
    eventually_true(lambda: not failing(control_plane))
    assert len(tracebacks(caplog)) == 1


def test_message_that_cannot_be_handled_ends_the_call_and_the_edge_dials_again(
    control_plane: ControlPlaneEnd,
    make_edge: Callable[..., EdgeEnd],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = make_edge(control_plane.port, VCenterTruth({"vm-1": "a"}))
    bug = Bug(edge.executor.lease_changed)
    monkeypatch.setattr(edge.executor, "lease_changed", bug)
    edge.read_vcenter()
    edge.start()
    eventually_true(lambda: edge.health.threads.failures().get("link", 0) > 1)
    bug.mended = True
    control_plane.pipeline.wait(lambda: control_plane.pipeline.receiver.parities)
    assert edge.health.failing_threads() == []
    assert len(tracebacks(caplog)) == 1
