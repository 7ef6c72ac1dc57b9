"""The driver on a real bridge and a real ledger; the edge and the inventory are scripted."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nova.conf
import pytest
from nova.compute import vm_states
from oslo_context import context as oslo_context

from common.background import ThreadMonitor
from controlplane.compute.driver.driver import GatewayDriver
from controlplane.gateway.plugins.compute_bridge import ComputeBridgeServicer
from controlplane.gateway.servers import bridge_server, listen_on_socket
from controlplane.operations.ledger import Ledger
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.own import migration
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from tests.support.compute_inventory import HOST, IMAGE, ScriptedInventory
from tests.support.edge_side import ON, RecordingPipeline, ScriptedEdge
from vsphere_gateway.v1 import compute_pb2_grpc

SERVER = "0b0d9d1c-6c0f-4f29-9b9f-000000000042"


@pytest.fixture
def edge() -> ScriptedEdge:
    edge = ScriptedEdge()
    edge.power[SERVER] = ON
    return edge


@pytest.fixture
def inventory() -> ScriptedInventory:
    return ScriptedInventory({SERVER: ON})


class ControlPlane:
    """Bridge and ledger, which can go and come back."""

    def __init__(
        self, database: Database, socket: Path, edge: ScriptedEdge, inventory: ScriptedInventory
    ) -> None:
        self.history = OperationHistory(database)
        self.started: list[str] = []
        """Compute hosts whose workers have taken up their servers."""
        self.socket = socket
        self._database = database
        self._edge = edge
        self._inventory = inventory
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        self.ledger = Ledger(self._database, self._edge, RecordingPipeline(), ThreadMonitor())
        self._edge.events = self.ledger
        self.ledger.start()
        self._server = bridge_server(8)
        servicer = ComputeBridgeServicer(
            self.ledger, self._inventory, self._edge, self.started.append
        )
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
