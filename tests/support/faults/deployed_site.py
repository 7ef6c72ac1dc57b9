"""The whole product between a simulated vCenter and the one-machine OpenStack, to be broken."""

import functools
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy

from tests.support.faults.vcenter import CLUSTERS, FIRST, PLACE, Seen, VCenter
from tests.support.waiting import eventually
from tools.bench.diagnostics import Observer
from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import ADMIN
from tools.demo import controlplane
from tools.demo.deployment import Deployment
from tools.servers.state import Port, folder

DEPLOYMENT = Deployment(
    PLACE, Port.FAULTS_GATEWAY, Port.FAULTS_ADMIN, "vsphere_gateway_faults", PLACE
)
PARITY_SECONDS = 180
WORKER_SECONDS = 240
SETTLE_SECONDS = 150
CELL = "nova_cell1"
SERVERS = sqlalchemy.text(
    "SELECT uuid, display_name, vm_state, vcpus, memory_mb, host FROM instances"
    " WHERE deleted = 0 AND host IN :hosts"
).bindparams(sqlalchemy.bindparam("hosts", expanding=True))
ADOPTED = sqlalchemy.text(
    "SELECT COUNT(*) FROM instances WHERE deleted = 0 AND uuid IN :uuids"
).bindparams(sqlalchemy.bindparam("uuids", expanding=True))
STATUS = {"ACTIVE": "active", "SHUTOFF": "stopped", "SUSPENDED": "suspended"}


