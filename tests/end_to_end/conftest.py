"""The whole product between a simulated vCenter and the one-machine OpenStack."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.demo_site import PLACE, PROJECT, DemoSite
from tests.support.waiting import eventually
from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import ADMIN
from tools.demo import controlplane, vcenter
from tools.demo.deployment import Deployment
from tools.servers.state import Port

DATABASE = "vsphere_gateway_test"
PARITY_SECONDS = 120
WORKER_SECONDS = 240


def _wait_until_up(openstack: Any) -> None:
    """Wait for each worker's first report to Nova: until then its API deletes rows by itself."""
    hosts = {one["compute_host"] for one in controlplane.ask(PLACE, "clusters")}

    def up() -> set[str]:
        services = openstack.compute.services(binary="nova-compute")
        return hosts & {one.host for one in services if one.state == "up"}

    eventually(up, hosts, WORKER_SECONDS)


@pytest.fixture(scope="session")
def site(cloud: Cloud, terminal: Callable[[str], None]) -> Iterator[DemoSite]:
    """The demo's site, freshly made, discovered and with its workers running."""
    deployment = Deployment(
        PLACE, Port.TEST_GATEWAY, Port.TEST_ADMIN, "vsphere_gateway_test", PROJECT
    )
    deployment.stop()
    vcenter.simulator(f"{PLACE}/vcenter", Port.TEST_VCENTER).stop()
    terminal("starting vCenter, control plane and edge")
    simulator = vcenter.start(f"{PLACE}/vcenter", Port.TEST_VCENTER)
    try:
        deployment.configure(simulator)
        administrator = connect(cloud.layout)
        project = administrator.identity.find_project(PROJECT, ignore_missing=False)
        administrator.compute.revert_quota_set(project)  # an earlier run has lifted it
        deployment.start()
        deployment.wait_for_parity(PARITY_SECONDS)
        deployment.wait_for_workers(WORKER_SECONDS)
        _wait_until_up(administrator)
        yield DemoSite(simulator, deployment, connect(cloud.layout, ADMIN, PROJECT))
        deployment.leave(simulator, PARITY_SECONDS)
    finally:
        deployment.stop()
        simulator.stop()
