"""What Nova does by itself never harms a virtual machine, and never contradicts vCenter.

One test a trap: each fails when the worker's settings, or what is written into Nova's rows, let
Nova go its own way.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from tests.support.demo_site import PLACE, DemoSite
from tests.support.waiting import eventually
from tools.demo import controlplane
from tools.demo.vcenter import NETWORK, TEMPLATE
from tools.servers.state import folder

pytestmark = pytest.mark.cloud

CLUSTER = "production"
ALL_TASKS_SECONDS = 150
"""Nova runs most of its periodic tasks each minute."""
BACK_SECONDS = 120
HEAL_SECONDS = 90
"""What Nova altered is found every 30 s."""
EAGER = """\
[DEFAULT]
debug = true
periodic_fuzzy_delay = 0
update_resources_interval = 2
scheduler_instance_sync_interval = 2
shelved_poll_interval = 2
bandwidth_poll_interval = 2
volume_usage_poll_interval = 2
instance_delete_interval = 2
reclaim_instance_interval = 2
"""
NEVER = {
    "_sync_power_states", "_cleanup_running_deleted_instances", "_heal_instance_info_cache",
    "_run_image_cache_manager_pass",
}  # fmt: skip
"""Periodic tasks of Nova's that would fight vCenter."""
MUST_HAVE_RUN = {
    "_check_instance_build_time", "_poll_rebooting_instances", "_poll_rescued_instances",
    "_poll_unconfirmed_resizes", "_poll_shelved_instances", "_reclaim_queued_deletes",
    "_run_pending_deletes", "_cleanup_incomplete_migrations", "update_available_resource",
}  # fmt: skip


def cluster() -> dict[str, Any]:
    """Return what the control plane says about the cluster."""
    (found,) = [one for one in controlplane.ask(PLACE, "clusters") if one["name"] == CLUSTER]
    return found


def kill_worker() -> None:
    """End the cluster's worker as a crash would, and wait for the next."""
    before = cluster()["worker_pid"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: cluster()["worker_pid"] not in ("", 0, before), True, BACK_SECONDS)


def powers(site: DemoSite, names: list[str]) -> dict[str, str | None]:
    return {name: site.power(name) for name in names}


def statuses(site: DemoSite, names: list[str]) -> dict[str, str | None]:
    return {name: site.status(name) for name in names}


@pytest.fixture
def eager_worker(site: DemoSite) -> Iterator[Path]:
    """The log of a worker that runs Nova's periodic tasks as often as Nova can."""
    host = cluster()["compute_host"]
    directory = folder(f"{PLACE}/state") / "workers" / host
    settings = directory / "conf.d" / "eager.conf"
    settings.write_text(EAGER)
    kill_worker()
    site.deployment.wait_for_workers(BACK_SECONDS)
    yield directory / "worker.log"
    settings.unlink()
    kill_worker()
    site.deployment.wait_for_workers(BACK_SECONDS)


@pytest.fixture
def machines(site: DemoSite) -> Iterator[list[str]]:
    """Servers in each state that lasts."""
    names = ["trap-on", "trap-off", "trap-suspended", "trap-switched-on"]
    for name in names:
        site.make(name, "-on=true")
    site.vcenter.govc("vm.power", "-off", "-force", "trap-off", "trap-switched-on")
    site.vcenter.govc("vm.power", "-suspend", "trap-suspended")
    wanted = ["ACTIVE", "SHUTOFF", "SUSPENDED", "SHUTOFF"]
    eventually(lambda: list(statuses(site, names).values()), wanted)
    yield names
    for name in names:
        site.vcenter.govc("vm.destroy", name)
    eventually(lambda: [site.server(name) for name in names], [None] * len(names), 60)


def operations() -> set[str]:
    """Return the ids of the latest operations."""
    return {one["operation_id"] for one in controlplane.ask(PLACE, "operations")}


def tasks_run(log: Path, offset: int) -> set[str]:
    """Return the periodic tasks that a worker has run since its log was so long."""
    with log.open(errors="replace") as file:
        file.seek(offset)
        return set(re.findall(r"Running periodic task ComputeManager\.(\w+)", file.read()))


