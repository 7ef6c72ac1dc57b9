"""Two vCenters of one customer, each behind an edge of its own, and one control plane."""

from collections.abc import Sequence

from tests.support.faults.deployed_site import DEPLOYMENT, PARITY_SECONDS, DeployedSite
from tests.support.faults.vcenter import PLACE, Seen, VCenter
from tests.support.waiting import eventually
from tools.cloud.cloud import Cloud
from tools.demo import authority, edge
from tools.demo.deployment import NO_CLUSTER
from tools.servers.process import Daemon
from tools.servers.state import folder

EDGE = "site-2"
EDGE_PLACE = f"{PLACE}/{EDGE}"
ELSEWHERE = "elsewhere"
"""The cluster of the second vCenter."""


class TwoSites(DeployedSite):
    """A site with another one beside it."""

    def __init__(self, first: VCenter, second: VCenter, cloud: Cloud) -> None:
        super().__init__(first, cloud)
        self.second = second

    @property
    def second_edge(self) -> Daemon:
        """The process of the second vCenter's edge, running or not."""
        return edge.daemon(EDGE_PLACE)

    def truth(self) -> list[Seen]:
        """Return what both vCenters have."""
        return sorted([*self.vcenter.sees(), *self.second.sees()])

    def begin(self) -> None:
        """Discover both, and serve them."""
        self.configure(["*"])
        self.configure_second(["*"])
        self.deployment.start()
        self.second_edge.start()
        eventually(self._online_with_parity, {edge.NAME, EDGE}, PARITY_SECONDS)
        self.wait_until_served()

    def configure_second(self, clusters: Sequence[str]) -> None:
        """Have the second site list clusters."""
        bundle = folder(f"{PLACE}/certificates") / f"bundle-{EDGE}"
        authority.stamp(bundle.parent, EDGE, bundle, DEPLOYMENT.gateway.number)
        edge.configure(self.second.simulator, bundle, EDGE_PLACE, clusters)

    def leave(self) -> None:
        """Take all of both out of OpenStack again."""
        self.second_edge.stop()
        self.configure_second([NO_CLUSTER])
        self.second_edge.start()
        super().leave()
        self.second_edge.stop()

    def quarantined(self) -> list[str]:
        """Return why something is in quarantine."""
        return [one["reason"] for one in self.ask("quarantine")]

    def _online_with_parity(self) -> set[str]:
        edges = self.ask("edges")
        return {one["name"] for one in edges if one["online"] and one["parity_at"]}
