"""What runs in vCenter is in OpenStack, as `openstack` shows it."""

import pytest

from tests.support.demo_site import DemoSite
from tools.demo.vcenter import MACHINES, NETWORK, TEMPLATE, Machine

pytestmark = pytest.mark.cloud


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_virtual_machine_is_a_server_with_its_hardware_and_address(
    site: DemoSite, machine: Machine
) -> None:
    server = site.server(machine.name)
    assert server.status == "ACTIVE"
    assert server.power_state == 1
    assert server.flavor["vcpus"] == machine.cpus
    assert server.flavor["ram"] == machine.memory_mb
    assert server.flavor["disk"] == machine.disk_gb
    assert [entry["addr"] for entry in server.addresses[NETWORK]] == [machine.address]
    assert server.launched_at
    assert server.availability_zone == "nova"


def test_server_id_is_the_instance_uuid(site: DemoSite) -> None:
    info = site.vcenter.govc_json("vm.info", "web-1")["virtualMachines"][0]
    assert site.server("web-1").id == info["config"]["instanceUuid"]


def test_server_names_its_vcenter_object(site: DemoSite) -> None:
    info = site.vcenter.govc_json("vm.info", "web-1")["virtualMachines"][0]
    assert info["self"]["value"] in site.server("web-1").metadata.values()


def test_every_cluster_is_an_enabled_compute_service(site: DemoSite) -> None:
    services = {
        service.host: service for service in site.openstack.compute.services(binary="nova-compute")
    }
    hosts = {site.server(machine.name).compute_host for machine in MACHINES}
    assert len(hosts) == 2
    for host in hosts:
        assert (services[host].status, services[host].state) == ("enabled", "up")


def test_hypervisor_has_the_clusters_real_totals(site: DemoSite) -> None:
    host = site.server("web-1").compute_host
    cluster = site.vcenter.govc_json("object.collect", "/dc1/host/production", "summary")
    summary = cluster[0]["val"]
    hypervisors = site.openstack.compute.hypervisors(details=True, with_servers=False)
    found = [each for each in hypervisors if each.service_details["host"] == host]
    assert len(found) == 1
    placement = site.openstack.placement
    inventories = placement.get(f"/resource_providers/{found[0].id}/inventories").json()
    total = {name: entry["total"] for name, entry in inventories["inventories"].items()}
    assert total["VCPU"] == summary["numCpuThreads"]
    # Each host's memory is cut to whole MiB.
    assert 0 <= (summary["totalMemory"] >> 20) - total["MEMORY_MB"] < summary["numHosts"]


def test_every_server_has_its_allocation(site: DemoSite) -> None:
    for machine in MACHINES:
        server = site.server(machine.name)
        answer = site.openstack.placement.get(f"/allocations/{server.id}").json()
        (resources,) = [entry["resources"] for entry in answer["allocations"].values()]
        assert resources["VCPU"] == machine.cpus
        assert resources["MEMORY_MB"] == machine.memory_mb


def test_template_is_a_protected_image(site: DemoSite) -> None:
    image = site.openstack.image.find_image(TEMPLATE)
    assert image.status == "active"
    assert image.size == 8 << 30
    assert image.disk_format == "vmdk"
    assert image.is_protected
    assert image.properties.get("hypervisor_type", image.hypervisor_type) == "vmware"
