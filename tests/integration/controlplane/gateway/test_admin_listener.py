"""The admin listener as operators use it: by grpcurl with no proto file, and by our commands."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from certs.identity import Role
from common.background import BackgroundThread, ThreadMonitor
from common.timestamps import naive_utc_now
from controlplane.__main__ import main
from controlplane.gateway.admin import health
from controlplane.gateway.admin.admin import ManagementServicer, build_admin_server
from controlplane.gateway.admin.diagnostics import DiagnosticsServicer
from controlplane.gateway.admin.health import Health
from controlplane.gateway.servers import listen
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own import edges, quarantine
from controlplane.store.own.edges import VCenterRow
from tests.support.customer import Customer
from tests.support.dialled_edge import VCENTER, DialledEdge, heartbeat
from tests.support.running_gateway import RunningGateway
from tests.support.waiting import eventually_true
from tools.servers import golang
from tools.servers.state import BIN
from vsphere_gateway.v1 import diagnostics_pb2, inventory_pb2, link_pb2

Dial = Callable[..., DialledEdge]


class FixedDiagnostics:
    """In place of the inventory and the ledger, whose own tests prove what they tell."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self.away = False
        self.differences: list[diagnostics_pb2.Difference] = []
        self.edge = True
        """The vCenter's edge is there to be asked."""
        self.hold = threading.Event()
        """While set, a verification does not end."""
        self.verifying = threading.Event()

    def vcenters(self) -> list[VCenterRow]:
        with self._gateway.database.read() as connection:
            return edges.list_vcenters(connection)

    def clusters(self) -> list[diagnostics_pb2.ClusterStatus]:
        if self.away:
            raise DatabaseUnavailableError("server has gone away")
        return [diagnostics_pb2.ClusterStatus(name="production", state="active", servers=3)]

    def servers(self, cluster: str) -> list[diagnostics_pb2.ServerStatus]:
        servers = [
            diagnostics_pb2.ServerStatus(
                uuid="u-1", name="web 1", status="ACTIVE", memory_mb=2048, addresses=["a", "b"]
            ),
            diagnostics_pb2.ServerStatus(uuid="u-2", name="db-1", status="SHUTOFF"),
        ]
        return servers[:1] if cluster == "production" else servers

    def images(self) -> list[diagnostics_pb2.ImageStatus]:
        return []

    def quarantine(self) -> list[diagnostics_pb2.QuarantineEntry]:
        return [diagnostics_pb2.QuarantineEntry(object="VirtualMachine:vm-1", reason="X")]

    def inventory_counts(self) -> list[diagnostics_pb2.InventoryCount]:
        return [diagnostics_pb2.InventoryCount(kind="virtual_machine", objects=3)]

    def recent(self, limit: int = 0) -> list[diagnostics_pb2.OperationStatus]:
        return [diagnostics_pb2.OperationStatus(operation_id=f"o-{n}") for n in range(limit or 2)]

    def verify(self, wanted: Callable[[], bool]) -> Iterator[diagnostics_pb2.VerifyResponse]:
        self.verifying.set()
        while self.hold.is_set() and wanted():
            time.sleep(0.05)
        make = diagnostics_pb2.VerifyResponse
        for one in self.differences:
            yield make(difference=one)
        yield make(excused=diagnostics_pb2.Excused(object="VirtualMachine:vm-2", reason="busy"))
        summary = diagnostics_pb2.VerifySummary(seconds=1.5)
        summary.compared.add(place="nova-cell", kind="server", count=3)
        if self.edge:
            summary.vcenters.add(uuid="v-1", verified=True, looks=1)
        else:
            summary.vcenters.add(uuid="v-1", reason="edge site-1 is offline")
        yield make(summary=summary)


