"""The whole product between a simulated vCenter and the one-machine OpenStack."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.waiting import eventually
from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import ADMIN
from tools.demo import controlplane, vcenter
from tools.demo.deployment import Deployment
from tools.servers.state import Port
from tools.servers.vcsim import Vcsim

PLACE = "end_to_end"
PROJECT = "end-to-end"
DATABASE = "vsphere_gateway_test"
PARITY_SECONDS = 120
WORKER_SECONDS = 240


class Company:
    """A customer: its vCenter, and how OpenStack shows it."""

    def __init__(self, simulator: Vcsim, deployment: Deployment, openstack: Any) -> None:
        self.vcenter = simulator
        self.deployment = deployment
        self.openstack = openstack

    def server(self, name: str) -> Any:
        """Return the server of that name None if there is none."""
        found = list(self.openstack.compute.servers(name=f"^{name}$"))
        return found[0] if found else None

    def status(self, name: str) -> str | None:
        """Return the server's status; None if there is no such server."""
        server = self.server(name)
        return server.status if server else None

    def power(self, name: str) -> str | None:
        """Return the power state that vCenter reports; None if there is no such machine."""
        found = self.vcenter.govc_json("vm.info", name)["virtualMachines"]
        return str(found[0]["runtime"]["powerState"]) if found else None

    def make(self, name: str, *flags: str, cluster: str = "production") -> None:
        """Make a virtual machine in vCenter."""
        self.vcenter.govc(
            "vm.create",
            *("-on=false", "-c", "1", "-m", "512", "-disk", "1GB", "-net", vcenter.NETWORK),
            *("-cluster", cluster, *flags, name),
        )

    def make_server(self, name: str, cluster: str = "production") -> Any:
        """Make a virtual machine in vCenter and return its server, powered off."""
        self.make(name, cluster=cluster)
        eventually(lambda: self.status(name), "SHUTOFF")
        return self.server(name)


def _wait_until_up(openstack: Any) -> None:
    """Wait for each worker's first report to Nova: until then its API deletes rows by itself."""
    hosts = {one["compute_host"] for one in controlplane.ask(PLACE, "clusters")}

    def up() -> set[str]:
        services = openstack.compute.services(binary="nova-compute")
        return hosts & {one.host for one in services if one.state == "up"}

    eventually(up, hosts, WORKER_SECONDS)


@pytest.fixture(scope="session")
def company(cloud: Cloud, terminal: Callable[[str], None]) -> Iterator[Company]:
    """The demo's company, freshly made, discovered and with its workers running."""
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
        yield Company(simulator, deployment, connect(cloud.layout, ADMIN, PROJECT))
        deployment.leave(simulator, PARITY_SECONDS)
    finally:
        deployment.stop()
        simulator.stop()
