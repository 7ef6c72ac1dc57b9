"""Every change in vCenter follows in OpenStack."""

import pytest

from tests.end_to_end.conftest import Company
from tests.support.waiting import eventually
from tools.demo.vcenter import NETWORK

pytestmark = pytest.mark.cloud


def test_virtual_machine_made_in_vcenter_appears_and_disappears(company: Company) -> None:
    company.make("appears", "-on=true")
    eventually(lambda: company.status("appears"), "ACTIVE")
    company.vcenter.govc("vm.destroy", "appears")
    eventually(lambda: company.server("appears"), None)


def test_power_changes_follow_and_nova_does_not_fight_them(company: Company) -> None:
    company.make_server("powered")
    company.vcenter.govc("vm.power", "-on", "powered")
    eventually(lambda: company.status("powered"), "ACTIVE")
    company.vcenter.govc("vm.power", "-suspend", "powered")
    eventually(lambda: company.status("powered"), "SUSPENDED")
    company.vcenter.govc("vm.power", "-on", "powered")
    eventually(lambda: company.status("powered"), "ACTIVE")
    company.vcenter.govc("vm.power", "-off", "powered")
    eventually(lambda: company.status("powered"), "SHUTOFF")
    assert company.power("powered") == "poweredOff"


def test_rename_follows(company: Company) -> None:
    server = company.make_server("before-rename")
    company.vcenter.govc("object.rename", "/dc1/vm/before-rename", "after-rename")
    eventually(lambda: company.status("after-rename"), "SHUTOFF")
    assert company.server("after-rename").id == server.id


def test_hardware_changes_follow(company: Company) -> None:
    company.make_server("grows")
    company.vcenter.govc("vm.change", "-vm", "grows", "-c", "4", "-m", "2048")
    eventually(lambda: company.server("grows").flavor["vcpus"], 4)
    assert company.server("grows").flavor["ram"] == 2048
    company.vcenter.govc("vm.disk.change", "-vm", "grows", "-size", "3G")
    eventually(lambda: company.server("grows").flavor["disk"], 3)


def test_network_adapters_follow(company: Company) -> None:
    company.make_server("wired")
    company.vcenter.govc("vm.network.add", "-vm", "wired", "-net", NETWORK)
    company.vcenter.govc(
        "vm.customize",
        *("-vm", "wired", "-type", "Linux", "-name", "wired", "-domain", "example.com"),
        *("-ip", "10.0.9.1", "-netmask", "255.255.255.0"),
        *("-ip", "10.0.9.2", "-netmask", "255.255.255.0", "-gateway", "10.0.9.254"),
    )
    company.vcenter.govc("vm.power", "-on", "wired")
    eventually(
        lambda: sorted(entry["addr"] for entry in company.server("wired").addresses[NETWORK]),
        ["10.0.9.1", "10.0.9.2"],
    )


def test_template_and_back_changes_tables_and_not_identity(company: Company) -> None:
    server = company.make_server("convertible")
    company.vcenter.govc("vm.markastemplate", "convertible")
    eventually(lambda: company.server("convertible"), None, seconds=120)
    eventually(lambda: company.openstack.image.find_image("convertible") is not None, True)
    company.vcenter.govc("vm.markasvm", "-pool", "/dc1/host/production/Resources", "convertible")
    eventually(lambda: company.status("convertible"), "SHUTOFF", seconds=120)
    assert company.server("convertible").id == server.id
    eventually(lambda: company.openstack.image.find_image("convertible"), None)


def test_move_to_another_cluster_keeps_the_server(company: Company) -> None:
    server = company.make_server("wanderer")
    company.vcenter.govc(
        "vm.migrate", "-host", "/dc1/host/test/DC0_C1_H0", "-pool", "/dc1/host/test/Resources",
        "wanderer",
    )  # fmt: skip
    other = company.server("build-1").compute_host
    eventually(lambda: company.server("wanderer").compute_host, other)
    assert company.server("wanderer").id == server.id