def test_edge_that_is_away_for_long_leaves_every_server_as_it_was(
    site: DemoSite, eager_worker: Path, machines: list[str]
) -> None:
    before = statuses(site, machines)
    asked = operations()
    site.deployment.edge.stop()
    try:
        site.vcenter.govc("vm.power", "-on", "trap-switched-on")
        eventually(lambda: cluster()["state"], "offline", ALL_TASKS_SECONDS)
        start = eager_worker.stat().st_size
        eventually(lambda: MUST_HAVE_RUN - tasks_run(eager_worker, start), set(), ALL_TASKS_SECONDS)
        assert not NEVER & tasks_run(eager_worker, 0)
        assert statuses(site, machines) == before
        (service,) = site.openstack.compute.services(
            host=cluster()["compute_host"], binary="nova-compute"
        )
        assert (service.status, service.state) == ("disabled", "up")
        assert " offline since " in service.disabled_reason
    finally:
        site.deployment.edge.start()
        site.deployment.wait_for_workers(BACK_SECONDS)
    eventually(lambda: site.status("trap-switched-on"), "ACTIVE")
    assert statuses(site, machines) == {**before, "trap-switched-on": "ACTIVE"}
    assert powers(site, machines) == {
        "trap-on": "poweredOn",
        "trap-off": "poweredOff",
        "trap-suspended": "suspended",
        "trap-switched-on": "poweredOn",
    }
    assert operations() == asked, "nothing was asked of vCenter"


@pytest.fixture
def service_down(site: DemoSite) -> Iterator[None]:
    """To Nova's API the compute service of the cluster is down, as after a crash of its host."""
    compute = site.openstack.compute
    (service,) = compute.services(host=cluster()["compute_host"], binary="nova-compute")
    compute.update_service_forced_down(service, forced=True)
    yield
    compute.update_service_forced_down(service, forced=False)


def alarms() -> list[dict[str, Any]]:
    return [
        one for one in controlplane.ask(PLACE, "quarantine") if one["reason"] == "UNRECORDED_DELETE"
    ]


def test_row_that_nova_deleted_while_the_machine_lives_comes_back_and_nothing_is_destroyed(
    site: DemoSite, service_down: None
) -> None:
    site.make("trap-row", "-on=true")
    eventually(lambda: site.status("trap-row"), "ACTIVE")
    server = site.server("trap-row")
    site.openstack.compute.delete_server(server)
    eventually(lambda: site.server("trap-row"), None, 10)
    kill_worker()  # the next one looks for machines whose rows are deleted
    eventually(lambda: site.status("trap-row"), "ACTIVE", HEAL_SECONDS)
    assert site.server("trap-row").id == server.id
    assert site.power("trap-row") == "poweredOn"
    (alarm,) = alarms()
    assert server.id in alarm["message"]
    asked = {one["instance_uuid"] for one in controlplane.ask(PLACE, "operations")}
    assert server.id not in asked, "no delete reached vCenter"
    release(alarm["object"])
    eventually(alarms, [], 60)
    site.vcenter.govc("vm.destroy", "trap-row")
    eventually(lambda: site.server("trap-row"), None, 60)


