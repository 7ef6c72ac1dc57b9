"""OpenStack's actions become vCenter tasks."""

import re

import pytest

from tests.end_to_end.conftest import Company
from tests.support.waiting import eventually
from tools.demo.vcenter import TEMPLATE

pytestmark = pytest.mark.cloud


@pytest.fixture
def started(company: Company, request: pytest.FixtureRequest) -> str:
    """Name of a running server of the test's own, made in vCenter."""
    name = re.sub(r"\W+|_", "-", request.node.name)[-60:].strip("-")
    company.make(name, "-on=true")
    eventually(lambda: company.status(name), "ACTIVE")
    return name


def test_stop_and_start(company: Company, started: str) -> None:
    server = company.server(started)
    company.openstack.compute.stop_server(server)
    eventually(lambda: company.status(started), "SHUTOFF")
    assert company.power(started) == "poweredOff"
    company.openstack.compute.start_server(server)
    eventually(lambda: company.status(started), "ACTIVE")
    assert company.power(started) == "poweredOn"


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_reboot_ends_active(company: Company, started: str, kind: str) -> None:
    company.openstack.compute.reboot_server(company.server(started), kind)
    eventually(lambda: company.server(started).task_state, None, seconds=90)
    assert company.status(started) == "ACTIVE"
    assert company.power(started) == "poweredOn"


def test_suspend_and_resume(company: Company, started: str) -> None:
    server = company.server(started)
    company.openstack.compute.suspend_server(server)
    eventually(lambda: company.status(started), "SUSPENDED")
    assert company.power(started) == "suspended"
    company.openstack.compute.resume_server(server)
    eventually(lambda: company.status(started), "ACTIVE")
    assert company.power(started) == "poweredOn"


def test_diagnostics_come_from_vcenter(company: Company, started: str) -> None:
    diagnostics = company.openstack.compute.get_server_diagnostics(company.server(started))
    assert diagnostics.state == "running"
    assert diagnostics.num_cpus == 1
    assert diagnostics.driver == "vmwareapi"


def test_delete_destroys_an_adopted_virtual_machine(company: Company, started: str) -> None:
    company.openstack.compute.delete_server(company.server(started))
    eventually(lambda: company.server(started), None, seconds=60)
    eventually(lambda: company.power(started), None)


def test_create_clones_a_template_and_delete_destroys_the_clone(company: Company) -> None:
    compute = company.openstack.compute
    flavor = compute.find_flavor("m1.small")
    image = company.openstack.image.find_image(TEMPLATE)
    server = compute.create_server(
        name="created", flavor_id=flavor.id, image_id=image.id, networks="none"
    )
    eventually(lambda: company.status("created"), "ACTIVE", seconds=120)
    info = company.vcenter.govc_json("vm.info", "created")["virtualMachines"][0]
    assert info["config"]["instanceUuid"] == server.id
    assert info["config"]["hardware"]["memoryMB"] == flavor.ram
    assert info["runtime"]["powerState"] == "poweredOn"
    compute.delete_server(server)
    eventually(lambda: company.server("created"), None, seconds=60)
    assert company.power("created") is None
