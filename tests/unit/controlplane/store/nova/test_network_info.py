"""Adapters of virtual machines as Nova's cached interfaces."""

import json

from nova import objects
from nova.network import model

from controlplane.domain.records import NicRecord
from controlplane.store.nova.primitives import network_info

NIC = NicRecord("network", "VM Network", "00:50:56:00:00:01", "VirtualE1000", True, ("10.0.0.5",))
PORT = "0b0e9d4f-4b1c-4f5e-8a57-0d5c8f1e2a3b"


def test_nova_asks_neutron_for_no_port_of_an_adapter() -> None:
    """The scheduler does, for every port id of a server that it is to migrate."""
    objects.register_all()
    cache = objects.InstanceInfoCache(network_info=model.NetworkInfo.hydrate(network_info((NIC,))))
    spec = objects.RequestSpec()

    spec.ensure_network_information(objects.Instance(info_cache=cache))

    assert [one.port_id for one in spec.requested_networks] == [None]


def test_an_interface_with_an_id_of_its_own_is_written_again() -> None:
    """As a version before this one made them."""
    [former] = json.loads(network_info((NIC,)))
    former["id"] = "8b9a37b4-ab48-5b24-9b52-0a4c0f5a3f5b"

    assert network_info((NIC,), json.dumps([former])) == network_info((NIC,))


def test_an_interface_of_a_neutron_port_stays() -> None:
    [port] = json.loads(network_info((NIC,)))
    port["id"] = PORT

    assert json.loads(network_info((NIC,), json.dumps([port]))) == [port]
