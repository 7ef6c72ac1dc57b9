"""The demo's site as its customer sees it: the vCenter it changes, and what OpenStack shows."""

from typing import Any

from tests.support.waiting import eventually
from tools.demo import vcenter
from tools.demo.deployment import Deployment
from tools.servers.vcsim import Vcsim

PLACE = "end_to_end"
PROJECT = "end-to-end"


class DemoSite:
    """A customer's vCenter, and how OpenStack shows it."""

    def __init__(self, simulator: Vcsim, deployment: Deployment, openstack: Any) -> None:
        self.vcenter = simulator
        self.deployment = deployment
        self.openstack = openstack

    def server(self, name: str) -> Any:
        """Return the server of that name; None if there is none."""
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
