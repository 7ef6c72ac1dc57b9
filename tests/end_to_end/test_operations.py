"""OpenStack's actions become vCenter tasks."""

import re

import pytest

from tests.support.demo_site import DemoSite
from tests.support.waiting import eventually
from tools.demo.vcenter import TEMPLATE

pytestmark = pytest.mark.cloud


@pytest.fixture
def started(site: DemoSite, request: pytest.FixtureRequest) -> str:
    """Name of a running server of the test's own, made in vCenter."""
    name = re.sub(r"\W+|_", "-", request.node.name)[-60:].strip("-")
    site.make(name, "-on=true")
    eventually(lambda: site.status(name), "ACTIVE")
    return name


def test_stop_and_start(site: DemoSite, started: str) -> None:
    server = site.server(started)
    site.openstack.compute.stop_server(server)
    eventually(lambda: site.status(started), "SHUTOFF")
    assert site.power(started) == "poweredOff"
    site.openstack.compute.start_server(server)
    eventually(lambda: site.status(started), "ACTIVE")
    assert site.power(started) == "poweredOn"


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_reboot_ends_active(site: DemoSite, started: str, kind: str) -> None:
    site.openstack.compute.reboot_server(site.server(started), kind)
    eventually(lambda: site.server(started).task_state, None, seconds=90)
    assert site.status(started) == "ACTIVE"
    assert site.power(started) == "poweredOn"


def test_suspend_and_resume(site: DemoSite, started: str) -> None:
    server = site.server(started)
    site.openstack.compute.suspend_server(server)
    eventually(lambda: site.status(started), "SUSPENDED")
    assert site.power(started) == "suspended"
    site.openstack.compute.resume_server(server)
    eventually(lambda: site.status(started), "ACTIVE")
    assert site.power(started) == "poweredOn"


def test_diagnostics_come_from_vcenter(site: DemoSite, started: str) -> None:
    diagnostics = site.openstack.compute.get_server_diagnostics(site.server(started))
    assert diagnostics.state == "running"
    assert diagnostics.num_cpus == 1
    assert diagnostics.driver == "vmwareapi"


def test_delete_destroys_an_adopted_virtual_machine(site: DemoSite, started: str) -> None:
    site.openstack.compute.delete_server(site.server(started))
    eventually(lambda: site.server(started), None, seconds=60)
    eventually(lambda: site.power(started), None)


def test_create_clones_a_template_and_delete_destroys_the_clone(site: DemoSite) -> None:
    compute = site.openstack.compute
    flavor = compute.find_flavor("m1.small")
    image = site.openstack.image.find_image(TEMPLATE)
    server = compute.create_server(
        name="created", flavor_id=flavor.id, image_id=image.id, networks="none"
    )
    eventually(lambda: site.status("created"), "ACTIVE", seconds=120)
    info = site.vcenter.govc_json("vm.info", "created")["virtualMachines"][0]
    assert info["config"]["instanceUuid"] == server.id
    assert info["config"]["hardware"]["memoryMB"] == flavor.ram
    assert info["runtime"]["powerState"] == "poweredOn"
    compute.delete_server(server)
    eventually(lambda: site.server("created"), None, seconds=60)
    assert site.power("created") is None
