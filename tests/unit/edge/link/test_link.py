"""The link's parts that need no connection: delays, heartbeats, the choice of a proxy, errors."""

from typing import NoReturn, cast

import grpc
import pytest

from common.backoff import Backoff
from edge.config import ControlPlaneSettings
from edge.control_messages import ControlMessages
from edge.errors import (
    BundleError,
    ConnectedAlreadyError,
    ControlPlaneUnreachableError,
    EdgeRefusedError,
    LinkLostError,
)
from edge.health import Health
from edge.link.faults import translate
from edge.link.heartbeats import Heartbeats
from edge.link.link import Dialer, EdgeFacts, Link
from edge.link.proxy import Proxy, choose_proxy
from edge.operations.executor import OperationExecutor
from edge.sync.inventory import Inventory
from edge.sync.on_demand_read import OnDemandReads
from edge.sync.outbox import OutboxLimits
from tests.support.scripted_operations import ScriptedOperations
from tests.support.vcenter_truth import VCenterTruth
from vsphere_gateway.v1 import link_pb2, operations_pb2

FOLLOW = ControlPlaneSettings("environment")


def bounds(backoff: Backoff, count: int) -> list[float]:
    return [round(backoff.next_delay(), 3) for _ in range(count)]


def test_delays_grow_by_1_6_up_to_60_seconds() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert bounds(backoff, 4) == [1.0, 1.6, 2.56, 4.096]
    assert bounds(backoff, 8)[-1] == 60.0


def test_jitter_is_full() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    bounds(Backoff(uniform=uniform), 3)
    assert drawn == [(0.0, 1.0), (0.0, 1.6), (0.0, 1.6 * 1.6)]


def test_reset_begins_anew() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    bounds(backoff, 5)
    backoff.reset()
    assert bounds(backoff, 1) == [1.0]


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def echo(heartbeat: link_pb2.Heartbeat, ahead: float = 0.0) -> link_pb2.HeartbeatEcho:
    answer = link_pb2.HeartbeatEcho(sequence=heartbeat.sequence, sent_at=heartbeat.sent_at)
    answer.received_at.FromNanoseconds(heartbeat.sent_at.ToNanoseconds() + int(ahead * 1e9))
    return answer


def test_round_trip_is_not_taken_for_a_difference_of_the_clocks() -> None:
    hands = Hands()
    heartbeats = Heartbeats(25.0, hands, hands)
    first = heartbeats.stamp(link_pb2.Heartbeat())
    hands.now += 8
    heartbeats.echoed(echo(first, ahead=90 + 4))
    operation = operations_pb2.Operation()
    operation.deadline.FromSeconds(2000)
    assert heartbeats.by_own_clock(operation).deadline.ToSeconds() == 2000 - 90
    assert heartbeats.stamp(link_pb2.Heartbeat()).sequence == first.sequence + 1


def test_three_intervals_without_an_echo_are_silence() -> None:
    hands = Hands()
    heartbeats = Heartbeats(25.0, hands, hands)
    hands.now += 74
    assert not heartbeats.is_silent()
    heartbeats.echoed(echo(heartbeats.stamp(link_pb2.Heartbeat())))
    hands.now += 74
    assert not heartbeats.is_silent()
    hands.now += 2
    assert heartbeats.is_silent()


def test_wrong_clock_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands()
    heartbeats = Heartbeats(25.0, hands, hands)
    for _ in range(3):
        heartbeats.echoed(echo(heartbeats.stamp(link_pb2.Heartbeat()), ahead=90.0))
    assert len(caplog.records) == 1
    assert caplog.records[0].fields == {"skew_seconds": 90.0}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"https_proxy": "http://p:3128"}, Proxy("p", 3128)),
        ({"HTTPS_PROXY": "http://p:3128"}, Proxy("p", 3128)),
        ({"https_proxy": "p:3128"}, Proxy("p", 3128)),
        ({"grpc_proxy": "http://g:1", "https_proxy": "http://p:2"}, Proxy("g", 1)),
        ({"https_proxy": "http://u%40x:p%3Aw@p:3128"}, Proxy("p", 3128, "u@x", "p:w")),
        ({"https_proxy": "http://p:1", "no_proxy": "gw.example.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": ".example.com"}, None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "a, *.example.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "EXAMPLE.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "w.example.com, ,10.0.0.0/8"}, Proxy("p", 1)),
    ],
)
def test_proxy_of_the_environment(environment: dict[str, str], expected: Proxy | None) -> None:
    assert choose_proxy(FOLLOW, "gw.example.com", environment) == expected


def test_no_proxy_by_network() -> None:
    environment = {"https_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}
    assert choose_proxy(FOLLOW, "10.1.2.3", environment) is None
    assert choose_proxy(FOLLOW, "11.1.2.3", environment) == Proxy("p", 1)


def test_password_of_a_proxy_is_escaped_for_grpc_and_in_no_text() -> None:
    proxy = Proxy("p", 3128, "me@x", "a:b/c")
    assert proxy.url == "http://me%40x:a%3Ab%2Fc@p:3128"
    assert "a:b/c" not in f"{proxy} {proxy!r}"


class Broken(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "because"


@pytest.mark.parametrize(
    ("code", "opened", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, False, ControlPlaneUnreachableError),
        (grpc.StatusCode.UNAVAILABLE, True, LinkLostError),
        (grpc.StatusCode.ABORTED, True, LinkLostError),
        (grpc.StatusCode.UNAUTHENTICATED, False, EdgeRefusedError),
        (grpc.StatusCode.PERMISSION_DENIED, True, EdgeRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, False, EdgeRefusedError),
        (grpc.StatusCode.ALREADY_EXISTS, False, ConnectedAlreadyError),
    ],
)
def test_errors_by_status(code: grpc.StatusCode, opened: bool, kind: type[Exception]) -> None:
    error = translate(Broken(code), opened)
    assert type(error) is kind
    assert "because" in str(error)


class NowhereDialer:
    """Finds no bundle, after a link of so many seconds."""

    def __init__(self, hands: Hands, seconds: float) -> None:
        self.hands = hands
        self.seconds = seconds

    def look_up(self) -> NoReturn:
        self.hands.now += self.seconds
        raise BundleError("no bundle")


@pytest.mark.parametrize(("lived", "next_bound"), [(59.0, 1.6), (60.0, 1.0)])
def test_link_that_lived_long_begins_its_delays_anew(lived: float, next_bound: float) -> None:
    hands = Hands()
    inventory, messages = Inventory(OutboxLimits()), ControlMessages()
    health = Health(inventory)
    backoff = Backoff(uniform=lambda low, high: high)
    backoff.next_delay()
    link = Link(
        cast(Dialer, NowhereDialer(hands, lived)),
        EdgeFacts("0", 1, ()),
        inventory,
        OutboxLimits(),
        OperationExecutor(ScriptedOperations(), inventory, messages, health.threads),
        messages,
        OnDemandReads(VCenterTruth),
        health,
        backoff,
        monotonic=hands,
    )
    link._dial()
    assert backoff.next_delay() == next_bound
