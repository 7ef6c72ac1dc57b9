"""The driver on a real bridge and a real ledger; the edge and the inventory are scripted."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nova.conf
import pytest
from nova.compute import vm_states
from oslo_context import context as oslo_context

from controlplane.compute.driver.driver import GatewayDriver
from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.compute_inventory import HOST, IMAGE, ScriptedInventory
from tests.support.edge_side import ON, ScriptedEdge
from tests.support.running_bridge import SERVER, RunningBridge


@pytest.fixture
def edge() -> ScriptedEdge:
    edge = ScriptedEdge()
    edge.power[SERVER] = ON
    return edge


@pytest.fixture
def inventory() -> ScriptedInventory:
    return ScriptedInventory({SERVER: ON})


@pytest.fixture
def control_plane(
    tmp_path: Path, edge: ScriptedEdge, inventory: ScriptedInventory
) -> Iterator[RunningBridge]:
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    control_plane = RunningBridge(database, tmp_path / "bridge.sock", edge, inventory)
    yield control_plane
    control_plane.stop()
    database.close()


@pytest.fixture
def driver(control_plane: RunningBridge) -> Iterator[GatewayDriver]:
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
