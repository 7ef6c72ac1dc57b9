"""The driver on a real bridge and a real ledger; the edge and the inventory are scripted.

The inventory is a fake because these tests are about what the driver makes of its answers; the real
one answers in tests/integration and tests/end_to_end.
"""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nova.conf
import pytest
from nova.compute import vm_states
from oslo_context import context as oslo_context

from controlplane.compute.driver import GatewayDriver
from controlplane.gateway.compute_bridge import ComputeBridgeServicer
from controlplane.gateway.servers import bridge_server, listen_on_socket
from controlplane.interfaces import ComputeCluster, StoredVirtualMachine
from controlplane.operations.history import OperationHistory
from controlplane.operations.ledger import Ledger
from controlplane.store import migration
from controlplane.store import operations as store
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.operations import OperationRow
from tests.fakes.edge_side import ON, VCENTER, RecordingPipeline, ScriptedEdge
from vsphere_gateway.v1 import compute_pb2, compute_pb2_grpc, inventory_pb2

HOST = "dc0-c0-1a2b3c4d"
SERVER = "0b0d9d1c-6c0f-4f29-9b9f-000000000042"
IMAGE = "3f5d3a52-7a3c-5c3e-9d39-000000000007"
NODE_UUID = "77777777-0000-5000-8000-000000000001"
CLUSTER = inventory_pb2.ObjectReference(type="ClusterComputeResource", value="domain-c1")
GIB = 1 << 30


class ScriptedInventory:
    """What the control plane holds about one cluster."""

    def __init__(self) -> None:
        self.power: dict[str, inventory_pb2.PowerState.ValueType] = {SERVER: ON}
        self.managed = True
        self.away = False
        self.template_vcenter = VCENTER
        self.questions = 0
        self.totals = compute_pb2.GetClusterResourcesResponse(
            compute_node_uuid=NODE_UUID,
            hypervisor_hostname=f"domain-c1.{VCENTER}",
            cpus=16,
            memory_mb=32768,
            disk_gb=1000,
            cpus_used=40,
            memory_mb_used=40960,
            disk_gb_used=100,
            largest_cpus=8,
            largest_memory_mb=16384,
            largest_disk_gb=500,
            traits=["CUSTOM_VSG_VCENTER_1"],
            hypervisor_version=8000003,
            cpu_info="{}",
            synchronised=True,
        )

    def _ask(self) -> None:
        self.questions += 1
        if self.away:
            raise DatabaseUnavailableError("the own database is away")

    def cluster(self, compute_host: str) -> ComputeCluster | None:
        self._ask()
        assert compute_host == HOST
        return ComputeCluster(HOST, "cluster-1", VCENTER, CLUSTER) if self.managed else None

    def virtual_machine(self, server_uuid: str) -> StoredVirtualMachine | None:
        self._ask()
        if server_uuid not in self.power:
            return None
        machine = inventory_pb2.VirtualMachine(
            instance_uuid=server_uuid, name="web-1", power_state=self.power[server_uuid]
        )
        reference = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-1")
        return StoredVirtualMachine(VCENTER, reference, CLUSTER, machine)

    def instances(self, compute_host: str) -> list[compute_pb2.InstanceName]:
        self._ask()
        return [
            compute_pb2.InstanceName(instance_uuid=uuid, name="web-1", power_state=power)
            for uuid, power in self.power.items()
        ]

    def resources(self, compute_host: str) -> compute_pb2.GetClusterResourcesResponse | None:
        self._ask()
        return self.totals if self.managed else None

    def template(self, image_id: str) -> StoredVirtualMachine | None:
        self._ask()
        if image_id != IMAGE:
            return None
        template = inventory_pb2.VirtualMachine(instance_uuid="template-uuid", name="debian")
        template.disks.add(capacity_bytes=10 * GIB)
        reference = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-9")
        return StoredVirtualMachine(
            self.template_vcenter, reference, inventory_pb2.ObjectReference(), template
        )


@pytest.fixture
def edge() -> ScriptedEdge:
    edge = ScriptedEdge()
    edge.power[SERVER] = ON
    return edge


@pytest.fixture
def inventory() -> ScriptedInventory:
    return ScriptedInventory()


class ControlPlane:
    """Bridge and ledger, which can go and come back."""

    def __init__(
        self, database: Database, socket: Path, edge: ScriptedEdge, inventory: ScriptedInventory
    ) -> None:
        self.history = OperationHistory(database)
        self.socket = socket
        self._database = database
        self._edge = edge
        self._inventory = inventory
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        self.ledger = Ledger(self._database, self._edge, RecordingPipeline())
        self._edge.events = self.ledger
        self.ledger.start()
        self._server = bridge_server(8)
        servicer = ComputeBridgeServicer(self.ledger, self._inventory, self._edge)
        compute_pb2_grpc.add_ComputeBridgeServicer_to_server(servicer, self._server)
        listen_on_socket(self._server, self.socket)
        self._server.start()

    def stop(self) -> None:
        """End as `serve` does: callers first."""
        self.ledger.stop()
        self._server.stop(grace=1.0).wait()

    def rows(self) -> list[OperationRow]:
        """All rows of the ledger, oldest first."""
        with self._database.read() as connection:
            return list(reversed(store.recent(connection, 100)))


@pytest.fixture
def control_plane(
    tmp_path: Path, edge: ScriptedEdge, inventory: ScriptedInventory
) -> Iterator[ControlPlane]:
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    control_plane = ControlPlane(database, tmp_path / "bridge.sock", edge, inventory)
    yield control_plane
    control_plane.stop()
    database.close()


@pytest.fixture
def driver(control_plane: ControlPlane) -> Iterator[GatewayDriver]:
    conf = nova.conf.CONF
    conf([], project="nova", default_config_files=[], default_config_dirs=[])
    conf.set_override("host", HOST)
    conf.set_override("socket", str(control_plane.socket), group="vsphere_gateway")
    driver = GatewayDriver(virtapi=None)
    driver.init_host(HOST)
    yield driver
    driver.cleanup_host(HOST)
    conf.clear_override("host")
    conf.clear_override("socket", group="vsphere_gateway")


@pytest.fixture
def request_context() -> oslo_context.RequestContext:
    return oslo_context.RequestContext(
        user_id="u1", project_id="p1", request_id="req-abc", overwrite=True
    )


@pytest.fixture
def instance() -> Any:
    """A server with the attributes that drivers read of nova.objects.Instance."""
    flavor = types.SimpleNamespace(vcpus=2, memory_mb=2048, root_gb=20, name="small")
    return types.SimpleNamespace(
        uuid=SERVER,
        display_name="web-1",
        project_id="p-of-server",
        user_id="u-of-server",
        image_ref=IMAGE,
        flavor=flavor,
        vm_state=vm_states.ACTIVE,
        task_state=None,
        power_state=1,
        config_drive="",
        launched_at=None,
        image_meta=types.SimpleNamespace(properties={}),
    )
