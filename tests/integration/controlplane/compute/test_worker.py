"""Nova's actions through a real nova-compute with our driver."""

import re
from typing import Any

import pytest

from tests.support.edge_side import OFF, ON, SUSPENDED, VCENTER
from tests.support.waiting import eventually
from tests.support.worker_site import PATIENCE, WorkerSite
from vsphere_gateway.v1 import operations_pb2

pytestmark = pytest.mark.cloud


def test_first_start_stands_virtual_machines_that_were_there_before(site: WorkerSite) -> None:
    assert site.supervisor.worker_status(site.row.uuid).state == "running"
    (hypervisor,) = site.openstack.compute.hypervisors(
        hypervisor_hostname_pattern=site.inventory.totals.hypervisor_hostname, details=True
    )
    assert hypervisor.id == site.row.compute_node_uuid
    assert hypervisor.hypervisor_type == "VMware vCenter Server"


def test_worker_s_log_has_no_errors(site: WorkerSite) -> None:
    lines = site.log.read_text().split("\n")
    assert [line for line in lines if re.search(r" (ERROR|CRITICAL) ", line)] == []


def test_create_stop_start_reboot_suspend_resume_delete(site: WorkerSite) -> None:
    compute = site.openstack.compute
    server = site.booted("whole-life")
    assert site.edge.power[server.id] == ON
    compute.stop_server(server)
    eventually(lambda: site.status(server), "SHUTOFF", seconds=PATIENCE)
    assert site.edge.power[server.id] == OFF
    compute.start_server(server)
    eventually(lambda: site.status(server), "ACTIVE", seconds=PATIENCE)
    for kind in ("SOFT", "HARD"):
        compute.reboot_server(server, kind)
        eventually(lambda: site.status(server), "ACTIVE", seconds=PATIENCE)
    compute.suspend_server(server)
    eventually(lambda: site.status(server), "SUSPENDED", seconds=PATIENCE)
    assert site.edge.power[server.id] == SUSPENDED
    compute.resume_server(server)
    eventually(lambda: site.status(server), "ACTIVE", seconds=PATIENCE)
    assert site.edge.power[server.id] == ON
    compute.delete_server(server)
    eventually(lambda: site.gone(server), True, seconds=PATIENCE)
    assert server.id not in site.edge.power
    assert site.history.delete_recorded(server.id)
    actions = [
        one.action for one in reversed(site.history.recent()) if one.instance_uuid == server.id
    ]
    assert actions == [
        *("clone_virtual_machine", "power_off", "power_on", "reboot", "reboot", "suspend"),
        *("power_on", "destroy"),
    ]


def test_operations_carry_the_request_id_that_the_user_got(site: WorkerSite) -> None:
    server = site.booted("request-id")
    response = site.openstack.compute.post(f"/servers/{server.id}/action", json={"os-stop": None})
    eventually(lambda: site.status(server), "SHUTOFF", seconds=PATIENCE)
    assert site.history.recent(1)[0].request_id == response.headers["x-openstack-request-id"]


def test_diagnostics(site: WorkerSite) -> None:
    server = site.booted("diagnostics")
    diagnostics = site.openstack.compute.get_server_diagnostics(server)
    assert (diagnostics.state, diagnostics.driver) == ("running", "vmwareapi")


def test_diagnostics_while_the_edge_is_away_say_so(site: WorkerSite) -> None:
    server = site.booted("no-diagnostics")
    site.edge.break_link()
    response = site.openstack.compute.get(f"/servers/{server.id}/diagnostics")
    assert response.status_code == 409
    assert "edge-1 is offline" in response.text


@pytest.fixture
def away(site: WorkerSite) -> Any:
    """The edge is away, and Nova has been told."""
    site.edge.break_link()
    site.supervisor.edge_offline(VCENTER, "edge-1", 1_800_000_000.0)
    eventually(lambda: site.service.status, "disabled", seconds=PATIENCE)
    yield
    site.edge.reconnect()
    site.supervisor.edge_online(VCENTER, "edge-1")
    eventually(site.settled, True, seconds=PATIENCE)


def test_delete_while_the_edge_is_away_keeps_server_and_machine_until_it_is_back(
    site: WorkerSite,
) -> None:
    server = site.booted("kept")
    site.edge.break_link()
    site.openstack.compute.delete_server(server)
    eventually(lambda: site.status(server), "ERROR", seconds=PATIENCE)
    assert "edge-1 is offline" in site.fault(server)
    assert site.edge.power[server.id] == ON
    assert not site.history.delete_recorded(server.id)
    site.edge.reconnect()
    assert site.edge.power[server.id] == ON, "a ledger that remembers no deletes does nothing later"
    site.openstack.compute.delete_server(server)
    eventually(lambda: site.gone(server), True, seconds=PATIENCE)
    assert server.id not in site.edge.power


