"""What the edge's user may not see hides nothing else, and comes when it may be seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.references import Key
from edge.config import ManagedSettings
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.collector import VCenterCollector
from tests.support.edge_vcenter_site import Follower, VCenterSite, vcenter_settings
from tests.support.restricted_vcenter import RestrictedVCenter
from tests.support.servers import StartVcsim

HIDDEN = "DC0_C0_RP0_VM2"


@pytest.fixture
def site(vcsim: StartVcsim, tmp_path: Path) -> Iterator[VCenterSite]:
    site = VCenterSite(vcsim(cluster=1, host=2, vm=7), tmp_path, ManagedSettings(("*",)))
    yield site
    site.close()


@pytest.fixture
def restricted(site: VCenterSite) -> Iterator[RestrictedVCenter]:
    restricted = RestrictedVCenter(site.simulator)
    yield restricted
    restricted.close()


@pytest.fixture
def follower(
    site: VCenterSite, restricted: RestrictedVCenter, tmp_path: Path
) -> Iterator[Follower]:
    """An edge that sees through the restricted user's eyes."""
    session = VCenterSession(vcenter_settings(restricted, tmp_path))  # type: ignore[arg-type]
    session.connect()
    follower = Follower(VCenterCollector(session, site.managed, polling_seconds=0.5))
    yield follower
    follower.stop()
    session.close()


@pytest.mark.parametrize("refuses", [True, False], ids=["no_permission", "empty_answers"])
def test_machine_that_is_listed_and_may_not_be_read_hides_no_other(
    site: VCenterSite,
    restricted: RestrictedVCenter,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
    refuses: bool,
) -> None:
    listed = [f"VirtualMachine:{machine._moId}" for machine in site.machines()]

    def list_all(self: PropertyReader, type_name: str) -> list[Key]:
        return listed

    monkeypatch.setattr(PropertyReader, "list_all", list_all)
    restricted.hide([site.machine(HIDDEN)._moId], refuses=refuses)
    follower.start()
    assert follower.kinds()["virtual_machine"] == len(listed) - 1
    assert not follower.has(HIDDEN)
    restricted.show_everything()
    follower.wait(lambda: follower.has(HIDDEN))


def test_new_machine_that_is_announced_and_may_not_be_read_is_reported_as_unreadable(
    site: VCenterSite, restricted: RestrictedVCenter, follower: Follower
) -> None:
    follower.start()
    machine = site.machine(HIDDEN)
    restricted.refuse_reads([machine._moId])
    site.reconfigure(machine, numCPUs=3)
    key = f"VirtualMachine:{machine._moId}"
    follower.wait(lambda: "does not let" in follower.unreadable.get(key, ""))
    others = site.machine("DC0_C0_RP0_VM1")
    site.reconfigure(others, numCPUs=5)
    follower.wait(lambda: follower.machine("DC0_C0_RP0_VM1").cpus == 5)
    restricted.show_everything()
    follower.wait(lambda: key not in follower.unreadable)
    assert follower.machine(HIDDEN).cpus == 3
