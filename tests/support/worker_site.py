"""A real worker on the whole cloud: supervisor, bridge and ledger are real, the edge is a fake."""

import secrets
import sysconfig
import time
from pathlib import Path
from typing import Any

from common.background import ThreadMonitor
from common.timestamps import naive_utc
from controlplane.compute.workers.supervisor import WorkerSupervisor, WorkerSupervisorSettings
from controlplane.config.nova_config import NovaConfig
from controlplane.gateway.plugins.compute_bridge import ComputeBridgeServicer
from controlplane.gateway.servers import bridge_server, listen_on_socket
from controlplane.openstack.compute_hosts import ComputeHosts
from controlplane.openstack.placement import client as placement
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.operations.ledger import Ledger
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.nova import cells
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.own.clusters import ClusterRow, ClusterState
from tests.support.compute_inventory import ScriptedInventory
from tests.support.edge_side import ON, VCENTER, RecordingPipeline, ScriptedEdge
from tests.support.waiting import eventually
from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from vsphere_gateway.v1 import compute_pb2_grpc

PATIENCE = 40.0
"""Seconds that Nova and a worker may take for one step."""


class WorkerSite:
    """One cluster as Nova sees it, and everything behind it."""

    def __init__(self, database: Database, folder: Path, cloud: Cloud) -> None:
        tag = secrets.token_hex(4)
        node = f"domain-c1-{tag}.{VCENTER}"
        node_uuid = f"77777777-0000-5000-8000-0000{tag}"
        self.row = _cluster(f"trial-{tag}", node, node_uuid)
        self.edge = ScriptedEdge()
        # A virtual machine that was there before: the first start must stand that.
        self.edge.power["0b0d9d1c-6c0f-4f29-9b9f-00000000beef"] = ON
        self.inventory = ScriptedInventory(self.edge.power, self.row.compute_host)
        self.inventory.any_image = True
        self.inventory.totals.hypervisor_hostname = node
        self.inventory.totals.compute_node_uuid = node_uuid
        self.openstack = connect(cloud.layout)
        self.servers: list[Any] = []
        self.history = OperationHistory(database)
        self.log = folder / "workers" / self.row.compute_host / "worker.log"
        self._database = database
        self._folder = folder
        config = NovaConfig(cloud.layout.nova_conf)
        self._nova = cells.open_databases(config)
        providers = ResourceProviders(placement.connect(config))
        self._hosts = ComputeHosts(ComputeHostRows(self._nova), providers)
        self._config_file = cloud.layout.nova_conf
        self.start()

    def start(self) -> None:
        """Start the control plane's part."""
        settings = WorkerSupervisorSettings(
            state_directory=self._folder,
            socket=self._folder / "bridge.sock",
            command=(str(Path(sysconfig.get_path("scripts"), "vsg-compute")),),
            config_files=(self._config_file,),
            transport_url=self._nova.transport_url,
        )
        self.supervisor = WorkerSupervisor(
            settings, self._database, self._hosts, self.inventory, ThreadMonitor()
        )
        self.restart_bridge()
        self.supervisor.start()

    def restart_bridge(self) -> None:
        """Start the part that workers talk to."""
        ledger = Ledger(self._database, self.edge, RecordingPipeline(), ThreadMonitor())
        self.edge.events = ledger
        ledger.start()
        server = bridge_server(16)
        servicer = ComputeBridgeServicer(
            ledger, self.inventory, self.edge, self.supervisor.worker_started
        )
        compute_pb2_grpc.add_ComputeBridgeServicer_to_server(servicer, server)
        listen_on_socket(server, self._folder / "bridge.sock")
        server.start()
        self._ledger, self._server = ledger, server

    def stop_bridge(self) -> None:
        """The part that workers talk to is gone; they run on."""
        self._ledger.stop()
        self._server.stop(grace=1.0).wait()

    def stop(self) -> None:
        """Stop everything and take the host out of the cloud."""
        self.supervisor.stop()
        self.stop_bridge()
        self._nova.close()

    @property
    def service(self) -> Any:
        """The compute service as an administrator sees it."""
        (found,) = self.openstack.compute.services(
            host=self.row.compute_host, binary="nova-compute"
        )
        return found

    def boot(self, name: str) -> Any:
        """Ask for a server on this host."""
        compute = self.openstack.compute
        server = compute.create_server(
            name=name,
            flavor_id=compute.find_flavor("m1.small").id,
            image_id=self.image_id,
            networks="none",
            availability_zone=f"nova:{self.row.compute_host}",
        )
        self.servers.append(server)
        return server

    def server(self, server: Any) -> Any:
        """Read a server again; None when it is gone."""
        return self.openstack.compute.find_server(server.id, ignore_missing=True)

    def status(self, server: Any) -> str | None:
        """Return a server's status once no task runs on it."""
        found = self.server(server)
        return found.status if found is not None and found.task_state is None else None

    def settled_status(self, server: Any) -> str | None:
        """Wait until no task runs on a server and return its status; None when it is gone.

        Nova writes why an action failed before it ends the server's task
        (nova/compute/manager.py: reverts_task_state is outside of wrap_instance_event).
        """
        eventually(lambda: getattr(self.server(server), "task_state", None), None, seconds=PATIENCE)
        return self.status(server)

    def gone(self, server: Any) -> bool:
        """Tell whether a server is gone."""
        return self.server(server) is None

    def booted(self, name: str) -> Any:
        """Return a server that is ACTIVE."""
        server = self.boot(name)
        eventually(lambda: self.status(server), "ACTIVE", seconds=PATIENCE)
        return server

    def why(self, server: Any, action: str) -> str:
        """Return what the server's last action of a kind shows as the reason of its failure."""
        compute = self.openstack.compute
        found = [one for one in compute.server_actions(server) if one.action == action]
        if not found:
            return ""
        events = compute.get_server_action(found[0].request_id, server).events
        return " ".join(event["details"] or "" for event in events)

    def fault(self, server: Any) -> str:
        """Return what a server in ERROR shows."""
        fault = self.openstack.compute.get_server(server.id).fault
        return str(fault["message"]) if fault else ""

    def announce(self) -> None:
        """Everything that enables a new cluster's host, in order."""
        self.supervisor.edge_online(VCENTER, "edge-1")
        self.supervisor.cluster_found(self.row.uuid)
        self.supervisor.cluster_synchronised(self.row.uuid)
        self.supervisor.allocations_written(self.row.uuid)

    def settled(self) -> bool:
        """Tell whether the worker runs, and its service is enabled and up."""
        worker = self.supervisor.worker_status(self.row.uuid)
        service = self.service
        return (worker.state, service.status, service.state) == ("running", "enabled", "up")

    image_id = ""


def _cluster(host: str, node: str, node_uuid: str) -> ClusterRow:
    now = naive_utc(time.time())
    return ClusterRow(
        uuid=f"66666666{node_uuid[8:]}",
        vcenter_uuid=VCENTER,
        moref="domain-c1",
        name="C1",
        known_name="C1",
        host_uuids=("h1",),
        compute_host=host,
        compute_node_uuid=node_uuid,
        hypervisor_hostname=node,
        state=ClusterState.NEW,
        state_reason="",
        policy="managed",
        created_at=now,
        updated_at=now,
    )
