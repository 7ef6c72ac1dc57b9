"""Many machines that vanish at once: kept until vCenter or a person says that they are gone."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.faults.deployed_site import SETTLE_SECONDS, DeployedSite
from tests.support.faults.vcenter import CLUSTERS, FIRST
from tests.support.restricted_vcenter import RestrictedVCenter
from tests.support.waiting import eventually
from tools.demo import controlplane
from tools.servers.state import folder

pytestmark = pytest.mark.cloud

MANY = 21
FEW = 19


@pytest.fixture(scope="module")
def restricted(site: DeployedSite) -> Iterator[RestrictedVCenter]:
    """What the edge sees of the vCenter from now on."""
    restricted = RestrictedVCenter(site.vcenter.simulator)
    site.see_through(restricted)
    try:
        yield restricted
        site.see_through(site.vcenter.simulator)
    finally:
        restricted.close()


@pytest.fixture(autouse=True)
def shown_again(site: DeployedSite, restricted: RestrictedVCenter) -> Iterator[None]:
    """Nothing differs after the test any more, and no alarm is left."""
    yield
    restricted.show_everything()
    site.read_anew()
    site.assert_equal()
    eventually(lambda: alarms(site), [], SETTLE_SECONDS)


def alarms(site: DeployedSite) -> list[str]:
    """Return the kinds of the alarms that `vsg-controlplane quarantine` shows."""
    return sorted(one["reason"] for one in site.ask("quarantine") if is_alarm(one))


def is_alarm(entry: dict[str, str]) -> bool:
    """Tell an alarm from an object."""
    return entry["object"].startswith("alarm:")


def uuids(site: DeployedSite) -> set[str]:
    """Return the servers' UUIDs."""
    return {one.uuid for one in site.in_cell()}


def morefs(site: DeployedSite, cluster: str) -> list[str]:
    """Return the machines of a cluster, but the one that others are cloned from."""
    found = {each.name: each._moId for each in site.vcenter.machines_of(cluster)}
    return [moref for name, moref in sorted(found.items()) if name != FIRST]


def hide(
    site: DeployedSite, restricted: RestrictedVCenter, gone: list[str], *, refuses: bool
) -> None:
    """Hide machines, and let the edge read everything anew."""
    restricted.hide(gone, refuses=refuses)
    site.read_anew()


def release(site: DeployedSite) -> None:
    """Release the alarms by hand."""
    config = folder("faults") / "controlplane.conf"
    for alarm in (one["object"] for one in site.ask("quarantine") if is_alarm(one)):
        command = [controlplane.PROGRAM, "quarantine", "--config-file", config, "--release", alarm]
        subprocess.run(command, check=True)


def test_few_that_may_not_be_seen_any_more_are_kept_without_an_alarm(
    site: DeployedSite, restricted: RestrictedVCenter
) -> None:
    before = site.in_cell()
    gone = morefs(site, CLUSTERS[1])[:FEW]
    hide(site, restricted, gone, refuses=True)
    site.assert_verified(excused=frozenset(f"VirtualMachine:{moref}" for moref in gone))
    assert site.in_cell() == before
    assert alarms(site) == []


@pytest.mark.parametrize("refuses", [True, False], ids=["no_permission", "empty_answers"])
def test_many_that_vanish_unconfirmed_raise_an_alarm_and_are_kept(
    site: DeployedSite, restricted: RestrictedVCenter, refuses: bool
) -> None:
    before = site.in_cell()
    hide(site, restricted, morefs(site, CLUSTERS[1])[:MANY], refuses=refuses)
    eventually(lambda: alarms(site), ["MASS_REMOVAL"], SETTLE_SECONDS)
    assert site.in_cell() == before


def test_vcenter_that_shows_no_machine_at_all_loses_none(
    site: DeployedSite, restricted: RestrictedVCenter
) -> None:
    before = site.in_cell()
    everything = [one for cluster in CLUSTERS for one in site.vcenter.morefs_of(cluster)]
    hide(site, restricted, everything, refuses=False)
    eventually(lambda: alarms(site), ["MASS_REMOVAL"] * len(CLUSTERS), SETTLE_SECONDS)
    assert site.in_cell() == before


def test_released_alarm_lets_go_of_what_it_held_and_touches_nothing(
    site: DeployedSite, restricted: RestrictedVCenter
) -> None:
    before, truth = uuids(site), site.vcenter.sees()
    gone = morefs(site, CLUSTERS[1])[:MANY]
    names = {each._moId: each.config.instanceUuid for each in site.vcenter.machines_of(CLUSTERS[1])}
    hide(site, restricted, gone, refuses=True)
    eventually(lambda: alarms(site), ["MASS_REMOVAL"], SETTLE_SECONDS)
    release(site)
    eventually(lambda: before - uuids(site), {names[one] for one in gone}, SETTLE_SECONDS)
    eventually(lambda: alarms(site), [], SETTLE_SECONDS)
    assert site.vcenter.sees() == truth


def test_many_that_vcenter_itself_says_are_deleted_simply_go(
    site: DeployedSite, restricted: RestrictedVCenter
) -> None:
    gone = site.vcenter.machines_of(CLUSTERS[1])[: MANY + 1]
    lost = {each.config.instanceUuid for each in gone}
    before = uuids(site)
    site.vcenter.finish(*(each.Destroy_Task() for each in gone))
    eventually(lambda: before - uuids(site), lost, SETTLE_SECONDS)
    assert alarms(site) == []
