"""The one-machine OpenStack is what the product expects of an operator's."""

import configparser
import secrets

from tools.cloud.catalogue import NETWORK, connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import DEMO
from tools.progress import Steps


def test_starting_a_running_cloud_changes_nothing(cloud: Cloud) -> None:
    openstack = connect(cloud.layout)
    networks = [network.id for network in openstack.network.networks()]
    with Steps() as steps:
        cloud.up(steps)
    assert [network.id for network in openstack.network.networks()] == networks
    assert cloud.running()


def test_neutron_binds_a_port_on_a_host_it_has_never_heard_of(cloud: Cloud) -> None:
    network = connect(cloud.layout).network
    port = network.create_port(
        network_id=network.find_network(NETWORK).id,
        binding_host_id=f"cluster-{secrets.token_hex(4)}",
        device_id="0" * 32,
        device_owner="compute:nova",
    )
    try:
        assert port.binding_vif_type == "dvs"
    finally:
        network.delete_port(port)


def test_the_demo_user_sees_its_project_without_an_administrators_role(cloud: Cloud) -> None:
    demo = connect(cloud.layout, DEMO)
    assert demo.current_project.name == DEMO
    assert [network.name for network in demo.network.networks()] == [NETWORK]
    limits = demo.compute.get_limits().absolute
    assert (limits.instances, limits.total_cores) == (-1, -1)


def test_nova_conf_has_what_an_operators_has(cloud: Cloud) -> None:
    nova = configparser.ConfigParser(interpolation=None)
    nova.read(cloud.layout.nova_conf)
    assert nova["api_database"]["connection"].endswith("/nova_api?charset=utf8mb4")
    assert nova["DEFAULT"]["transport_url"].startswith("rabbit://")
    assert nova["notifications"]["notification_format"] == "both"
    assert nova["oslo_messaging_notifications"]["driver"] == "messagingv2"
    for section in ("placement", "neutron", "glance", "service_user"):
        assert nova[section]["auth_url"] == cloud.layout.auth_url