class Admin:
    """A running admin listener, and the ways to it."""

    def __init__(self, gateway: RunningGateway, customer: Customer, directory: Path) -> None:
        self.source = FixedDiagnostics(gateway)
        self.health = Health()
        self.health.set(health.ACTIVE, True)
        self.health.set(health.EDGE_LINK, True)
        tls = customer.material(Role.CONTROL_PLANE)
        customer.material(Role.OPERATOR)
        diagnostics = DiagnosticsServicer(
            gateway.registry, self.source, self.source, self.source, gateway.hands.clock
        )
        management = ManagementServicer(gateway.database)
        self.server = build_admin_server(
            tls, self.health, diagnostics, management, gateway.refusals
        )
        self.port = listen(self.server, "127.0.0.1", 0, tls.server_credentials())
        self.server.start()
        self.ca = customer.authority.directory / "ca.pem"
        self.certificate = customer.directory / "operator.pem"
        self.key = customer.directory / "operator.key"
        self.config = directory / "controlplane.conf"
        self.write_config(self.port)

    def write_config(self, port: int) -> None:
        self.config.write_text(
            f"[gateway]\nca = {self.ca}\n[admin]\nbind_port = {port}\n"
            f"operator_certificate = {self.certificate}\noperator_key = {self.key}\n"
        )

    def grpcurl(self, *arguments: str, data: str = "") -> str:
        """Run the real grpcurl with the operator's certificate; returns what it prints."""
        golang.ensure(golang.GRPCURL)
        tls = ["-cacert", self.ca, "-cert", self.certificate, "-key", self.key]
        options = [*tls, "-d", data] if data else tls
        command = [BIN / "grpcurl", *options, f"127.0.0.1:{self.port}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, method: str) -> Any:
        return json.loads(self.grpcurl(method))

    def command(self, *arguments: str) -> int:
        return main([*arguments, "--config-file", str(self.config)])


@pytest.fixture
def admin(
    gateway: RunningGateway, customers: Callable[[str], Customer], tmp_path: Path
) -> Iterator[Admin]:
    """The admin listener of a running gateway."""
    admin = Admin(gateway, customers("acme"), tmp_path)
    yield admin
    admin.server.stop(None).wait()


def test_grpcurl_finds_every_service_by_reflection(admin: Admin) -> None:
    assert admin.grpcurl("list").split() == [
        "grpc.channelz.v1.Channelz",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "vsphere_gateway.v1.Diagnostics",
        "vsphere_gateway.v1.Management",
    ]
    assert "rpc ListEdges" in admin.grpcurl("describe", "vsphere_gateway.v1.Diagnostics")


def test_grpcurl_shows_a_connected_edge(admin: Admin, dial: Dial, gateway: RunningGateway) -> None:
    call = dial("site-1", epoch=42).connect()
    assert call.receive().lease.held
    call.send(
        heartbeat(
            1,
            vcenter_state=link_pb2.VCENTER_STATE_CONNECTED,
            outbox_objects=5,
            failing_threads=["thread verification is down: KeyError: 'x'"],
        )
    )
    assert call.receive().HasField("heartbeat_echo")
    gateway.hands.turn(3)
    (edge,) = admin.ask("vsphere_gateway.v1.Diagnostics/ListEdges")["edges"]
    assert edge["name"] == "site-1"
    assert edge["online"] is True
    assert edge["link_age_ms"] == "3000"
    assert edge["epoch"] == "42"
    assert edge["vcenter_uuid"] == VCENTER
    assert edge["vcenter_name"] == "vcsim"
    assert edge["vcenter_state"] == "VCENTER_STATE_CONNECTED"
    assert edge["lease_held"] is True
    assert edge["outbox_objects"] == 5
    assert edge["failing_threads"] == ["thread verification is down: KeyError: 'x'"]
    assert "certificate_not_after" in edge


def test_channelz_shows_the_edges_listener_and_its_sockets(admin: Admin, dial: Dial) -> None:
    dial("site-1").connect("")
    servers = admin.ask("grpc.channelz.v1.Channelz/GetServers")["server"]
    listening = [server for server in servers if "listen_socket" in server]
    assert len(listening) >= 2
    assert any(int(server["data"].get("calls_started", 0)) >= 1 for server in listening)


def test_health_is_overall_what_everything_known_is(admin: Admin) -> None:
    def status(service: str) -> str:
        request = json.dumps({"service": service})
        return str(json.loads(admin.grpcurl("grpc.health.v1.Health/Check", data=request))["status"])

    assert status("") == "SERVING"
    admin.health.set(health.DATABASE, False)
    assert status("") == "NOT_SERVING"
    assert status(health.EDGE_LINK) == "SERVING"
    assert status(health.DATABASE) == "NOT_SERVING"
    admin.health.set(health.DATABASE, True)
    assert status("") == "SERVING"


def test_health_is_red_while_a_background_thread_is_down_and_green_again_afterwards(
    admin: Admin,
) -> None:
    broken = threading.Event()
    broken.set()

    def step() -> None:
        if broken.is_set():
            raise TypeError("a mistake of ours")
        thread.stopping.wait(0.01)

    def status(service: str) -> str:
        request = json.dumps({"service": service})
        return str(json.loads(admin.grpcurl("grpc.health.v1.Health/Check", data=request))["status"])

    monitor = ThreadMonitor(lambda: admin.health.threads_changed(monitor))
    thread = BackgroundThread("settler", step, monitor)
    thread.start()
    services = ["", health.BACKGROUND, f"{health.BACKGROUND}/settler"]
    eventually_true(monitor.down)
    eventually_true(lambda: [status(service) for service in services] == ["NOT_SERVING"] * 3)
    broken.clear()
    eventually_true(lambda: [status(service) for service in services] == ["SERVING"] * 3)
    thread.stop()


@pytest.mark.parametrize(
    "method",
    [
        "/vsphere_gateway.v1.Diagnostics/ListEdges",
        "/grpc.health.v1.Health/Check",
        "/grpc.channelz.v1.Channelz/GetServers",
    ],
)
def test_an_edges_certificate_opens_nothing_here(
    admin: Admin, customers: Callable[[str], Customer], method: str
) -> None:
    credentials = customers("acme").edge("site-1").channel_credentials()
    with grpc.secure_channel(f"127.0.0.1:{admin.port}", credentials) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "role operator" in caught.value.details()


def test_what_an_edge_cannot_read_is_in_quarantine(
    admin: Admin, dial: Dial, capsys: pytest.CaptureFixture[str]
) -> None:
    call = dial("site-1").connect()
    assert call.receive().lease.held
    unreadable = link_pb2.UnreadableObject(
        reference=inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-7"),
        reason="no config",
    )
    call.send(heartbeat(1, unreadable_objects=[unreadable]))
    assert call.receive().HasField("heartbeat_echo")
    assert admin.command("quarantine", "--format", "json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["object"], entry["message"]) for entry in entries] == [
        ("VirtualMachine:vm-7", "no config"),
        ("VirtualMachine:vm-1", ""),
    ]


def test_piped_output_is_plain_lines_with_tabs(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert admin.command("servers") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["Server", "Status"]
    assert [line[0] for line in lines[1:]] == ["web 1", "db-1"]
    assert lines[1][4] == "2 GiB"
    assert len({len(line) for line in lines}) == 1


def test_json_has_every_field_with_its_own_name(
    admin: Admin, capsys: pytest.CaptureFixture[str], dial: Dial
) -> None:
    dial("site-1").connect("")
    assert admin.command("edges", "--format", "json") == 0
    (edge,) = json.loads(capsys.readouterr().out)
    assert set(edge) == {field.name for field in diagnostics_pb2.EdgeStatus.DESCRIPTOR.fields}
    assert (edge["online"], edge["parity_at"], edge["vcenter_state"]) == (True, None, "unspecified")


def test_tables_are_aligned(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.command("clusters", "--format", "table") == 0
    heading, _, row, *_ = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert row.index("active") == heading.index("State")
    assert admin.command("images", "--format", "table") == 0
    assert capsys.readouterr().out.strip() == "None."


def test_listings_take_their_filters(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.command("servers", "--cluster", "production", "--format", "json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["web 1"]
    assert admin.command("operations", "--limit", "7", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 7


def test_an_alarm_is_released_once_in_the_operators_name(
    admin: Admin, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    alarm = quarantine.AlarmRow("a-1", VCENTER, "MASS_REMOVAL", None, "gone", (), naive_utc_now())
    database.run(lambda connection: quarantine.raise_alarm(connection, alarm))
    assert admin.command("quarantine", "--release", "alarm:a-1") == 0
    with database.read() as connection:
        (released,) = quarantine.open_alarms(connection)
    assert released.released_at is not None
    assert released.released_by == "ann"
    assert admin.command("quarantine", "--release", "a-1") == 1
    assert "no open alarm 'a-1'" in capsys.readouterr().err


def test_a_control_plane_that_does_not_run_is_named_with_its_address(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.server.stop(None).wait()
    assert admin.command("edges") == 1
    error = capsys.readouterr().err
    assert f"127.0.0.1:{admin.port}" in error
    assert str(admin.config) in error
    assert error.count("\n") == 1


def test_an_error_of_the_control_plane_comes_through(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.source.away = True
    assert admin.command("clusters") == 1
    assert "UNAVAILABLE: server has gone away" in capsys.readouterr().err


DIFFERENCE = diagnostics_pb2.Difference(
    vcenter_uuid="v-1",
    object="VirtualMachine:vm-1",
    name="web 1",
    place="nova-cell",
    field="instances.vcpus",
    expected="2",
    found="3",
)


def test_verification_exits_by_what_was_found(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert admin.command("verify", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["differences"] == []
    assert [one["object"] for one in document["excused"]] == ["VirtualMachine:vm-2"]
    assert document["compared"] == {"nova-cell": {"server": 3}}
    admin.source.edge = False
    assert admin.command("verify", "--format", "json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["vcenters"][0]["reason"] == "edge site-1 is offline"
    admin.source.differences = [DIFFERENCE]
    assert admin.command("verify", "--format", "json") == 1
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert (found["place"], found["field"]) == ("nova-cell", "instances.vcpus")
    assert (found["expected"], found["found"]) == ("2", "3")


def test_verification_is_a_table_or_plain_lines(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.source.differences = [DIFFERENCE]
    assert admin.command("verify") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("\t")[:4] == [
        "VirtualMachine:vm-1", "web 1", "nova-cell", "instances.vcpus",
    ]  # fmt: skip
    assert "Differences: 1. Excused: 1." in lines
    assert admin.command("verify", "--format", "table") == 1
    assert "instances.vcpus" in capsys.readouterr().out


def test_one_verification_runs_at_a_time(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    admin.source.hold.set()
    codes: list[int] = []
    first = threading.Thread(target=lambda: codes.append(admin.command("verify")))
    first.start()
    assert admin.source.verifying.wait(10)
    assert admin.command("verify") == 3
    assert "another verification is running" in capsys.readouterr().err
    admin.source.hold.clear()
    first.join(10)
    assert codes == [0]


def test_verification_without_a_control_plane_or_configuration_says_so(admin: Admin) -> None:
    admin.server.stop(None).wait()
    assert admin.command("verify") == 3
    admin.config.write_text("[admin]\nbind_port = x\n")
    assert admin.command("verify") == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[admin]\nbind_port = x\n", "[admin] bind_port: expected a port number"),
        ("[gateway]\nca = /nowhere/ca.pem\n", "[admin] operator_certificate: is missing"),
        (
            "[gateway]\nca = /nowhere/ca.pem\n[admin]\noperator_certificate=/x\noperator_key=/y\n",
            "/nowhere/ca.pem: cannot be read",
        ),
    ],
)
def test_wrong_configuration_ends_with_exit_code_2_and_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    config = tmp_path / "controlplane.conf"
    config.write_text(content)
    assert main(["edges", "--config-file", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vsg-controlplane: {config}: ")
    assert problem in error
