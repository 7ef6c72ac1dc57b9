"""Edge, control plane or worker away for a while: nothing is forced, nothing is lost."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.demo_site import PLACE, DemoSite
from tests.support.waiting import eventually
from tools.demo import controlplane

pytestmark = pytest.mark.cloud

OFFLINE_SECONDS = 60
BACK_SECONDS = 120


def service_of(site: DemoSite, name: str) -> tuple[str, str]:
    """Return status and reason of the compute service that has a server."""
    host = site.server(name).compute_host
    (service,) = site.openstack.compute.services(host=host, binary="nova-compute")
    return service.status, service.disabled_reason or ""


def why(site: DemoSite, name: str, action: str) -> str:
    """Return what the server's last action of a kind shows as the reason of its failure."""
    compute, server = site.openstack.compute, site.server(name)
    found = [one for one in compute.server_actions(server) if one.action == action]
    if not found:
        return ""
    events = compute.get_server_action(found[0].request_id, server).events
    return " ".join(event["details"] or "" for event in events)


@pytest.fixture
def running(site: DemoSite) -> str:
    """A server that runs."""
    site.make("steady", "-on=true")
    eventually(lambda: site.status("steady"), "ACTIVE")
    return "steady"


@pytest.fixture(autouse=True)
def cleared(site: DemoSite) -> Iterator[None]:
    """Takes the test's virtual machine away."""
    yield
    if site.power("steady") is not None:
        site.vcenter.govc("vm.destroy", "steady")
    eventually(lambda: site.server("steady"), None, 60)


def test_edge_away_and_back(site: DemoSite, running: str) -> None:
    compute = site.openstack.compute
    site.deployment.edge.stop()
    try:
        compute.stop_server(site.server(running))
        eventually(lambda: "is offline" in why(site, running, "stop"), True)
        assert site.status(running) == "ACTIVE"
        eventually(lambda: service_of(site, running)[0], "disabled", OFFLINE_SECONDS)
        reason = service_of(site, running)[1]
        assert reason.startswith("AUTO: edge ")
        assert " offline since " in reason
        site.vcenter.govc("vm.power", "-off", "-force", running)
    finally:
        site.deployment.edge.start()
        site.deployment.wait_for_workers(BACK_SECONDS)
    assert service_of(site, running)[0] == "enabled"
    assert site.power(running) == "poweredOff", "what changed meanwhile is the truth"
    eventually(lambda: site.status(running), "SHUTOFF")


class Deleted:
    """A server that is deleted, and how its deletes stand.

    The simulator gives the machines of all tests here the same instance UUID.
    """

    def __init__(self, server_id: str) -> None:
        self.server_id = server_id
        self._earlier = len(self._all())

    def _all(self) -> list[str]:
        found = [one for one in controlplane.ask(PLACE, "operations") if one["action"] == "destroy"]
        return [one["state"] for one in reversed(found) if one["instance_uuid"] == self.server_id]

    def states(self) -> list[str]:
        """State of each delete, oldest first."""
        return self._all()[self._earlier :]


@pytest.fixture
def deleted(site: DemoSite, running: str) -> Iterator[Deleted]:
    """A server whose delete found the edge away, which still is."""
    server = site.server(running)
    deleted = Deleted(server.id)
    site.deployment.edge.stop()
    try:
        site.openstack.compute.delete_server(server)
        eventually(lambda: site.status(running), "ERROR")
        # Nova writes the fault after the state and before it ends the task.
        eventually(lambda: site.server(running).task_state, None)
        assert "carried out when the edge is back" in site.server(running).fault["message"]
        assert deleted.states() == ["deferred"]
        assert site.power(running) == "poweredOn"
        yield deleted
    finally:
        site.deployment.edge.start()
        site.deployment.wait_for_workers(BACK_SECONDS)


def test_delete_issued_while_the_edge_is_away_is_carried_out_when_it_is_back(
    site: DemoSite, running: str, deleted: Deleted
) -> None:
    site.deployment.edge.start()
    eventually(lambda: site.server(running), None, BACK_SECONDS)
    assert site.power(running) is None
    assert deleted.states() == ["done", "done"], "the one that was deferred, and the one of Nova"
    answer = site.openstack.placement.get(f"/allocations/{deleted.server_id}").json()
    assert answer["allocations"] == {}


def test_delete_is_withdrawn_when_somebody_used_the_server_before_the_edge_is_back(
    site: DemoSite, running: str, deleted: Deleted
) -> None:
    """A start in vCenter does the same; the simulator never sets runtime.bootTime, which tells."""
    site.openstack.compute.lock_server(deleted.server_id)
    try:
        site.deployment.edge.start()
        eventually(deleted.states, ["failed"], BACK_SECONDS)
    finally:
        # A lock is restored with the server, which the next run has again under the same UUID.
        site.openstack.compute.unlock_server(deleted.server_id)
    operation = controlplane.ask(PLACE, "operations")[0]
    assert operation["error"].startswith("not carried out: ")
    assert site.power(running) == "poweredOn"
    assert site.status(running) == "ERROR"


def test_control_plane_away_and_back(site: DemoSite, running: str) -> None:
    before = {server.id: server.status for server in site.openstack.compute.servers()}
    site.deployment.control_plane.stop()
    site.vcenter.govc("vm.power", "-off", "-force", running)
    site.deployment.control_plane.start()
    site.deployment.wait_for_workers(BACK_SECONDS)
    eventually(lambda: site.status(running), "SHUTOFF", 60)
    after = {server.id: server.status for server in site.openstack.compute.servers()}
    assert after.keys() == before.keys()
    site.openstack.compute.start_server(site.server(running))
    eventually(lambda: site.status(running), "ACTIVE", 90)
    assert site.power(running) == "poweredOn"


def test_worker_that_crashes_comes_back_and_forces_nothing(site: DemoSite, running: str) -> None:
    site.openstack.compute.stop_server(site.server(running))
    eventually(lambda: site.status(running), "SHUTOFF")
    workers = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    os.kill(workers["production"], signal.SIGKILL)
    site.vcenter.govc("vm.power", "-on", running)
    eventually(lambda: site.status(running), "ACTIVE", 60)
    site.deployment.wait_for_workers(BACK_SECONDS)
    pids = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    assert pids["production"] != workers["production"]
    assert site.power(running) == "poweredOn"
    assert site.status(running) == "ACTIVE"


def test_killed_control_plane_finds_its_workers_again_and_they_wait_for_it(
    site: DemoSite, running: str
) -> None:
    before = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    pid = site.deployment.control_plane.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    site.openstack.compute.stop_server(site.server(running))
    eventually(lambda: site.deployment.control_plane.pid, None)
    site.deployment.control_plane.start()
    site.deployment.wait_for_workers(BACK_SECONDS)
    after = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    assert after == before
    eventually(lambda: site.server(running).task_state, None, BACK_SECONDS)
    assert why(site, running, "stop") == ""
    eventually(lambda: site.status(running), "SHUTOFF")
    assert site.power(running) == "poweredOff"