class DeployedSite:
    """One deployment, its vCenter and its OpenStack."""

    def __init__(self, vcenter: VCenter, cloud: Cloud) -> None:
        self.vcenter = vcenter
        self.deployment = DEPLOYMENT
        self._shown: Any = vcenter.simulator
        """What the edge dials."""
        self.mariadb = cloud.layout.mariadb
        self.rabbitmq = cloud.layout.rabbitmq
        self._layout = cloud.layout
        self._clusters: dict[str, str] = {}
        self._cell = sqlalchemy.create_engine(
            self.mariadb.url(CELL), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )

    def close(self) -> None:
        """Hang up; stops nothing."""
        self._cell.dispose()
        self._observer.close()

    @functools.cached_property
    def _observer(self) -> Observer:
        return Observer(DEPLOYMENT)

    @functools.cached_property
    def openstack(self) -> Any:
        """An administrator's connection to the project of the servers, once it is made."""
        return connect(self._layout, ADMIN, DEPLOYMENT.project)

    def ask(self, what: str) -> list[dict[str, Any]]:
        """Return what `vsg-controlplane WHAT` says; nothing while it does not answer."""
        return controlplane.ask(PLACE, what)

    def edge(self) -> Mapping[str, Any]:
        """Return what `vsg-controlplane edges` says of the edge; empty before it is known."""
        edges = self.ask("edges")
        return edges[0] if edges else {}

    def clusters(self) -> dict[str, str]:
        """Return the names of the managed clusters by compute host; neither changes here."""
        if len(self._clusters) < len(CLUSTERS):
            self._clusters = {
                one["compute_host"]: one["name"]
                for one in self.ask("clusters")
                if one["state"] != "unmanaged"
            }
        return self._clusters

    def in_cell(self) -> list[Seen]:
        """Return the servers of the managed clusters as Nova's cell database has them."""
        clusters = self.clusters()
        with self._cell.connect() as connection:
            rows = connection.execute(SERVERS, {"hosts": list(clusters)}).all()
        return sorted(Seen(*row[:5], cluster=clusters[row.host]) for row in rows)

    def adopted(self, uuids: Sequence[str]) -> int:
        """Return how many of these machines have a server in the cell database."""
        with self._cell.connect() as connection:
            return int(connection.execute(ADOPTED, {"uuids": uuids}).scalar_one())

    def in_api(self) -> list[Seen]:
        """Return the same as Nova's API shows it."""
        clusters = self.clusters()
        servers = [one for one in self.openstack.compute.servers() if one.compute_host in clusters]
        return sorted(
            Seen(
                uuid=one.id,
                name=one.name,
                power=STATUS.get(one.status, one.status),
                cpus=one.flavor["vcpus"],
                memory_mb=one.flavor["ram"],
                cluster=clusters[one.compute_host],
            )
            for one in servers
        )

    def truth(self) -> list[Seen]:
        """Return what OpenStack has to show."""
        return self.vcenter.sees()

    def differences(self) -> dict[str, list[Seen]]:
        """Return what vCenter has and Nova's cell has not, and the other way round."""
        truth, shown = self.truth(), self.in_cell()
        return {
            "only in vCenter": sorted(set(truth) - set(shown)),
            "only in OpenStack": sorted(set(shown) - set(truth)),
        }

    def assert_equal(self) -> None:
        """Wait until nothing differs, and look by every way there is."""
        nothing: dict[str, list[Seen]] = {"only in vCenter": [], "only in OpenStack": []}
        eventually(self.differences, nothing, SETTLE_SECONDS, poll=1)
        self.assert_verified()
        assert self.in_api() == self.truth()

    def assert_verified(self, excused: frozenset[str] = frozenset()) -> None:
        """Have `vsg-controlplane verify` find nothing, and excuse only these virtual machines."""
        eventually(self._verify, (0, [], excused), SETTLE_SECONDS, poll=1)

    def _verify(self) -> tuple[int, Any, frozenset[str]]:
        config = folder(PLACE) / "controlplane.conf"
        command = [controlplane.PROGRAM, "verify", "--config-file", config, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.stdout:
            return done.returncode, done.stderr, frozenset()
        found = json.loads(done.stdout)
        excused = [one["object"] for one in found["excused"]]
        machines = frozenset(one for one in excused if one.startswith("VirtualMachine:"))
        return done.returncode, found["differences"], machines

    def read_anew(self) -> None:
        """Have vCenter end the edge's session: it logs in, reads all, and both sides compare."""
        before = self._parity()
        self.vcenter.end_other_sessions()
        self._wait_for_parity_after(before)

    def _parity(self) -> int:
        """Return when there was parity, in nanoseconds; 0 before that."""
        edge = self._observer.edge()
        return edge.parity_at.ToNanoseconds() if edge is not None else 0

    def _wait_for_parity_after(self, before: int) -> None:
        eventually(lambda: self._parity() in (before, 0), False, PARITY_SECONDS)

    def assert_obeyed(self, name: str = FIRST) -> None:
        """Have OpenStack start and stop a virtual machine."""
        server = self.openstack.compute.find_server(name)
        for action, power in (("start", "active"), ("stop", "stopped")):
            getattr(self.openstack.compute, f"{action}_server")(server)
            eventually(lambda: self._power_of(name), power, SETTLE_SECONDS)
            eventually(lambda: self.openstack.compute.get_server(server).task_state, None)

    def _power_of(self, name: str) -> str:
        return next(one.power for one in self.truth() if one.name == name)

    def configure(self, clusters: Sequence[str]) -> None:
        """Have the site list clusters."""
        self.deployment.configure(self._shown, clusters)

    def see_through(self, fake: Any) -> None:
        """Have the edge dial a fake that stands before the vCenter, or the vCenter itself."""
        self._shown, before = fake, self._parity()
        self.deployment.edge.stop()
        self.configure(["*"])
        self.deployment.edge.start()
        self._wait_for_parity_after(before)

    def wait_until_served(self) -> None:
        """Wait for parity and for the workers."""
        self.deployment.wait_for_parity(PARITY_SECONDS)
        self.deployment.wait_for_workers(WORKER_SECONDS)

    def leave(self) -> None:
        """Take all out of OpenStack again."""
        self.deployment.leave(self._shown, PARITY_SECONDS)


MakeSite = Callable[..., AbstractContextManager[DeployedSite]]
