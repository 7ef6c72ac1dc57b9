"""Virtual machines as they leave the site.

Adds what an object's own properties do not say: a virtual machine's cluster, the network behind a
port group key, names of custom attributes, tags, and whether the site protects it. Removes every
reference to what no managed cluster has. Other objects leave the site as the parser made them.
"""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence

from common.references import VCENTER_KEY, Key, key_of, reference_of
from edge.interfaces import Managed
from edge.vcenter.collector.topology import Topology
from vsphere_gateway.v1 import inventory_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Appliances:
    """By what this edge's own virtual machine and vCenter's are recognised."""

    machine_uuid: str = ""
    """SMBIOS UUID of the machine that the edge runs on, empty when it cannot be read."""
    vcenter_hostname: str = ""
    """The DNS name by which the site's configuration calls vCenter."""
    vcenter_addresses: frozenset[str] = frozenset()
    """Its addresses, loopback left out."""

    def include(self, machine: inventory_pb2.VirtualMachine) -> bool:
        """Whether a virtual machine is one of the two."""
        if self.machine_uuid and machine.bios_uuid in _both_orders(self.machine_uuid):
            return True
        hostname = machine.guest_hostname.lower()
        if hostname and hostname == self.vcenter_hostname.lower():
            return True
        return any(
            address in self.vcenter_addresses
            for nic in machine.nics
            for address in nic.ip_addresses
        )


@dataclasses.dataclass(slots=True)
class Serializer:
    """Makes inventory objects of virtual machines, for the control plane."""

    topology: Topology
    managed: Managed
    appliances: Appliances
    attribute_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of custom attributes by the number of their definition."""
    tags: Mapping[Key, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Sorted ``category:name`` by virtual machine."""

    def virtual_machine(
        self, key: Key, machine: inventory_pb2.VirtualMachine, *, is_template: bool
    ) -> inventory_pb2.InventoryObject:
        """Make the object of a managed virtual machine or template. Changes ``machine``."""
        managed = self.topology.managed
        cluster = self.topology.owner_of(key_of(machine.resource_pool), key_of(machine.host))
        machine.protected_by_site = (
            self.appliances.include(machine)
            or self.managed.name_is_read_only(machine.name)
            or self._is_in_read_only_folder(machine)
        )
        self._name_attributes(machine)
        machine.tags.extend(self.tags.get(key, ()))
        for nic in machine.nics:
            network = managed.portgroups.get(nic.portgroup_key)
            if network is not None:
                nic.network.CopyFrom(reference_of(network))
                nic.portgroup_key = ""
        if cluster in managed.clusters:
            machine.cluster.CopyFrom(reference_of(cluster))
        if is_template:
            self._hide_unmanaged(machine)
        made = inventory_pb2.InventoryObject(reference=reference_of(key))
        getattr(made, "template" if is_template else "virtual_machine").CopyFrom(machine)
        return made

    def _is_in_read_only_folder(self, machine: inventory_pb2.VirtualMachine) -> bool:
        if not self.managed.read_only_folders:
            return False
        path = self.topology.folder_path(key_of(machine.folder))
        return self.managed.folder_is_read_only(path)

    def _name_attributes(self, machine: inventory_pb2.VirtualMachine) -> None:
        named = [
            inventory_pb2.NamedValue(name=self.attribute_names[each.name], value=each.value)
            for each in machine.custom_attributes
            if each.name in self.attribute_names
        ]
        del machine.custom_attributes[:]
        machine.custom_attributes.extend(sorted(named, key=lambda each: each.name))

    def _hide_unmanaged(self, template: inventory_pb2.VirtualMachine) -> None:
        """Remove what is not managed: a template on a managed datastore may be another host's."""
        managed = self.topology.managed
        if key_of(template.host) not in managed.hosts:
            template.ClearField("host")
        datastores = [each for each in template.datastores if key_of(each) in managed.datastores]
        del template.datastores[:]
        template.datastores.extend(datastores)
        for disk in template.disks:
            if key_of(disk.datastore) not in managed.datastores:
                disk.ClearField("datastore")
        for nic in template.nics:
            if key_of(nic.network) not in managed.networks:
                nic.ClearField("network")


def serialize_vcenter(vcenter: inventory_pb2.VCenter) -> inventory_pb2.InventoryObject:
    """Make the inventory object of the vCenter itself."""
    return inventory_pb2.InventoryObject(reference=reference_of(VCENTER_KEY), vcenter=vcenter)


def _both_orders(machine_uuid: str) -> tuple[str, str]:
    """An SMBIOS UUID as vCenter may write it: firmware swaps bytes of its first fields."""
    try:
        parsed = uuid.UUID(machine_uuid)
    except ValueError:
        return (machine_uuid.lower(), machine_uuid.lower())
    return (str(parsed), str(uuid.UUID(bytes=parsed.bytes_le)))
