"""The control stream over real mutual TLS: who is let in, and what is said on it."""

import datetime
import logging
from collections.abc import Callable

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certs.files import certificate_pem, key_pem
from certs.identity import Role
from controlplane.store.errors import DatabaseUnavailableError
from tests.support.customer import Customer
from tests.support.dialled_edge import VCENTER, DialledEdge, heartbeat
from tests.support.running_gateway import RunningGateway
from vsphere_gateway.v1 import link_pb2, operations_pb2

Dial = Callable[..., DialledEdge]
Customers = Callable[[str], Customer]


def self_signed(ca_pem: bytes) -> grpc.ChannelCredentials:
    """Return the credentials of one who made a certificate for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site-1")])
    uri = x509.UniformResourceIdentifier("spiffe://acme/edge/site-1")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return grpc.ssl_channel_credentials(ca_pem, key_pem(key), certificate_pem(certificate))


@pytest.mark.parametrize("kind", ["another customer's", "self-signed", "none"])
def test_a_certificate_that_the_customer_did_not_issue_is_refused_in_the_handshake(
    gateway: RunningGateway, customers: Customers, kind: str
) -> None:
    ca_pem = customers("acme").authority.certificate_pem
    other = customers("other").edge("site-1")
    credentials = {
        "another customer's": grpc.ssl_channel_credentials(
            ca_pem, other.key_pem, other.certificate_pem
        ),
        "self-signed": self_signed(ca_pem),
        "none": grpc.ssl_channel_credentials(ca_pem),
    }[kind]
    edge = DialledEdge(gateway.port, credentials, "site-1")
    call = edge.control()
    call.send(edge.hello())
    assert call.end()[0] is grpc.StatusCode.UNAVAILABLE
    assert gateway.registry.known() == []
    edge.hang_up()


def test_an_operators_certificate_does_not_make_an_edge(
    gateway: RunningGateway, customers: Customers, caplog: pytest.LogCaptureFixture
) -> None:
    operator = customers("acme").material(Role.OPERATOR)
    edge = DialledEdge(gateway.port, operator.channel_credentials(), "ann")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            code, details = edge.control().end()
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "operator 'ann'" in details
    assert gateway.refusals.count("operator:ann") == 3
    assert sum("call refused" in message for message in caplog.messages) == 1
    edge.hang_up()


def test_welcome_comes_first_and_tells_version_and_interval(dial: Dial) -> None:
    edge = dial()
    call = edge.control()
    call.send(edge.hello(protocol_minimum=1, protocol_maximum=9))
    welcome = call.receive().welcome
    assert welcome.protocol_version == 1
    assert welcome.heartbeat_interval_ms == 25_000
    assert welcome.session_id
    lease = call.receive().lease
    assert (lease.held, lease.holder) == (True, "site-1")


@pytest.mark.parametrize(
    ("fields", "code", "problem"),
    [
        ({"edge_name": "site-2"}, grpc.StatusCode.PERMISSION_DENIED, "'site-2'"),
        (
            {"protocol_minimum": 2, "protocol_maximum": 3},
            grpc.StatusCode.FAILED_PRECONDITION,
            "speaks protocol versions 2 to 3, this control plane 1 to 1",
        ),
        ({"epoch": 0}, grpc.StatusCode.INVALID_ARGUMENT, "epoch"),
    ],
)
def test_a_wrong_hello_is_refused_with_its_reason(
    dial: Dial,
    gateway: RunningGateway,
    fields: dict[str, object],
    code: grpc.StatusCode,
    problem: str,
) -> None:
    edge = dial()
    call = edge.control()
    call.send(edge.hello(**fields))
    ended, details = call.end()
    assert ended is code
    assert problem in details
    assert gateway.registry.sessions.list_all() == []


def test_whoever_says_nothing_is_let_go(dial: Dial) -> None:
    assert dial().control().end() == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "no hello within 1 s",
    )


def test_a_heartbeat_before_hello_is_refused(dial: Dial) -> None:
    call = dial().control()
    call.send(heartbeat(1))
    code, details = call.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "must be a hello" in details


def test_heartbeats_are_echoed(dial: Dial, gateway: RunningGateway) -> None:
    call = dial().connect("")
    sent = heartbeat(1, outbox_objects=5)
    sent.heartbeat.sent_at.FromSeconds(12)
    call.send(sent)
    echo = call.receive().heartbeat_echo
    assert (echo.sequence, echo.sent_at.seconds) == (1, 12)
    assert echo.received_at.seconds == int(gateway.hands.now)
    session = gateway.registry.sessions.get("site-1")
    assert session is not None
    assert session.heartbeat.outbox_objects == 5


def test_an_oversized_message_ends_its_call_and_no_other(dial: Dial) -> None:
    other = dial("site-2").connect("")
    call = dial("site-1").connect("")
    call.send(heartbeat(1, vcenter_message="x" * (4 * 1024 * 1024)))
    assert call.end()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    other.send(heartbeat(1))
    assert other.receive().HasField("heartbeat_echo")


def test_a_message_from_the_future_is_refused(dial: Dial) -> None:
    call = dial().connect("")
    call.send(link_pb2.ControlRequest.FromString(b"\xaa\x06\x00"))  # field 101
    code, details = call.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not know" in details


def test_a_new_stream_takes_the_place_of_a_half_open_one(
    dial: Dial, gateway: RunningGateway
) -> None:
    edge = dial(epoch=5)
    old = edge.connect()
    new = edge.connect()
    code, details = old.end()
    assert code is grpc.StatusCode.ABORTED
    assert "replaced" in details
    assert new.receive().lease.held
    assert len(gateway.registry.sessions.list_all()) == 1
    assert gateway.registry.online(VCENTER)


def test_a_machine_copied_from_an_edge_cannot_push_the_later_one_out(dial: Dial) -> None:
    later = dial(epoch=5).connect("")
    edge = dial(epoch=4)
    call = edge.control()
    call.send(edge.hello())
    code, details = call.end()
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "two machines use one bundle" in details
    later.send(heartbeat(1))
    assert later.receive().HasField("heartbeat_echo")


def test_an_edge_that_closes_its_half_ends_well(dial: Dial, gateway: RunningGateway) -> None:
    call = dial().connect("")
    call.close()
    assert call.end()[0] is grpc.StatusCode.OK
    assert gateway.registry.sessions.wait_until_empty(5)


def test_an_operation_goes_down_and_its_result_is_acknowledged_once_stored(
    dial: Dial, gateway: RunningGateway
) -> None:
    call = dial().connect()
    lease = call.receive().lease
    operation = operations_pb2.Operation(
        operation_id="o-1", power_on=operations_pb2.PowerOn(), request_id="req-1"
    )
    assert gateway.registry.send(VCENTER, operation) == "site-1"
    received = call.receive().operation
    assert received.operation_id == "o-1"
    assert received.fencing_epoch == lease.fencing_epoch
    for report in (
        link_pb2.ControlRequest(
            operation_accepted=operations_pb2.OperationAccepted(operation_id="o-1")
        ),
        link_pb2.ControlRequest(
            operation_progress=operations_pb2.OperationProgress(operation_id="o-1", percent=50)
        ),
        link_pb2.ControlRequest(
            operation_result=operations_pb2.OperationResult(operation_id="o-1")
        ),
    ):
        call.send(report)
    assert call.receive().operation_result_ack.operation_id == "o-1"
    stored = [call for call in gateway.operations.record.calls if call[0] != "completed"]
    assert stored == [
        ("edge_connected", "site-1", VCENTER, []),
        ("accepted", "site-1", "o-1"),
        ("progress", "site-1", "o-1", 50),
        ("store", "site-1", "o-1"),
    ]
    gateway.registry.cancel(VCENTER, "o-1", "nobody waits")
    assert call.receive().cancel_operation.operation_id == "o-1"


def test_a_result_that_cannot_be_stored_is_not_acknowledged_and_delays_nothing(
    dial: Dial, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.gateway.streams.control_stream.RETRY_SECONDS", 0.05)
    call = dial().connect()
    assert call.receive().lease.held
    gateway.operations.fail_with = DatabaseUnavailableError("gone")
    result = operations_pb2.OperationResult(operation_id="o-1")
    call.send(link_pb2.ControlRequest(operation_result=result))
    gateway.operations.record.wait_for(lambda call: call[0] == "store")
    other = operations_pb2.OperationResult(operation_id="o-2")
    call.send(link_pb2.ControlRequest(operation_result=other))
    gateway.operations.record.wait_for(lambda call: call == ("completed", "o-2"))
    call.send(heartbeat(1))
    assert call.receive().HasField("heartbeat_echo")
    gateway.operations.fail_with = None
    assert call.receive().operation_result_ack.operation_id == "o-1"


def test_what_was_unsettled_at_the_edge_is_told_before_anything_else(
    dial: Dial, gateway: RunningGateway
) -> None:
    unsettled = [operations_pb2.OperationProgress(operation_id="o-9")]
    dial().connect(unsettled_operations=unsettled)
    gateway.edges.record.wait_for(lambda call: call == ("edge_online", VCENTER, "site-1"))
    assert gateway.operations.record.calls == [("edge_connected", "site-1", VCENTER, ["o-9"])]


def test_drain_tells_edges_to_finish_and_lets_no_new_one_in(
    dial: Dial, gateway: RunningGateway
) -> None:
    call = dial().connect("")
    late = dial("site-2")
    gateway.registry.drain("an upgrade", 5.0)
    drain = call.receive().drain
    assert (drain.reason, drain.deadline_ms) == ("an upgrade", 5000)
    refused = late.control()
    refused.send(late.hello())
    assert refused.end() == (grpc.StatusCode.UNAVAILABLE, "an upgrade")
    call.close()
    gateway.gateway.drain("an upgrade")
    assert gateway.registry.sessions.list_all() == []
