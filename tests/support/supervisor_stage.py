"""A real supervisor of workers; what it asks of Nova and of the inventory is faked."""

import sys
from dataclasses import replace
from pathlib import Path

from common.background import ThreadMonitor
from common.timestamps import naive_utc
from controlplane.compute.workers.supervisor import WorkerSupervisor, WorkerSupervisorSettings
from controlplane.domain.ports import ComputeCluster, MachineLocation, StoredVirtualMachine
from controlplane.domain.records import ComputeHostRecord, ServiceStatus
from controlplane.openstack.placement.client import PlacementUnavailableError
from controlplane.store.database import Database
from controlplane.store.errors import ServersLeftError
from controlplane.store.own import clusters
from controlplane.store.own.clusters import ClusterRow, ClusterState
from vsphere_gateway.v1 import compute_pb2

VCENTER = "6f6d8f53-0000-4000-8000-000000000001"
NOW = naive_utc(1_800_000_000)


def cluster(number: int, state: ClusterState = ClusterState.NEW) -> ClusterRow:
    """Return a row for a cluster."""
    return ClusterRow(
        uuid=f"00000000-0000-4000-8000-00000000000{number}",
        vcenter_uuid=VCENTER,
        moref=f"domain-c{number}",
        name=f"C{number}",
        known_name=f"C{number}",
        host_uuids=("h1",),
        compute_host=f"c{number}-1a2b3c4d",
        compute_node_uuid=f"77777777-0000-5000-8000-00000000000{number}",
        hypervisor_hostname=f"domain-c{number}.{VCENTER}",
        state=state,
        state_reason="",
        policy="managed",
        created_at=NOW,
        updated_at=NOW,
    )


class NotedHosts:
    """A fake ``ComputeHostWriter`` that notes what it is asked, with an operator and an outage."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.disabled: dict[str, str] = {}
        self.away = False
        self.servers = 0
        self.attempts = 0
        self.last_words: dict[str, str] = {}

    def provision(self, record: ComputeHostRecord) -> None:
        self.attempts += 1
        if self.away:
            raise PlacementUnavailableError("placement is away")
        self.calls.append(("provision", record.host, record.node_uuid))
        self.disabled.setdefault(record.host, "AUTO: first sync")

    def disable(self, host: str, reason: str) -> ServiceStatus:
        self.calls.append(("disable", host, reason))
        if not self._status(host).by_operator:
            self.disabled[host] = reason
        return self._status(host)

    def enable(self, host: str) -> ServiceStatus:
        self.calls.append(("enable", host))
        if self.disabled.get(host, "").startswith("AUTO:"):
            self.disabled[host] = ""
        return self._status(host)

    def status(self, host: str) -> ServiceStatus | None:
        return self._status(host) if host in self.disabled else None

    def remove(self, host: str) -> None:
        self.calls.append(("remove", host))
        if self.servers:
            raise ServersLeftError(f"{self.servers} servers are left on compute host {host}")
        self.last_words[host] = self.disabled.pop(host)

    def _status(self, host: str) -> ServiceStatus:
        reason = self.disabled.get(host, "")
        by_operator = bool(reason) and not reason.startswith("AUTO:")
        return ServiceStatus(host, bool(reason), reason, by_operator)


class Totals:
    """A fake ``ComputeInventory`` of which only totals are asked."""

    def resources(self, compute_host: str) -> compute_pb2.GetClusterResourcesResponse | None:
        number = compute_host[1]
        return compute_pb2.GetClusterResourcesResponse(
            compute_node_uuid=cluster(int(number)).compute_node_uuid,
            hypervisor_hostname=f"domain-c{number}.{VCENTER}",
        )

    def cluster(self, compute_host: str) -> ComputeCluster | None:
        raise AssertionError("not asked for")

    def subject(
        self, compute_host: str, server_uuid: str
    ) -> tuple[ComputeCluster | None, MachineLocation | None]:
        raise AssertionError("not asked for")

    def virtual_machine(self, server_uuid: str) -> StoredVirtualMachine | None:
        raise AssertionError("not asked for")

    def instances(self, compute_host: str) -> list[compute_pb2.InstanceName]:
        raise AssertionError("not asked for")

    def template(self, image_id: str) -> StoredVirtualMachine | None:
        raise AssertionError("not asked for")


class SupervisorStage:
    """Supervisors one after another on one database and one directory."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.hosts = NotedHosts()
        self.monitor = ThreadMonitor()
        self.worker = [sys.executable, "-c", "import time; time.sleep(60)"]
        self.starts_at_once = 8
        self.supervisor: WorkerSupervisor

    def begin(self) -> WorkerSupervisor:
        """Start a supervisor."""
        conf = self.folder / "nova.conf"
        conf.touch()
        settings = WorkerSupervisorSettings(
            state_directory=self.folder,
            socket=self.folder / "bridge.sock",
            command=(*self.worker,),
            config_files=(conf,),
            starts_at_once=self.starts_at_once,
        )
        self.supervisor = WorkerSupervisor(
            settings, self.database, self.hosts, Totals(), self.monitor
        )
        self.supervisor.start()
        return self.supervisor

    def write(self, row: ClusterRow, state: ClusterState | None = None) -> ClusterRow:
        """Write a cluster's row."""
        self.database.run(lambda connection: clusters.write(connection, [row]))
        if state is not None:
            self.database.run(
                lambda connection: clusters.set_state(connection, row.uuid, state, "why", NOW)
            )
            row = replace(row, state=state)
        return row

    def row(self, row: ClusterRow) -> ClusterRow:
        """Read a cluster's row again."""
        with self.database.read() as connection:
            found = clusters.get(connection, row.uuid)
        assert found is not None
        return found

    def complete(self, row: ClusterRow) -> None:
        """Everything that enables a cluster's host, in order."""
        self.supervisor.edge_online(row.vcenter_uuid, "edge-1")
        self.supervisor.cluster_found(row.uuid)
        self.supervisor.cluster_synchronised(row.uuid)
        self.supervisor.allocations_written(row.uuid)
