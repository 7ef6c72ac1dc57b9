"""A machine that moves to another vCenter keeps its server, whatever is killed on its way."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.faults.deployed_site import DEPLOYMENT, SETTLE_SECONDS
from tests.support.faults.two_sites import ELSEWHERE, TwoSites
from tests.support.faults.vcenter import CLUSTERS, VCenter
from tests.support.waiting import eventually
from tools.cloud.cloud import Cloud
from tools.servers.state import Port

pytestmark = pytest.mark.cloud

MACHINES = 4
MARK = {"mine": "anything"}
TAG = "kept"
"""Nova's delete leaves no tag, and what is undeleted afterwards has none."""


@pytest.fixture(scope="module")
def sites(
    cloud: Cloud, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoSites]:
    """Two sites in full service: one with some machines, one with none."""
    DEPLOYMENT.stop()
    seed = request.config.getoption("--faults-seed") * 100 + 99
    first = VCenter(seed, cluster=1)
    second = VCenter(seed - 1, place="second-vcenter", port=Port.FAULTS_SECOND_VCENTER, cluster=1)
    sites = TwoSites(first, second, cloud)
    sites.second_edge.stop()
    try:
        first.start(tmp_path_factory.mktemp("first"), MACHINES, MACHINES)
        second.start(tmp_path_factory.mktemp("second"), 0, 0)
        second.simulator.govc("object.rename", f"/DC0/host/{CLUSTERS[0]}", ELSEWHERE)
        second.make_datastore(tmp_path_factory.mktemp("datastore"))
        sites.begin()
        yield sites
        sites.leave()
        sites.close()
    finally:
        sites.second_edge.stop()
        DEPLOYMENT.stop()
        second.stop()
        first.stop()


def marked(sites: TwoSites, name: str) -> Any:
    """Have a user say something about a server, and return it."""
    compute = sites.openstack.compute
    server = compute.find_server(name, ignore_missing=False)
    compute.set_server_metadata(server, **MARK)
    return compute.get_server(server)


def cluster_of(sites: TwoSites, uuid: str) -> str:
    """Return where a server is; empty while there is none."""
    return next((one.cluster for one in sites.in_cell() if one.uuid == uuid), "")


def assert_kept(sites: TwoSites, before: Any) -> None:
    """The server is the same in another place, and obeys there."""
    eventually(lambda: cluster_of(sites, before.id), ELSEWHERE, SETTLE_SECONDS)
    after = sites.openstack.compute.get_server(before.id)
    assert (after.created_at, after.project_id) == (before.created_at, before.project_id)
    assert after.metadata.items() >= MARK.items()
    sites.assert_equal()
    sites.wait_until_served()
    sites.assert_obeyed(before.name)
    sites.assert_equal()


def test_machine_that_came_before_its_first_went_inherits_although_all_was_killed_meanwhile(
    sites: TwoSites,
) -> None:
    before = marked(sites, "machine-1")
    before.add_tag(sites.openstack.compute, TAG)
    sites.deployment.edge.kill()
    sites.second.make("machine-1", ELSEWHERE, before.id)
    eventually(sites.quarantined, ["DUPLICATE_INSTANCE_UUID"], SETTLE_SECONDS)
    sites.deployment.control_plane.kill()
    sites.vcenter.machine("machine-1").UnregisterVM()
    sites.deployment.control_plane.start()
    sites.deployment.edge.start()
    assert_kept(sites, before)
    assert before.fetch_tags(sites.openstack.compute).tags == [TAG], "it was never deleted"
    assert sites.quarantined() == []


def test_machine_that_went_before_it_came_has_its_server_again(sites: TwoSites) -> None:
    before = marked(sites, "machine-2")
    sites.vcenter.machine("machine-2").UnregisterVM()
    eventually(lambda: cluster_of(sites, before.id), "", SETTLE_SECONDS)
    sites.second.make("machine-2", ELSEWHERE, before.id)
    assert_kept(sites, before)


def test_copy_in_another_vcenter_is_a_server_of_its_own(sites: TwoSites) -> None:
    before = marked(sites, "machine-3")
    copy = sites.second.make("machine-3", ELSEWHERE, before.id)

    def places() -> dict[str, str]:
        found = [one for one in sites.in_cell() if one.name == "machine-3"]
        return {one.cluster: one.uuid for one in found}

    eventually(lambda: sorted(places()), sorted([CLUSTERS[0], ELSEWHERE]), SETTLE_SECONDS)
    assert places()[CLUSTERS[0]] == before.id
    sites.assert_verified()
    sites.second.finish(copy.Destroy_Task())
    sites.assert_equal()