def test_delete_that_vcenter_refuses_keeps_the_server_with_the_reason(site: WorkerSite) -> None:
    server = site.booted("refused")
    site.edge.faults["destroy"] = operations_pb2.FAULT_REASON_DISK_IN_USE
    site.openstack.compute.delete_server(server)
    eventually(lambda: site.status(server), "ERROR", seconds=PATIENCE)
    assert "FAULT_REASON_DISK_IN_USE happened; see vCenter" in site.fault(server)


def test_stop_while_the_edge_is_away_leaves_the_server_as_it_is(site: WorkerSite) -> None:
    server = site.booted("not-stopped")
    site.edge.break_link()
    site.openstack.compute.stop_server(server)
    eventually(lambda: "edge-1 is offline" in site.why(server, "stop"), True, seconds=PATIENCE)
    assert site.settled_status(server) == "ACTIVE"


def test_service_says_since_when_the_edge_is_away_and_new_servers_fail_at_once(
    site: WorkerSite, away: None
) -> None:
    reason = site.service.disabled_reason
    assert reason == "AUTO: edge edge-1 offline since 2027-01-15T08:00:00Z"
    compute = site.openstack.compute
    server = compute.create_server(
        name="nowhere",
        flavor_id=compute.find_flavor("m1.small").id,
        image_id=site.image_id,
        networks="none",
        host=site.row.compute_host,
    )
    eventually(lambda: site.status(server), "ERROR", seconds=PATIENCE)
    assert "No valid host" in site.fault(server)
    compute.delete_server(server)
    eventually(lambda: site.gone(server), True, seconds=PATIENCE)


def test_build_whose_clone_fails_leaves_nothing_and_says_why(site: WorkerSite) -> None:
    site.edge.faults["clone_virtual_machine"] = operations_pb2.FAULT_REASON_NO_SPACE
    server = site.boot("no-room")
    eventually(lambda: site.status(server), "ERROR", seconds=PATIENCE)
    assert "FAULT_REASON_NO_SPACE happened" in site.fault(server)
    assert server.id not in site.edge.power


def test_rebuild_shelve_and_rescue_neither_destroy_nor_power_off(site: WorkerSite) -> None:
    server = site.booted("not-rebuilt")
    site.openstack.compute.rebuild_server(server, image=site.image_id, name="not-rebuilt")
    eventually(lambda: "cannot be rebuilt" in site.why(server, "rebuild"), True, seconds=PATIENCE)
    site.openstack.compute.shelve_server(server)
    eventually(lambda: "is not offered" in site.why(server, "shelve"), True, seconds=PATIENCE)
    assert site.settled_status(server) == "ACTIVE"
    site.openstack.compute.rescue_server(server)
    eventually(
        lambda: site.status(server), "ERROR", seconds=PATIENCE
    )  # Nova's own, whatever a driver raises
    assert "it is left running" in site.fault(server)
    assert site.edge.power[server.id] == ON


def test_stop_survives_a_restart_of_the_control_plane(site: WorkerSite) -> None:
    server = site.booted("survivor")
    site.edge.hold = {"power_off"}
    site.openstack.compute.stop_server(server)
    operation = site.edge.await_arrival("power_off", _count(site, "power_off") + 1)
    site.edge.accept(operation)
    site.edge.break_link()
    site.stop_bridge()
    site.edge.execute(operation)
    site.edge.hold = set()
    site.restart_bridge()
    site.edge.reconnect()
    eventually(lambda: site.status(server), "SHUTOFF", seconds=PATIENCE)
    assert site.edge.executed.count("power_off") == _count(site, "power_off")


def _count(site: WorkerSite, action: str) -> int:
    return len([1 for one in site.edge.received if one.WhichOneof("action") == action])


def test_worker_that_restarts_while_the_edge_is_away_forces_no_power_state(
    site: WorkerSite,
) -> None:
    running, stopped = site.booted("stays-on"), site.booted("stays-off")
    site.openstack.compute.stop_server(stopped)
    eventually(lambda: site.status(stopped), "SHUTOFF", seconds=PATIENCE)
    site.edge.power[stopped.id] = ON  # somebody powers it on in vCenter
    received = len(site.edge.received)
    site.edge.break_link()
    pid = site.supervisor.worker_status(site.row.uuid).pid
    site.supervisor._hosts[site.row.uuid].worker._process.kill()
    eventually(
        lambda: site.supervisor.worker_status(site.row.uuid).pid in (0, pid),
        False,
        seconds=PATIENCE,
    )
    eventually(lambda: site.supervisor.worker_status(site.row.uuid).state, "running", 120)
    site.edge.reconnect()
    eventually(lambda: site.service.state, "up", 90)
    actions = {one.WhichOneof("action") for one in site.edge.received[received:]}
    assert actions <= {"get_state"}
    assert site.edge.power[running.id] == site.edge.power[stopped.id] == ON
