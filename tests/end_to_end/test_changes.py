"""Every change in vCenter follows in OpenStack."""

import pytest

from tests.support.demo_site import DemoSite
from tests.support.waiting import eventually
from tools.demo.vcenter import NETWORK

pytestmark = pytest.mark.cloud


def test_virtual_machine_made_in_vcenter_appears_and_disappears(site: DemoSite) -> None:
    site.make("appears", "-on=true")
    eventually(lambda: site.status("appears"), "ACTIVE")
    site.vcenter.govc("vm.destroy", "appears")
    eventually(lambda: site.server("appears"), None)


def test_power_changes_follow_and_nova_does_not_fight_them(site: DemoSite) -> None:
    site.make_server("powered")
    site.vcenter.govc("vm.power", "-on", "powered")
    eventually(lambda: site.status("powered"), "ACTIVE")
    site.vcenter.govc("vm.power", "-suspend", "powered")
    eventually(lambda: site.status("powered"), "SUSPENDED")
    site.vcenter.govc("vm.power", "-on", "powered")
    eventually(lambda: site.status("powered"), "ACTIVE")
    site.vcenter.govc("vm.power", "-off", "powered")
    eventually(lambda: site.status("powered"), "SHUTOFF")
    assert site.power("powered") == "poweredOff"


def test_rename_follows(site: DemoSite) -> None:
    server = site.make_server("before-rename")
    site.vcenter.govc("object.rename", "/dc1/vm/before-rename", "after-rename")
    eventually(lambda: site.status("after-rename"), "SHUTOFF")
    assert site.server("after-rename").id == server.id


def test_hardware_changes_follow(site: DemoSite) -> None:
    site.make_server("grows")
    site.vcenter.govc("vm.change", "-vm", "grows", "-c", "4", "-m", "2048")
    eventually(lambda: site.server("grows").flavor["vcpus"], 4)
    assert site.server("grows").flavor["ram"] == 2048
    site.vcenter.govc("vm.disk.change", "-vm", "grows", "-size", "3G")
    eventually(lambda: site.server("grows").flavor["disk"], 3)


def test_network_adapters_follow(site: DemoSite) -> None:
    site.make_server("wired")
    site.vcenter.govc("vm.network.add", "-vm", "wired", "-net", NETWORK)
    site.vcenter.govc(
        "vm.customize",
        *("-vm", "wired", "-type", "Linux", "-name", "wired", "-domain", "example.com"),
        *("-ip", "10.0.9.1", "-netmask", "255.255.255.0"),
        *("-ip", "10.0.9.2", "-netmask", "255.255.255.0", "-gateway", "10.0.9.254"),
    )
    site.vcenter.govc("vm.power", "-on", "wired")
    eventually(
        lambda: sorted(entry["addr"] for entry in site.server("wired").addresses[NETWORK]),
        ["10.0.9.1", "10.0.9.2"],
    )


def test_template_and_back_changes_tables_and_not_identity(site: DemoSite) -> None:
    server = site.make_server("convertible")
    site.vcenter.govc("vm.markastemplate", "convertible")
    eventually(lambda: site.server("convertible"), None, seconds=120)
    eventually(lambda: site.openstack.image.find_image("convertible") is not None, True)
    site.vcenter.govc("vm.markasvm", "-pool", "/dc1/host/production/Resources", "convertible")
    eventually(lambda: site.status("convertible"), "SHUTOFF", seconds=120)
    assert site.server("convertible").id == server.id
    eventually(lambda: site.openstack.image.find_image("convertible"), None)


def test_move_to_another_cluster_keeps_the_server(site: DemoSite) -> None:
    server = site.make_server("wanderer")
    site.vcenter.govc(
        "vm.migrate", "-host", "/dc1/host/test/DC0_C1_H0", "-pool", "/dc1/host/test/Resources",
        "wanderer",
    )  # fmt: skip
    other = site.server("build-1").compute_host
    eventually(lambda: site.server("wanderer").compute_host, other)
    assert site.server("wanderer").id == server.id
