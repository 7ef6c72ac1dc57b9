"""`vsg-controlplane serve --standalone` and `vsg-edge run` as processes, against a simulator."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from certs.__main__ import main as certs
from tests.support.servers import StartVcsim
from tools.servers.state import CHECKOUT
from tools.servers.vcsim import Vcsim

BIN = CHECKOUT / ".venv" / "bin"
START_SECONDS = 120.0
"""The schemas of Nova and Glance are made by their own migrations, on a machine that is busy."""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Trial:
    """The files and processes of one control plane tried alone, and of one edge."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gateway, self.admin = free_port(), free_port()
        self.config = directory / "controlplane.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        ca = directory / "ca"
        address = f"127.0.0.1:{self.gateway}"
        for command in (
            ["init", "--customer", "acme"],
            ["server", "--host", "127.0.0.1"],
            ["stamp", "--edge", "site-1", "--control-plane", address,
             "--output", str(directory / "bundle")],
        ):  # fmt: skip
            assert certs([*command, "--directory", str(ca)]) == 0
        self.write_config()

    def write_config(self, **gateway: object) -> None:
        ca = self.directory / "ca"
        values = {
            "bind_address": "127.0.0.1", "bind_port": self.gateway, "heartbeat_interval": 2,
            "ca": ca / "ca.pem", "certificate": ca / "server.pem", "key": ca / "server.key",
        } | gateway  # fmt: skip
        self.config.write_text(
            "[gateway]\n"
            + "".join(f"{key} = {value}\n" for key, value in values.items())
            + f"[admin]\nbind_port = {self.admin}\n"
            f"operator_certificate = {ca}/operator.pem\noperator_key = {ca}/operator.key\n"
            f"[standalone]\ndirectory = {self.directory}/state\n"
        )

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the control plane and wait until it answers."""
        command = [BIN / "vsg-controlplane", "serve", "--standalone", "--config-file", self.config]
        process = self._start("controlplane", command)
        self.wait_for("edges", lambda answer: answer is not None, process)
        return process

    def run_edge(self, vcenter: Vcsim) -> subprocess.Popen[bytes]:
        """Start the edge of a vCenter."""
        secret = self.directory / "vcenter-password"
        secret.write_text(vcenter.password)
        secret.chmod(0o600)
        config = self.directory / "edge.toml"
        config.write_text(
            f'[edge]\nbundle = "{self.directory}/bundle"\n'
            f'[vcenter]\nhost = "{vcenter.host}"\nport = {vcenter.port}\n'
            f'username = "{vcenter.username}"\npassword_file = "{secret}"\n'
            f'ca_file = "{vcenter.ca_file}"\n'
            '[managed]\nclusters = ["DC0_C0"]\n[control_plane]\nproxy = "none"\n'
        )
        return self._start("edge", [BIN / "vsg-edge", "run", "--config", config])

    def _start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def ask(self, what: str) -> list[dict[str, Any]] | None:
        """Return what a listing says; None when no control plane answers."""
        done = subprocess.run(
            [BIN / "vsg-controlplane", what, "--config-file", self.config, "--format", "json"],
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for(
        self,
        what: str,
        fits: Callable[[Any], object],
        process: subprocess.Popen[bytes] | None = None,
    ) -> Any:
        """Ask until the answer fits, and return it."""
        deadline = time.monotonic() + START_SECONDS
        while not fits(answer := self.ask(what)):
            assert process is None or process.poll() is None, self.log("controlplane")
            assert time.monotonic() < deadline, f"{what}: {answer}\n{self.log('controlplane')}"
            time.sleep(0.2)
        return answer

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """Ask a process to end and return its exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def end(self) -> None:
        """End whatever still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One trial for all tests here: making the schemas takes a while."""
    trial = Trial(tmp_path_factory.mktemp("trial"))
    yield trial
    trial.end()


def test_what_the_vcenter_has_is_listed_and_survives_a_restart_of_the_control_plane(
    trial: Trial, vcsim: StartVcsim
) -> None:
    vcenter = vcsim(cluster=2, vm=3)
    control_plane = trial.serve()
    edge = trial.run_edge(vcenter)
    (connected,) = trial.wait_for("edges", lambda edges: edges and edges[0]["parity_at"])
    assert connected["online"] is True
    assert connected["lease_held"] is True
    assert connected["vcenter_state"] == "connected"
    (cluster,) = trial.wait_for("clusters", lambda all_: all_[0]["state"] == "active")
    assert (cluster["name"], cluster["servers"]) == ("DC0_C0", 3)
    servers = trial.ask("servers")
    assert servers is not None
    assert [server["status"] for server in servers] == ["ACTIVE"] * 3

    assert trial.stop(control_plane) == 0
    vcenter.govc("vm.power", "-off", servers[0]["name"])
    trial.serve()
    after = trial.wait_for("servers", lambda answer: answer and answer[0]["status"] == "SHUTOFF")
    assert [server["uuid"] for server in after] == [server["uuid"] for server in servers]
    (again,) = trial.ask("edges") or [{}]
    assert again["epoch"] == connected["epoch"]
    assert edge.poll() is None
    assert trial.stop(edge) == 0
    assert "Traceback" not in trial.log("controlplane")
    assert "ERROR" not in trial.log("controlplane")


def test_a_second_control_plane_on_the_same_directory_is_refused(trial: Trial) -> None:
    running = trial.wait_for("edges", lambda answer: answer is not None)
    assert running is not None
    command = [BIN / "vsg-controlplane", "serve", "--standalone", "--config-file", trial.config]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"{trial.directory}/state is in use by another control plane (process " in second.stderr


def test_a_port_that_is_taken_is_named(trial: Trial, tmp_path: Path) -> None:
    other = Trial(tmp_path)
    (tmp_path / "state").mkdir()
    for schema in ("nova-api", "nova-cell", "glance"):
        shutil.copy(trial.directory / "state" / f"{schema}.sqlite", tmp_path / "state")
    with socket.create_server(("127.0.0.1", other.admin)):
        command = [BIN / "vsg-controlplane", "serve", "--standalone", "--config-file", other.config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{other.admin}: another program uses the port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_that_is_no_control_planes_ends_with_exit_code_2(
    trial: Trial, tmp_path: Path
) -> None:
    other = Trial(tmp_path)
    bundle = tmp_path / "bundle"
    other.write_config(certificate=bundle / "edge.pem", key=bundle / "edge.key")
    command = [BIN / "vsg-controlplane", "serve", "--standalone", "--config-file", other.config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    problem = f"[gateway] certificate: {bundle}/edge.pem: is the certificate of edge"
    assert f"{other.config}: {problem}" in done.stderr