def release(alarm: str) -> None:
    """Release an alarm, as a person does."""
    config = folder(PLACE) / "controlplane.conf"
    subprocess.run(
        [controlplane.PROGRAM, "quarantine", "--config-file", config, "--release", alarm],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def addressed(site: DemoSite) -> Iterator[str]:
    """A running server with an address that Neutron does not know."""
    name = "trap-addressed"
    site.make(name)
    site.vcenter.govc(
        "vm.customize", "-vm", name, "-type", "Linux", "-name", name, "-domain", "example.com",
        "-ip", "10.0.9.9", "-netmask", "255.255.255.0", "-gateway", "10.0.9.254",
    )  # fmt: skip
    site.vcenter.govc("vm.power", "-on", name)
    eventually(lambda: addresses(site, name), ["10.0.9.9"])
    eventually(lambda: site.status(name), "ACTIVE")
    yield name
    site.vcenter.govc("vm.destroy", name)
    eventually(lambda: site.server(name), None, 60)


def addresses(site: DemoSite, name: str) -> list[str]:
    server = site.server(name)
    return [entry["addr"] for entry in server.addresses.get(NETWORK, [])] if server else []


def test_addresses_of_an_adopted_machine_survive_a_start_and_a_reboot(
    site: DemoSite, addressed: str
) -> None:
    compute, server = site.openstack.compute, site.server(addressed)
    compute.stop_server(server)
    eventually(lambda: site.status(addressed), "SHUTOFF")
    compute.start_server(server)
    eventually(lambda: site.status(addressed), "ACTIVE")
    eventually(lambda: addresses(site, addressed), ["10.0.9.9"], HEAL_SECONDS)
    compute.reboot_server(server, "HARD")
    eventually(lambda: site.status(addressed), "ACTIVE", 60)
    eventually(lambda: addresses(site, addressed), ["10.0.9.9"], HEAL_SECONDS)


def test_rename_in_openstack_does_not_last_because_it_reaches_no_driver(
    site: DemoSite, addressed: str
) -> None:
    server = site.server(addressed)
    site.openstack.compute.update_server(server, name="only-in-openstack")
    eventually(lambda: site.server(addressed) is not None, True, HEAL_SECONDS)
    assert site.server(addressed).id == server.id


ACTIONS: dict[str, dict[str, Any]] = {
    "pause": {"pause": None},
    "rescue": {"rescue": {}},
    "shelve": {"shelve": None},
    "migrate": {"migrate": None},
    "live migration": {"os-migrateLive": {"host": None, "block_migration": "auto"}},
    "resize": {"resize": {"flavorRef": "m1.medium"}},
    "rebuild": {"rebuild": {"imageRef": TEMPLATE}},
    "image": {"createImage": {"name": "trap-image"}},
    "console": {"os-getConsoleOutput": {}},
    "password": {"changePassword": {"adminPass": "trap"}},
    "crash dump": {"trigger_crash_dump": None},
    "backup": {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}},
}


def body_of(connection: openstack.connection.Connection, action: str) -> str:
    """Return the request of an action, with the ids of this cloud in it."""
    text = json.dumps(ACTIONS[action])
    text = text.replace("m1.medium", connection.compute.find_flavor("m1.medium").id)
    return text.replace(TEMPLATE, connection.image.find_image(TEMPLATE).id)


@pytest.fixture(scope="module")
def victim(site: DemoSite) -> Iterator[str]:
    """One running server for all actions that nobody offers."""
    site.make("trap-actions", "-on=true")
    eventually(lambda: site.status("trap-actions"), "ACTIVE")
    yield "trap-actions"
    site.vcenter.govc("vm.destroy", "trap-actions")
    eventually(lambda: site.server("trap-actions"), None, 60)


@pytest.fixture
def healthy(site: DemoSite, victim: str) -> Iterator[str]:
    """The same server, whatever the test before left of it."""
    yield victim
    if site.status(victim) == "ERROR":
        site.openstack.compute.reset_server_state(site.server(victim), "active")


@pytest.mark.parametrize("action", ACTIONS)
def test_action_that_is_not_offered_changes_neither_server_nor_machine(
    site: DemoSite, healthy: str, action: str
) -> None:
    before, machine = site.server(healthy), machine_of(site, healthy)
    site.openstack.compute.post(
        f"/servers/{before.id}/action",
        data=body_of(site.openstack, action),
        headers={"Content-Type": "application/json"},
    )
    eventually(lambda: site.server(healthy).task_state, None, 60)
    if action == "rescue":  # Nova's own doing, whatever a driver raises
        eventually(lambda: site.status(healthy), "ERROR")
    after = site.server(healthy)
    expected = "ERROR" if action == "rescue" else "ACTIVE"
    assert (after.status, after.compute_host) == (expected, before.compute_host)
    assert after.flavor == before.flavor
    assert machine_of(site, healthy) == machine
    answer = site.openstack.placement.get(f"/allocations/{before.id}").json()
    (resources,) = [entry["resources"] for entry in answer["allocations"].values()]
    assert (resources["VCPU"], resources["MEMORY_MB"]) == (1, 512)


def machine_of(site: DemoSite, name: str) -> tuple[Any, ...]:
    """Return what tells whether a virtual machine is the same as before."""
    (found,) = site.vcenter.govc_json("vm.info", name)["virtualMachines"]
    hardware = found["config"]["hardware"]
    return (
        found["self"]["value"],
        found["config"]["instanceUuid"],
        found["runtime"]["powerState"],
        hardware["numCPU"],
        hardware["memoryMB"],
        len(hardware["device"]),
        found["config"].get("files", {}).get("vmPathName"),
    )
