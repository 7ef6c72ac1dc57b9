"""The whole `vsg-edge` as a process: a simulated vCenter, the real gateway, signals, check."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.customer import Customer
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.link_ends import ControlPlaneEnd
from tests.support.servers import StartVcsim
from tests.support.waiting import eventually_true
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, link_pb2

CHANGE_SECONDS = 5.0
"""A change is there within tens of milliseconds; a busy test machine gets more."""


@dataclasses.dataclass
class EdgeProcess:
    """One `vsg-edge` and its files."""

    config: Path
    password: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self._command("run"), stderr=output, stdout=output)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that ends by itself."""
        return subprocess.run(
            self._command(*arguments), capture_output=True, text=True, check=False, timeout=60
        )

    def terminate(self) -> int:
        """Send SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def logged(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text()) is not None

    def _command(self, command: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "edge", command, "--config", str(self.config), *arguments]


@pytest.fixture
def make_process(tmp_path: Path, acme: Customer) -> Iterator[Callable[..., EdgeProcess]]:
    """Makes an edge for a vCenter and a control plane; ``changes`` replace lines of its file."""
    made: list[EdgeProcess] = []

    def make(vcenter: Vcsim, port: int, clusters: str = '["*"]') -> EdgeProcess:
        password = tmp_path / "password"
        password.write_text(vcenter.password)
        password.chmod(0o600)
        config = tmp_path / "edge.toml"
        config.write_text(
            f"""
            [edge]
            bundle = "{acme.bundle("site-1", port)}"
            [vcenter]
            host = "{vcenter.host}"
            port = {vcenter.port}
            username = "{vcenter.username}"
            password_file = "password"
            ca_file = "{vcenter.ca_file}"
            [managed]
            clusters = {clusters}
            [control_plane]
            proxy = "none"
            """
        )
        made.append(EdgeProcess(config, password, tmp_path / "edge.log"))
        made[-1].log.touch()
        return made[-1]

    yield make
    for each in made:
        if each.process is not None and each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def machines(receiver: InventoryReceiver) -> dict[str, inventory_pb2.VirtualMachine]:
    bodies = (state for state in list(receiver.held.values()) if state.HasField("virtual_machine"))
    return {state.virtual_machine.name: state.virtual_machine for state in bodies}


def session_count(vcenter: Vcsim) -> int:
    sessions: dict[str, Any] = json.loads(vcenter.govc("session.ls", "-json"))
    mine = sessions["currentSession"]["key"]
    return sum(each["key"] != mine for each in sessions["sessionList"])


def audited_machines(control_plane: ControlPlaneEnd) -> set[str]:
    """Names of the virtual machines that a new read of the only vCenter shows."""
    (session,) = control_plane.registry.sessions.list_all()
    batches = control_plane.on_demand_reads.read(session.vcenter_uuid)
    shown = [one for batch in batches for one in batch.objects]
    return {one.virtual_machine.name for one in shown if one.HasField("virtual_machine")}


def test_reload_takes_clusters_under_management_and_a_bad_file_changes_nothing(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    vcenter = vcsim(cluster=2, vm=2)
    edge = make_process(vcenter, control_plane.port, clusters='["DC0_C0"]')
    edge.start()
    eventually_true(lambda: len(machines(receiver)) == 2)
    assert edge.process is not None
    good = edge.config.read_text()
    edge.config.write_text(good.replace("clusters =", "klusters ="))
    edge.process.send_signal(signal.SIGHUP)
    eventually_true(lambda: edge.logged("configuration not reloaded.*klusters"))
    edge.config.write_text(good.replace('["DC0_C0"]', '["DC0_C*"]'))
    edge.process.send_signal(signal.SIGHUP)
    eventually_true(lambda: len(machines(receiver)) == 4)
    eventually_true(lambda: len(receiver.parities) == 2)
    assert audited_machines(control_plane) == machines(receiver).keys()
    edge.config.write_text(good)
    edge.process.send_signal(signal.SIGHUP)
    eventually_true(lambda: len(machines(receiver)) == 2)
    assert edge.terminate() == 0


def test_edge_follows_vcenter_and_ends_in_order(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    vcenter = vcsim(cluster=2, vm=5)
    edge = make_process(vcenter, control_plane.port)
    edge.start()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert len(machines(receiver)) == 10
    started = time.monotonic()
    vcenter.govc("vm.power", "-off", "-force", "DC0_C0_RP0_VM0")
    control_plane.pipeline.wait(
        lambda: machines(receiver)["DC0_C0_RP0_VM0"].power_state == inventory_pb2.POWER_STATE_OFF
    )
    assert time.monotonic() - started < CHANGE_SECONDS
    vcenter.govc("vm.destroy", "DC0_C0_RP0_VM1")
    control_plane.pipeline.wait(lambda: "DC0_C0_RP0_VM1" not in machines(receiver))
    assert set(receiver.removed.values()) == {link_pb2.REMOVAL_REASON_DELETED}
    assert session_count(vcenter) == 1
    assert edge.terminate() == 0
    assert session_count(vcenter) == 0, "the edge did not log out"
    assert not edge.logged("level=(warning|error)")


def test_only_managed_clusters_leave_the_site(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    vcenter = vcsim(cluster=2, vm=3)
    edge = make_process(vcenter, control_plane.port, clusters='["*_C1"]')
    edge.start()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert set(machines(receiver)) == {f"DC0_C1_RP0_VM{number}" for number in range(3)}
    everything = b"".join(state.SerializeToString() for state in receiver.held.values())
    assert b"DC0_C0_RP0" not in everything


def test_vcenter_away_keeps_the_link_and_everything_that_was_reported(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    vcenter = vcsim(cluster=1, vm=5)
    edge = make_process(vcenter, control_plane.port)
    edge.start()
    control_plane.pipeline.wait(lambda: receiver.parities)
    held = dict(receiver.held)
    vcenter.stop()
    session = control_plane.registry.sessions.list_all()[0]
    eventually_true(lambda: session.heartbeat.vcenter_state == link_pb2.VCENTER_STATE_UNREACHABLE)
    assert control_plane.registry.sessions.list_all() == [session]
    assert receiver.held == held
    assert edge.terminate() == 0


def test_wrong_password_is_one_line_and_one_login_until_it_is_corrected(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    edge = make_process(vcsim(cluster=1, vm=2), control_plane.port)
    right = edge.password.read_text()
    edge.password.write_text("wrong-password")
    edge.start()
    eventually_true(lambda: edge.logged("VCENTER_STATE_LOGIN_REFUSED"))
    eventually_true(lambda: control_plane.registry.sessions.get("site-1"))
    edge.password.write_text(right)
    assert edge.process is not None
    os.kill(edge.process.pid, signal.SIGHUP)
    control_plane.pipeline.wait(lambda: receiver.parities)
    lines = [line for line in edge.log.read_text().splitlines() if "REFUSED" in line]
    assert len(lines) == 1
    assert "next try in 20 min" in lines[0]
    assert not edge.logged("wrong-password")
    assert not edge.logged(re.escape(right))


def test_check_passes_when_all_is_well_and_beside_a_running_edge(
    control_plane: ControlPlaneEnd,
    receiver: InventoryReceiver,
    vcsim: StartVcsim,
    make_process: Callable[..., EdgeProcess],
) -> None:
    edge = make_process(vcsim(cluster=1, vm=2), control_plane.port)
    result = edge.run("check", "--format", "json")
    outcomes = {item["name"]: item for item in json.loads(result.stdout)}
    assert {item["outcome"] for item in outcomes.values()} == {"pass"}, result.stdout
    assert result.returncode == 0
    assert "version 0.1.0, mutual TLS" in outcomes["control plane"]["detail"]
    edge.start()
    control_plane.pipeline.wait(lambda: receiver.parities)
    session = control_plane.registry.sessions.get("site-1")
    result = edge.run("check")
    assert result.returncode == 0, result.stdout
    assert "this edge's service is connected" in result.stdout
    assert control_plane.registry.sessions.get("site-1") is session, "check replaced the service"


def test_check_names_what_is_in_the_way(
    vcsim: StartVcsim, make_process: Callable[..., EdgeProcess]
) -> None:
    vcenter = vcsim(cluster=1, vm=1)
    edge = make_process(vcenter, 1, clusters='["DC0_C0", "nothing-*"]')
    edge.password.chmod(0o644)
    result = edge.run("check", "--format", "json")
    failed = {
        item["name"]: item["detail"]
        for item in json.loads(result.stdout)
        if item["outcome"] == "fail"
    }
    assert result.returncode == 1
    assert failed.keys() == {"password", "managed clusters", "control plane"}
    assert "chmod 600" in failed["password"]
    assert "nothing-*: nothing matches" in failed["managed clusters"]
    assert "nothing answers at 127.0.0.1:1" in failed["control plane"]
    vcenter.stop()
    result = edge.run("check")
    assert "vCenter connection\tfail\t127.0.0.1:" in result.stdout
    assert "vCenter login\tskip" in result.stdout
