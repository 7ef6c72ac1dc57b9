"""Whatever is killed in the middle of a first sync: it ends with every server, once and right."""

import time

import pytest

from tests.support.faults.deployed_site import PARITY_SECONDS, DeployedSite, MakeSite
from tests.support.faults.vcenter import CLUSTERS
from tests.support.faults.victims import VICTIMS, Victim

pytestmark = pytest.mark.cloud

MACHINES = 300
FEW = 10
"""In the cluster that is there already, so that the other's sync has a middle too."""
SLOW = {"method_delay": "RetrievePropertiesEx:300"}
"""The edge reads 100 machines a call and sends them on: so there is a middle to be hit."""
POLL_SECONDS = 0.01


@pytest.mark.parametrize(
    "name",
    [
        "edge",
        pytest.param("control_plane", marks=pytest.mark.brief),
        "mariadb",
        "rabbitmq",
    ],
)
def test_first_sync_survives_the_kill_of(name: str, make_site: MakeSite) -> None:
    with make_site(MACHINES, **SLOW) as site:
        site.configure(["*"])
        kill_in_the_middle(site, VICTIMS[name](site))
        site.deployment.wait_for_parity(PARITY_SECONDS)
        site.assert_equal()


def test_first_sync_of_a_second_cluster_survives_the_kill_of_the_firsts_worker(
    make_site: MakeSite,
) -> None:
    with make_site(MACHINES, in_first=FEW, **SLOW) as site:
        site.configure([CLUSTERS[0]])
        site.deployment.start()
        site.wait_until_served()
        site.deployment.edge.stop()
        site.configure(["*"])
        kill_in_the_middle(site, VICTIMS["worker"](site))
        site.wait_until_served()
        site.assert_equal()


def kill_in_the_middle(site: DeployedSite, victim: Victim) -> None:
    """Kill when Nova has some more servers and not yet all; let it come back at once."""
    uuids = [one.uuid for one in site.vcenter.sees()]
    before, deadline = site.adopted(uuids), time.monotonic() + PARITY_SECONDS
    site.deployment.start()
    while (there := site.adopted(uuids)) == before:
        assert time.monotonic() < deadline, "no server appears"
        time.sleep(POLL_SECONDS)
    assert there < MACHINES, "the first sync is over: nothing is in its middle"
    victim.kill()
    victim.restart()
