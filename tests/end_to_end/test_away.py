"""Edge, control plane or worker away for a while: nothing is forced, nothing is lost."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import PLACE, Company
from tests.support.waiting import eventually
from tools.demo import controlplane

pytestmark = pytest.mark.cloud

OFFLINE_SECONDS = 60
BACK_SECONDS = 120


def service_of(company: Company, name: str) -> tuple[str, str]:
    """Return status and reason of the compute service that has a server."""
    host = company.server(name).compute_host
    (service,) = company.openstack.compute.services(host=host, binary="nova-compute")
    return service.status, service.disabled_reason or ""


def why(company: Company, name: str, action: str) -> str:
    """Return what the server's last action of a kind shows as the reason of its failure."""
    compute, server = company.openstack.compute, company.server(name)
    found = [one for one in compute.server_actions(server) if one.action == action]
    if not found:
        return ""
    events = compute.get_server_action(found[0].request_id, server).events
    return " ".join(event["details"] or "" for event in events)


@pytest.fixture
def running(company: Company) -> str:
    """A server that runs."""
    company.make("steady", "-on=true")
    eventually(lambda: company.status("steady"), "ACTIVE")
    return "steady"


@pytest.fixture(autouse=True)
def cleared(company: Company) -> Iterator[None]:
    """Takes the test's virtual machine away."""
    yield
    if company.power("steady") is not None:
        company.vcenter.govc("vm.destroy", "steady")
    eventually(lambda: company.server("steady"), None, 60)


def test_edge_away_and_back(company: Company, running: str) -> None:
    compute = company.openstack.compute
    company.deployment.edge.stop()
    try:
        compute.stop_server(company.server(running))
        eventually(lambda: "is offline" in why(company, running, "stop"), True)
        assert company.status(running) == "ACTIVE"
        eventually(lambda: service_of(company, running)[0], "disabled", OFFLINE_SECONDS)
        reason = service_of(company, running)[1]
        assert reason.startswith("AUTO: edge ")
        assert " offline since " in reason
        company.vcenter.govc("vm.power", "-off", "-force", running)
    finally:
        company.deployment.edge.start()
        company.deployment.wait_for_workers(BACK_SECONDS)
    assert service_of(company, running)[0] == "enabled"
    assert company.power(running) == "poweredOff", "what changed meanwhile is the truth"
    eventually(lambda: company.status(running), "SHUTOFF")


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
def deleted(company: Company, running: str) -> Iterator[Deleted]:
    """A server whose delete found the edge away, which still is."""
    server = company.server(running)
    deleted = Deleted(server.id)
    company.deployment.edge.stop()
    try:
        company.openstack.compute.delete_server(server)
        eventually(lambda: company.status(running), "ERROR")
        # Nova writes the fault after the state and before it ends the task.
        eventually(lambda: company.server(running).task_state, None)
        assert "carried out when the edge is back" in company.server(running).fault["message"]
        assert deleted.states() == ["deferred"]
        assert company.power(running) == "poweredOn"
        yield deleted
    finally:
        company.deployment.edge.start()
        company.deployment.wait_for_workers(BACK_SECONDS)


def test_delete_issued_while_the_edge_is_away_is_carried_out_when_it_is_back(
    company: Company, running: str, deleted: Deleted
) -> None:
    company.deployment.edge.start()
    eventually(lambda: company.server(running), None, BACK_SECONDS)
    assert company.power(running) is None
    assert deleted.states() == ["done", "done"], "the one that was deferred, and the one of Nova"
    answer = company.openstack.placement.get(f"/allocations/{deleted.server_id}").json()
    assert answer["allocations"] == {}


def test_delete_is_withdrawn_when_somebody_used_the_server_before_the_edge_is_back(
    company: Company, running: str, deleted: Deleted
) -> None:
    """A start in vCenter does the same; the simulator never sets runtime.bootTime, which tells."""
    company.openstack.compute.lock_server(deleted.server_id)
    try:
        company.deployment.edge.start()
        eventually(deleted.states, ["failed"], BACK_SECONDS)
    finally:
        # A lock is restored with the server, which the next run has again under the same UUID.
        company.openstack.compute.unlock_server(deleted.server_id)
    operation = controlplane.ask(PLACE, "operations")[0]
    assert operation["error"].startswith("not carried out: ")
    assert company.power(running) == "poweredOn"
    assert company.status(running) == "ERROR"


def test_control_plane_away_and_back(company: Company, running: str) -> None:
    before = {server.id: server.status for server in company.openstack.compute.servers()}
    company.deployment.control_plane.stop()
    company.vcenter.govc("vm.power", "-off", "-force", running)
    company.deployment.control_plane.start()
    company.deployment.wait_for_workers(BACK_SECONDS)
    eventually(lambda: company.status(running), "SHUTOFF", 60)
    after = {server.id: server.status for server in company.openstack.compute.servers()}
    assert after.keys() == before.keys()
    company.openstack.compute.start_server(company.server(running))
    eventually(lambda: company.status(running), "ACTIVE", 90)
    assert company.power(running) == "poweredOn"


def test_worker_that_crashes_comes_back_and_forces_nothing(company: Company, running: str) -> None:
    company.openstack.compute.stop_server(company.server(running))
    eventually(lambda: company.status(running), "SHUTOFF")
    workers = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    os.kill(workers["production"], signal.SIGKILL)
    company.vcenter.govc("vm.power", "-on", running)
    eventually(lambda: company.status(running), "ACTIVE", 60)
    company.deployment.wait_for_workers(BACK_SECONDS)
    pids = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    assert pids["production"] != workers["production"]
    assert company.power(running) == "poweredOn"
    assert company.status(running) == "ACTIVE"


def test_killed_control_plane_finds_its_workers_again_and_they_wait_for_it(
    company: Company, running: str
) -> None:
    before = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    pid = company.deployment.control_plane.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    company.openstack.compute.stop_server(company.server(running))
    eventually(lambda: company.deployment.control_plane.pid, None)
    company.deployment.control_plane.start()
    company.deployment.wait_for_workers(BACK_SECONDS)
    after = {one["name"]: one["worker_pid"] for one in controlplane.ask(PLACE, "clusters")}
    assert after == before
    eventually(lambda: company.server(running).task_state, None, BACK_SECONDS)
    assert why(company, running, "stop") == ""
    eventually(lambda: company.status(running), "SHUTOFF")
    assert company.power(running) == "poweredOff"
