"""A vCenter that comes back from an old backup: its references repeat and name other things."""

import subprocess
from collections.abc import Iterator

import pytest
from pyVmomi import vim

from tests.support.faults.deployed_site import (
    PARITY_SECONDS,
    SETTLE_SECONDS,
    DeployedSite,
    MakeSite,
)
from tests.support.faults.vcenter import CLUSTERS, PLACE
from tests.support.waiting import eventually
from tools.demo import controlplane
from tools.servers.state import folder

pytestmark = pytest.mark.cloud

BEFORE, THEN = 3, 2
"""Virtual machines in each cluster, now and when the backup was made."""
STOPPED, GOES_ON = CLUSTERS
RENAMED = "then"
"""What the stopped one is called after the restore."""


@pytest.fixture
def site(make_site: MakeSite) -> Iterator[DeployedSite]:
    """A site of a few virtual machines that is discovered; nothing serves it."""
    with make_site(0, vm=BEFORE, ds=1) as site:
        site.configure(["*"])
        site.deployment.start()
        site.deployment.wait_for_parity(PARITY_SECONDS)
        site.assert_equal()
        yield site


def references(site: DeployedSite) -> dict[str, str]:
    """Return instance UUIDs by reference."""
    machines = site.vcenter.objects(vim.VirtualMachine)
    return {each._moId: each.config.instanceUuid for each in machines}


def keys(references: set[str]) -> frozenset[str]:
    return frozenset(f"VirtualMachine:{each}" for each in references)


def other_cluster(site: DeployedSite) -> None:
    """Let the reference of a cluster name another one, with other hosts, as it did then."""
    govc, path = site.vcenter.simulator.govc, f"/DC0/host/{STOPPED}"
    machines = site.vcenter.machines_of(STOPPED)
    site.vcenter.finish(*(each.PowerOffVM_Task() for each in machines))
    site.vcenter.finish(*(each.Destroy_Task() for each in machines))
    hosts = govc("find", path, "-type", "h").split()
    govc(
        "cluster.add",
        *("-cluster", path, "-hostname", "esx-then", "-username", "root", "-password", "then"),
        "-noverify",
    )
    for host in hosts:
        govc("host.maintenance.enter", host)
        govc("cluster.mv", "-cluster", f"/DC0/host/{GOES_ON}", host)
    govc("object.rename", path, RENAMED)


def alarms(site: DeployedSite) -> list[str]:
    """Return what a person has to look at."""
    entries = site.ask("quarantine")
    return [one["reason"] for one in entries if one["object"].startswith("alarm:")]


def release(site: DeployedSite) -> None:
    """Say that all is well, as a person would."""
    config = folder(PLACE) / "controlplane.conf"
    for entry in site.ask("quarantine"):
        command = [controlplane.PROGRAM, "quarantine", "--config-file", config, "--release"]
        subprocess.run([*command, entry["object"]], check=True)


def test_machines_are_known_by_their_uuids_though_their_references_name_others(
    site: DeployedSite,
) -> None:
    before, was = site.in_cell(), references(site)
    site.deployment.edge.stop()
    site.vcenter.restore(vm=THEN, ds=1)
    now = references(site)
    assert {each for each in was.keys() & now.keys() if was[each] != now[each]}
    assert set(now.values()) < set(was.values())
    site.deployment.edge.start()
    site.assert_equal()
    assert site.in_cell() == [one for one in before if one.uuid in now.values()]
    assert alarms(site) == []


def test_cluster_that_is_another_now_is_stopped_until_a_person_decides(site: DeployedSite) -> None:
    before, was = site.in_cell(), references(site)
    stopped = {one.uuid for one in before if one.cluster == STOPPED}
    site.deployment.edge.stop()
    site.vcenter.restore(vm=THEN, ds=1)
    other_cluster(site)
    now = references(site)
    taken = {each for each in now if was[each] in stopped}
    assert taken, "a reference of the stopped cluster names a machine of the other one"
    site.deployment.edge.start()

    eventually(lambda: alarms(site), ["CLUSTER_IDENTITY"], SETTLE_SECONDS)
    living = set(now.values()) | stopped
    eventually(lambda: {one.uuid for one in site.in_cell()}, living, SETTLE_SECONDS)
    waiting = {now[each] for each in taken}
    excused = {each for each, uuid in was.items() if uuid in stopped | waiting}
    site.assert_verified(keys(excused))
    after = {one.uuid: one for one in site.in_cell()}
    assert [after[one.uuid] for one in before if one.uuid in living] == [
        one for one in before if one.uuid in living
    ]

    release(site)
    eventually(lambda: alarms(site), [], SETTLE_SECONDS)
    site.read_anew()
    site.assert_equal()

    # Released, it is known by this name: sites after this one would be doubted in their turn.
    site.vcenter.simulator.govc("object.rename", f"/DC0/host/{RENAMED}", STOPPED)
    site.read_anew()
    site.assert_equal()
    assert alarms(site) == []
