"""Two `vsg-controlplane serve` on one database, as processes; the OpenStack beside them is rows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.__main__ import main as certs
from common.timestamps import naive_utc
from controlplane.active_lease import LEASE_SECONDS
from controlplane.store import standalone
from controlplane.store.database import Database
from controlplane.store.own import clusters, edges, migration
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.edges import VCenterRow
from tests.integration.controlplane.gateway.test_standalone_process import free_port
from tests.support.waiting import eventually_true
from tools.servers.state import CHECKOUT

BIN = CHECKOUT / ".venv" / "bin"
PATIENCE = 60.0
VCENTER = "11111111-0000-4000-8000-000000000001"
HOST = "c1-1a2b3c4d"
NOW = naive_utc(1_800_000_000.0)


class SharedState:
    """What both control planes share: authority, databases, Nova's and Glance's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca"
        for command in (["init", "--customer", "acme"], ["server", "--host", "127.0.0.1"]):
            assert certs([*command, "--directory", str(self.ca)]) == 0
        standalone.open_databases(directory).close()
        self.own = f"sqlite:///{directory}/own.sqlite"
        database = Database(self.own)
        migration.upgrade(database)
        database.run(_write_cluster)
        database.close()
        (directory / "nova.conf").write_text(
            "[oslo_messaging_notifications]\ntransport_url = fake://\n"
            f"[api_database]\nconnection = sqlite:///{directory}/nova-api.sqlite\n"
            "[placement]\nauth_type = none\nendpoint_override = http://127.0.0.1:1/placement\n"
        )
        (directory / "glance.conf").write_text(
            f"[database]\nconnection = sqlite:///{directory}/glance.sqlite\n"
        )


def _write_cluster(connection: object) -> None:
    """A cluster that has been synchronised before: its worker runs wherever the supervisor does."""
    about = VCenterRow(VCENTER, "VMware vCenter Server", "8.0.3", "1", "8.0.3.0", NOW)
    edges.write_vcenter(connection, about)
    row = ClusterRow(
        uuid="22222222-0000-4000-8000-000000000001",
        vcenter_uuid=VCENTER,
        moref="domain-c1",
        name="C1",
        known_name="C1",
        host_uuids=("h1",),
        compute_host=HOST,
        compute_node_uuid="33333333-0000-5000-8000-000000000001",
        hypervisor_hostname=f"domain-c1.{VCENTER}",
        state=ClusterState.ACTIVE,
        state_reason="",
        policy="managed",
        created_at=NOW,
        updated_at=NOW,
        synchronised_at=NOW,
    )
    clusters.write(connection, [row])


class Replica:
    """One control plane with a machine's worth of files and ports of its own."""

    def __init__(self, site: SharedState, name: str) -> None:
        self._site = site
        self.state = site.directory / name
        self.log = site.directory / f"{name}.log"
        self.config = site.directory / f"{name}.conf"
        ca = site.ca
        self.config.write_text(
            f"[gateway]\nbind_address = 127.0.0.1\nbind_port = {free_port()}\n"
            f"ca = {ca}/ca.pem\ncertificate = {ca}/server.pem\nkey = {ca}/server.key\n"
            f"[admin]\nbind_port = {free_port()}\n"
            f"operator_certificate = {ca}/operator.pem\noperator_key = {ca}/operator.key\n"
            f"[database]\nconnection = {site.own}\n"
            f"[nova]\nconfig_file = {site.directory}/nova.conf\ncell = {standalone.CELL_NAME}\n"
            f"[glance]\nconfig_file = {site.directory}/glance.conf\n"
            "[adoption]\ndefault_project_id = p\ndefault_user_id = u\n"
            f"[compute]\nstate_directory = {self.state}\n"
            f"worker_command = {sys.executable},-c,import time; time.sleep(600)\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def serve(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [BIN / "vsg-controlplane", "serve", "--config-file", self.config]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.process

    def edges(self) -> subprocess.CompletedProcess[str]:
        """What `vsg-controlplane edges` says."""
        return subprocess.run(
            [BIN / "vsg-controlplane", "edges", "--config-file", self.config],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def active(self) -> bool:
        return self.edges().returncode == 0

    def stands_by(self) -> bool:
        return "this control plane stands by while " in self.edges().stderr

    def runs_worker(self) -> bool:
        """Whether the process that it recorded last as the cluster's worker lives."""
        record = self.state / "workers" / HOST / "worker.json"
        if not record.exists():
            return False
        pid = json.loads(record.read_text())["pid"]
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return status.rpartition(")")[2].split()[0] != "Z"

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(60)


def eventually_of(what: Callable[[], object], *replicas: Replica) -> None:
    def logs() -> str:
        return "\n".join(replica.log.read_text() for replica in replicas)

    eventually_true(what, seconds=PATIENCE, poll=0.2, evidence=logs)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    site = SharedState(tmp_path)
    made = Replica(site, "first"), Replica(site, "second")
    yield made
    for replica in made:
        replica.end()


def test_the_second_stands_by_takes_over_from_one_that_is_paused_and_that_one_ends(
    replicas: tuple[Replica, Replica],
) -> None:
    first, second = replicas
    held = first.serve()
    eventually_of(lambda: first.active() and first.runs_worker(), first)
    second.serve()
    eventually_of(second.stands_by, first, second)
    assert first.active()
    assert not second.runs_worker()
    assert f"while {os.uname().nodename}/" in second.edges().stderr

    held.send_signal(signal.SIGSTOP)
    eventually_of(lambda: second.active() and second.runs_worker(), first, second)
    held.send_signal(signal.SIGCONT)
    assert held.wait(LEASE_SECONDS) == 75
    eventually_of(lambda: not first.runs_worker(), first, second)
    assert second.active()

    first.serve()
    eventually_of(first.stands_by, first, second)
    second.end()
    eventually_of(lambda: first.active() and first.runs_worker(), first, second)
