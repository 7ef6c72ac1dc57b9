"""The control stream over the link: welcome, operations, drain, and who is refused."""

import datetime
import logging
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certs.bundle import CERTIFICATE_FILE, KEY_FILE, EdgeBundle
from certs.credentials import TlsMaterial
from edge.errors import (
    BundleError,
    ControlPlaneNotTrustedError,
    ControlPlaneUnreachableError,
    EdgeRefusedError,
)
from edge.link.diagnosis import diagnose
from edge.link.identity import Identity, load_identity
from tests.support.cable import Cable
from tests.support.customer import Customer
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import operations_pb2

MakeEdge = Callable[..., EdgeEnd]


def now() -> datetime.datetime:
    """The machine's clock, read when a test runs: certificates are made then."""
    return datetime.datetime.now(datetime.UTC)


def test_edge_without_vcenter_is_online_and_says_hello_again_when_it_is_found(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, VCenterTruth({"vm-1": "one"})).start()
    eventually_true(lambda: control_plane.registry.sessions.get("site-1"))
    assert not control_plane.registry.sessions.list_all()[0].vcenter_uuid
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert control_plane.registry.sessions.list_all()[0].vcenter_uuid == VCENTER.instance_uuid


def test_result_that_was_not_acknowledged_is_told_again(
    start_control_plane: Callable[..., ControlPlaneEnd],
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    first = start_control_plane()
    edge = make_edge(first.port, VCenterTruth({"vm-1": "one"})).start()
    edge.read_vcenter()
    first.pipeline.wait(lambda: receiver.parities)
    edge.operations.hold()
    first.registry.send(VCENTER.instance_uuid, power_on("op-1"))
    assert edge.operations.wait_for_start("op-1")
    first.stop()
    edge.operations.release("op-1")
    second = start_control_plane(port=first.port)
    second.operations.record.wait_for(lambda call: call[:3] == ("store", "site-1", "op-1"))
    assert edge.operations.started == ["op-1"]


def test_operation_that_runs_through_a_reconnect_is_named_as_unsettled(
    control_plane: ControlPlaneEnd,
    cable: Cable,
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    edge = make_edge(cable.port, VCenterTruth({"vm-1": "one"})).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    edge.operations.hold()
    control_plane.registry.send(VCENTER.instance_uuid, power_on("op-1"))
    assert edge.operations.wait_for_start("op-1")
    cable.cut()
    control_plane.operations.record.wait_for(
        lambda call: call[0] == "edge_connected" and call[3] == ["op-1"]
    )
    edge.operations.release("op-1")
    control_plane.operations.record.wait_for(lambda call: call[0] == "store")


def test_drained_edge_finishes_its_operation_and_dials_again(
    start_control_plane: Callable[..., ControlPlaneEnd],
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    first = start_control_plane()
    edge = make_edge(first.port, VCenterTruth({"vm-1": "one"})).start()
    edge.read_vcenter()
    first.pipeline.wait(lambda: receiver.parities)
    edge.operations.hold()
    first.registry.send(VCENTER.instance_uuid, power_on("op-1"))
    assert edge.operations.wait_for_start("op-1")
    first.registry.drain("going down for maintenance", 10.0)
    edge.operations.release("op-1")
    assert first.registry.sessions.wait_until_empty(10.0)
    assert first.operations.record.named("store")
    first.stop()
    second = start_control_plane(port=first.port)
    second.pipeline.wait(lambda: second.pipeline.opened)


def test_link_closes_in_order_while_nothing_answers(tmp_path: Path, acme: Customer) -> None:
    edge = EdgeEnd(acme.bundle("site-1", 1), VCenterTruth()).start()
    edge.stop()


def test_silent_port_does_not_hold_up_the_end(acme: Customer) -> None:
    """Something accepts the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        edge = EdgeEnd(acme.bundle("site-1", silent.getsockname()[1]), VCenterTruth()).start()
        connection, _ = silent.accept()
        started = time.monotonic()
        edge.stop()
        assert time.monotonic() - started < 3
        connection.close()


def test_control_plane_of_another_customer_is_not_trusted(
    control_plane: ControlPlaneEnd, customer: Callable[[str], Customer]
) -> None:
    error = diagnosed(customer("globex").bundle("site-9", control_plane.port))
    assert isinstance(error, ControlPlaneNotTrustedError)
    assert "acme" in str(error)
    assert "globex" in str(error)
    assert "inspects TLS" in str(error)


def test_name_that_is_not_in_the_certificate_is_not_trusted(
    control_plane: ControlPlaneEnd, acme: Customer
) -> None:
    error = diagnosed(acme.bundle("site-1", control_plane.port, "other.example.com"))
    assert isinstance(error, ControlPlaneNotTrustedError)
    assert "other.example.com" in str(error)


def test_certificate_of_another_customer_is_refused(
    control_plane: ControlPlaneEnd, acme: Customer, customer: Callable[[str], Customer]
) -> None:
    """A bundle that mixes customers is refused when it is loaded; here it is made to dial."""
    directory = acme.bundle("site-1", control_plane.port)
    identity = load_identity(directory, now())
    stranger = customer("globex").bundle("site-1", control_plane.port)
    for file in (CERTIFICATE_FILE, KEY_FILE):
        shutil.copy(stranger / file, directory / file)
    with pytest.raises(BundleError, match="was not issued by"):
        load_identity(directory, now())
    material = TlsMaterial(
        identity.material.ca_pem,
        (directory / CERTIFICATE_FILE).read_bytes(),
        (directory / KEY_FILE).read_bytes(),
        identity.material.identity,
    )
    error = diagnose(Identity(identity.bundle, material), None)
    assert isinstance(error, EdgeRefusedError)


def test_refusal_is_one_line_with_what_to_do_and_no_traceback(
    control_plane: ControlPlaneEnd,
    customer: Callable[[str], Customer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    bundle = customer("globex").bundle("site-9", control_plane.port)
    edge = EdgeEnd(bundle, VCenterTruth()).start()
    eventually_true(lambda: "no link to the control plane" in caplog.messages)
    edge.stop()
    records = [record for record in caplog.records if record.name.startswith("edge")]
    assert len(records) == 1
    assert records[0].exc_info is None


def test_expired_certificate_says_when_and_what_to_do(acme: Customer) -> None:
    directory = acme.bundle("site-1", 1)
    later = now() + datetime.timedelta(days=3650)
    with pytest.raises(BundleError, match=r"expired on .* stamp the edge again"):
        load_identity(directory, later)


def test_clock_before_the_certificate_says_so(acme: Customer) -> None:
    directory = acme.bundle("site-1", 1)
    with pytest.raises(BundleError, match="set the clock"):
        load_identity(directory, now() - datetime.timedelta(days=400))


def test_edge_that_uses_the_name_of_another_is_refused(
    control_plane: ControlPlaneEnd, acme: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    directory = acme.bundle("site-1", control_plane.port)
    EdgeBundle(directory, "acme", "site-1", f"127.0.0.1:{control_plane.port}", "127.0.0.1").write(
        acme.authority.certificate_pem, acme.authority.issue_edge("site-2")
    )
    with pytest.raises(BundleError, match="site-2"):
        load_identity(directory, now())


def test_nothing_listens_is_told_as_that(acme: Customer) -> None:
    error = diagnosed(acme.bundle("site-1", 1))
    assert isinstance(error, ControlPlaneUnreachableError)
    assert "nothing answers at 127.0.0.1:1" in str(error)


def diagnosed(bundle: Path) -> Exception | None:
    return diagnose(load_identity(bundle, now()), None)


def power_on(operation_id: str) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(operation_id=operation_id, idempotency_key=operation_id)
    operation.target.instance_uuid = "11111111-2222-3333-4444-000000000001"
    operation.power_on.SetInParent()
    return operation
