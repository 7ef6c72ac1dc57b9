"""Virtual machines and templates: what is remembered of each, and what of it leaves the site.

Of a managed one the last state is kept, serialised, so that a change of one property makes a whole
object again; of any other only where it is, to notice when it comes under management.
"""

import dataclasses
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from common.references import VCENTER_KEY, Key, key_of, make_key, reference_of
from edge.interfaces import Managed
from edge.vcenter.client import values
from edge.vcenter.client.answers import Element, ObjectProperties
from edge.vcenter.client.property_specs import CHANGE_VERSION, VIRTUAL_MACHINE
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.parser import UnreadablePropertyError, apply_full_read, apply_properties
from edge.vcenter.collector.topology import Topology
from vsphere_gateway.v1 import inventory_pb2

NOT_RETURNED: Final = (
    "vCenter lists it and does not let the edge's user read it; give the user System.Read on it"
)
_TEMPLATE: Final = "config.template"


@dataclasses.dataclass(slots=True)
class Machine:
    """One virtual machine: where it is, its state, and what of it was reported."""

    host: Key = ""
    pool: Key = ""
    folder: Key = ""
    datastores: tuple[Key, ...] = ()
    is_template: bool = False
    change_version: str = ""
    """``config.changeVersion`` as last seen; empty while vCenter is still creating it."""
    state: bytes = b""
    """Its own properties as ``VirtualMachine``; empty while it is not managed."""
    detailed: bool = False
    """``state`` has the configuration too, as of ``change_version``."""
    devices_outdated: bool = False
    """Its power changed, and with it what is connected: no ``change_version`` says so."""
    problem: str = ""
    """Why it cannot be read, for a person; empty when it can."""
    managed: bool = False
    """It belongs to a managed cluster, or is a template on a managed datastore."""
    cluster: Key = ""
    """The compute resource that it was last found in."""
    counted_in: Key = ""
    """The folder that is reported because of it, empty while none is."""
    reported: int = 0
    """Hash of what was last reported, 0 if nothing is."""
    reported_problem: str = ""
    """The problem that was last reported."""

    @classmethod
    def first_seen(cls, found: ObjectProperties) -> "Machine":
        """Remember one that the watch shows for the first time, with everything watched."""
        machine = cls()
        machine.apply_place(found.values)
        machine._merge(found)
        return machine

    def message(self) -> inventory_pb2.VirtualMachine:
        """Parse the state into a message of the caller's own."""
        return inventory_pb2.VirtualMachine.FromString(self.state)

    def forget_state(self) -> None:
        """Keep only where it is."""
        self.state, self.detailed, self.problem = b"", False, ""
        self.devices_outdated = False
        self.reported, self.reported_problem = 0, ""

    def configuration(self) -> CachedConfiguration | None:
        """The configuration of a managed one; None unless it is known and complete."""
        if not self.managed or self.problem or not self.detailed or not self.change_version:
            return None
        return CachedConfiguration(self.change_version, self.state)

    def apply_place(self, properties: Mapping[str, Element | None]) -> None:
        """Apply what says where it is, what it is, and in which version."""
        if "runtime.host" in properties:
            self.host = _key(properties["runtime.host"])
        if "resourcePool" in properties:
            self.pool = _key(properties["resourcePool"])
        if "parent" in properties:
            self.folder = _key(properties["parent"])
        if "datastore" in properties:
            datastores = properties["datastore"]
            self.datastores = () if datastores is None else tuple(map(_key, datastores))
        template = properties.get(_TEMPLATE)
        if template is not None:
            self.is_template = values.text(template) == "true"
        version = properties.get(CHANGE_VERSION)
        if version is not None and version.text != self.change_version:
            self.change_version = version.text or ""
            self.detailed = False

    def apply_update(self, found: ObjectProperties) -> bool:
        """Apply what the watch says has changed; whether that is news.

        A problem stays until a read shows that it is gone.
        """
        before = dataclasses.replace(self)
        self.apply_place(found.values)
        if self.state:
            self._merge(found)
        return self != before

    def apply_read(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        """Apply what a read of the paths ``asked``, the configuration among them, returned."""
        self.apply_place(found.values)
        body = self.message()
        try:
            apply_full_read(found.key, body, found.values, asked, found.missing)
        except UnreadablePropertyError as error:
            self.problem = str(error)
        else:
            self.problem = _incomplete(body, found)
        self.state = body.SerializeToString()
        self.detailed, self.devices_outdated = True, False

    def apply_cached(
        self, found: ObjectProperties, cached: CachedConfiguration, *, any_power: bool = False
    ) -> bool:
        """Make a state of what is watched and a known configuration; False if that has changed.

        With ``any_power`` its power may have changed; which of its devices are connected is then as
        it was before.
        """
        self.apply_place(found.values)
        if self.change_version != cached.change_version:
            return False
        try:
            body = inventory_pb2.VirtualMachine.FromString(cached.state)
            power_state = body.power_state
            apply_full_read(found.key, body, found.values, VIRTUAL_MACHINE.watched, found.missing)
        except (DecodeError, UnreadablePropertyError):
            return False
        if body.power_state != power_state and not any_power:
            return False
        self.state, self.detailed = body.SerializeToString(), True
        return True

    def differs(self, found: ObjectProperties, asked: Sequence[str]) -> bool:
        """Whether what a read of ``asked`` returned differs from what is remembered.

        What could not be read the last time differs by definition.
        """
        if self.problem or not self.change_version:
            return True
        placed = dataclasses.replace(self)
        placed.apply_place(found.values)
        if placed != self:
            return True
        if not self.state:
            return False
        before, after = self.message(), self.message()
        try:
            apply_full_read(found.key, after, found.values, asked, found.missing)
        except UnreadablePropertyError:
            return True
        return bool(before != after)

    def _merge(self, found: ObjectProperties) -> None:
        body = self.message()
        power_state = body.power_state
        try:
            apply_properties(found.key, body, found.values)
        except UnreadablePropertyError as error:
            self.problem = str(error)
        self.state = body.SerializeToString()
        if body.power_state != power_state:
            self.devices_outdated = True


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
    """Makes inventory objects of virtual machines, for the control plane.

    Adds what an object's own properties do not say: its cluster, the network behind a port group
    key, names of custom attributes, tags, and whether the site protects it. Removes every reference
    to what no managed cluster has. Other objects leave the site as the parser made them.
    """

    topology: Topology
    managed: Managed
    appliances: Appliances
    attribute_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of custom attributes by the number of their definition."""
    tags: Mapping[Key, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Sorted ``category:name`` by virtual machine."""

    def virtual_machine(self, key: Key, remembered: Machine) -> inventory_pb2.InventoryObject:
        """Make the object of a managed virtual machine or template."""
        machine = remembered.message()
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
        if remembered.is_template:
            self._hide_unmanaged(machine)
        made = inventory_pb2.InventoryObject(reference=reference_of(key))
        getattr(made, "template" if remembered.is_template else "virtual_machine").CopyFrom(machine)
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


def _key(element: Element | None) -> Key:
    if element is None or not element.text:
        return ""
    return make_key(sys.intern(element.get("type", "")), element.text)


def _incomplete(body: inventory_pb2.VirtualMachine, found: ObjectProperties) -> str:
    if body.instance_uuid:
        return ""
    hidden = [f"{path} ({fault})" for path, fault in sorted(found.missing.items())]
    if hidden:
        return "vCenter does not show " + ", ".join(hidden[:3])
    return "vCenter shows no configuration of it (config.instanceUuid has no value)"


def _both_orders(machine_uuid: str) -> tuple[str, str]:
    """An SMBIOS UUID as vCenter may write it: firmware swaps bytes of its first fields."""
    try:
        parsed = uuid.UUID(machine_uuid)
    except ValueError:
        return (machine_uuid.lower(), machine_uuid.lower())
    return (str(parsed), str(uuid.UUID(bytes=parsed.bytes_le)))
