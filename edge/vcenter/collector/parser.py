"""vCenter's properties as inventory messages. Pure: XML elements in, protobuf out.

One function fills one field from one property. A full read and a single change go the same way:
the first starts from an empty message, the second from the object's last one.

What is derived from other objects (a virtual machine's cluster, its tags, names of custom
attributes, the network behind a port group key) is set by ``machines.Serializer``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from common.references import Key, reference_of
from edge.vcenter.client import values
from edge.vcenter.client.answers import VIM, Element, type_of
from edge.vcenter.collector.devices import set_addresses, set_devices
from vsphere_gateway.v1 import inventory_pb2

_GIB: Final = 1 << 30
_CONFIGURED: Final = "config.instanceUuid"

Message = Any
"""One of the bodies of ``InventoryObject``."""
Fill = Callable[[Message, Element | None], None]
"""Fills a field; None as the element means that vCenter has no value."""


class UnreadablePropertyError(ValueError):
    """A property's value does not have the type that the vSphere API specifies."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """How objects of one type become messages."""

    body: str
    """Field of ``InventoryObject.body``."""
    fills: Mapping[str, Fill]
    """By property path, in the order in which they are applied."""


def new_object(key: Key) -> inventory_pb2.InventoryObject:
    """Make an object of the kind that the key's type says, without any property."""
    created = inventory_pb2.InventoryObject(reference=reference_of(key))
    getattr(created, _kind(key).body).SetInParent()
    return created


def body_of(inventory_object: inventory_pb2.InventoryObject) -> Message:
    """The message in ``body``."""
    return getattr(inventory_object, inventory_object.WhichOneof("body") or "vcenter")


def apply_properties(key: Key, body: Message, properties: Mapping[str, Element | None]) -> None:
    """Fill ``body`` from ``properties``; a path that fills no field is ignored.

    Raises ``UnreadablePropertyError`` in the end, when all that can be read has been filled.
    """
    problems: list[str] = []
    for path, fill in _kind(key).fills.items():
        if path in properties:
            try:
                fill(body, properties[path])
            except (ValueError, TypeError) as error:
                problems.append(f"property {path}: {error}")
    if problems:
        raise UnreadablePropertyError("; ".join(problems))


def apply_full_read(
    key: Key,
    body: Message,
    properties: Mapping[str, Element | None],
    asked: Sequence[str],
    missing: Mapping[str, str],
) -> None:
    """Fill ``body`` from a read of the paths ``asked``: what it left out has no value.

    A path in ``missing`` could not be read and keeps what it had; so does the configuration of a
    virtual machine whose files vCenter cannot reach at the moment. Raises what
    ``apply_properties`` raises.
    """
    unknown = set(missing)
    if _CONFIGURED in asked and properties.get(_CONFIGURED) is None:
        unknown.update(path for path in asked if path.startswith("config."))
    complete = {path: properties.get(path) for path in asked if path not in unknown}
    apply_properties(key, body, complete)


def _kind(key: Key) -> _Kind:
    return _KINDS[key.partition(":")[0]]


def _optional(field: str, read: Callable[[Element], Any]) -> Fill:
    """Fill a scalar field; no value clears it."""

    def fill(body: Message, element: Element | None) -> None:
        if element is None:
            body.ClearField(field)
        else:
            setattr(body, field, read(element))

    return fill


def _kept(field: str, read: Callable[[Element], Any]) -> Fill:
    """Fill a scalar field that an object always has; vCenter hides it while a host is away."""

    def fill(body: Message, element: Element | None) -> None:
        if element is not None:
            setattr(body, field, read(element))

    return fill


def _message(field: str, read: Callable[[Element], Any]) -> Fill:
    """Fill a field that is a message; no value clears it."""

    def fill(body: Message, element: Element | None) -> None:
        value = None if element is None else read(element)
        body.ClearField(field)
        if value is not None:
            getattr(body, field).CopyFrom(value)

    return fill


def _repeated(field: str, read: Callable[[Element], list[Any]]) -> Fill:
    """Fill a repeated field; no value empties it."""

    def fill(body: Message, element: Element | None) -> None:
        body.ClearField(field)
        if element is not None:
            getattr(body, field).extend(read(element))

    return fill


def _enum(field: str, names: Mapping[str, int]) -> Fill:
    return _kept(field, lambda element: names.get(values.text(element), 0))


def _is(expected: str) -> Callable[[Element], bool]:
    return lambda element: values.text(element) == expected


def _devices(body: inventory_pb2.VirtualMachine, element: Element | None) -> None:
    if element is not None:
        set_devices(body, element)


def _guest_net(body: inventory_pb2.VirtualMachine, element: Element | None) -> None:
    set_addresses(body, () if element is None else element)


def _managed_by(body: inventory_pb2.VirtualMachine, element: Element | None) -> None:
    body.ClearField("managed_by")
    body.ClearField("placeholder")
    if element is not None:
        body.managed_by.extension_key = values.child_text(element, "extensionKey")
        body.managed_by.type = values.child_text(element, "type")
        # Site Recovery Manager marks what it keeps registered for a failover this way.
        body.placeholder = body.managed_by.type == "placeholderVm"


def _custom_values(element: Element) -> list[inventory_pb2.NamedValue]:
    """Custom attributes by the number of their definition; the serializer sets their names."""
    found = [
        inventory_pb2.NamedValue(
            name=values.child_text(each, "key"), value=values.child_text(each, "value")
        )
        for each in element
    ]
    return sorted((each for each in found if each.value), key=lambda each: int(each.name))


def _whole_gib(element: Element) -> int:
    # A simulator's datastore may be fuller than full.
    return max(0, values.number(element)) // _GIB * _GIB


def _vlan_id(element: Element) -> int:
    """The VLAN of a DVPortSetting when it is one, else 0 (a trunk, a private VLAN)."""
    vlan = element.find(f"{VIM}vlan")
    if vlan is None or type_of(vlan) != "VmwareDistributedVirtualSwitchVlanIdSpec":
        return 0
    return values.child_number(vlan, "vlanId")


def _has_any(element: Element) -> bool:
    return len(element) > 0


_CONNECTION_STATES: Final = {
    "connected": inventory_pb2.CONNECTION_STATE_CONNECTED,
    "disconnected": inventory_pb2.CONNECTION_STATE_DISCONNECTED,
    "notResponding": inventory_pb2.CONNECTION_STATE_NOT_RESPONDING,
    "orphaned": inventory_pb2.CONNECTION_STATE_ORPHANED,
    "inaccessible": inventory_pb2.CONNECTION_STATE_INACCESSIBLE,
    "invalid": inventory_pb2.CONNECTION_STATE_INVALID,
}
_POWER_STATES: Final = {
    "poweredOn": inventory_pb2.POWER_STATE_ON,
    "poweredOff": inventory_pb2.POWER_STATE_OFF,
    "suspended": inventory_pb2.POWER_STATE_SUSPENDED,
}

_NAME: Final[dict[str, Fill]] = {"name": _kept("name", values.decoded_name)}
_NAMED: Final = {**_NAME, "parent": _message("parent", values.reference)}

_FOLDER: Final = _Kind("folder", _NAMED)
_DATACENTER: Final = _Kind("datacenter", _NAMED)
_CLUSTER: Final = _Kind(
    "cluster",
    {
        **_NAMED,
        "host": _repeated("hosts", values.references),
        "datastore": _repeated("datastores", values.references),
        "network": _repeated("networks", values.references),
        "configuration.drsConfig.enabled": _kept("drs_enabled", values.boolean),
        "configuration.dasConfig.enabled": _kept("ha_enabled", values.boolean),
        "configurationEx.drsConfig.enabled": _kept("drs_enabled", values.boolean),
        "configurationEx.dasConfig.enabled": _kept("ha_enabled", values.boolean),
    },
)
_HOST: Final = _Kind(
    "host",
    {
        **_NAME,
        "parent": _message("cluster", values.reference),
        "hardware.systemInfo.uuid": _kept("hardware_uuid", values.text),
        "summary.hardware.cpuModel": _kept("cpu_model", values.text),
        "summary.hardware.numCpuThreads": _kept("cpu_threads", values.number),
        "summary.hardware.numCpuCores": _kept("cpu_cores", values.number),
        "summary.hardware.memorySize": _kept("memory_bytes", values.number),
        "runtime.connectionState": _enum("connection_state", _CONNECTION_STATES),
        "runtime.inMaintenanceMode": _kept("in_maintenance_mode", values.boolean),
        "runtime.powerState": _kept("powered_on", _is("poweredOn")),
        "summary.config.product.version": _kept("esxi_version", values.text),
        "datastore": _repeated("datastores", values.references),
    },
)
_RESOURCE_POOL: Final = _Kind(
    "resource_pool", {**_NAMED, "owner": _message("cluster", values.reference)}
)
_DATASTORE: Final = _Kind(
    "datastore",
    {
        **_NAMED,
        "summary.type": _kept("type", values.text),
        "summary.capacity": _kept("capacity_bytes", values.number),
        "summary.freeSpace": _kept("free_bytes", _whole_gib),
        "summary.accessible": _kept("accessible", values.boolean),
        "summary.maintenanceMode": _optional(
            "in_maintenance_mode", lambda element: values.text(element) != "normal"
        ),
        "summary.multipleHostAccess": _kept("shared", values.boolean),
    },
)
_NETWORK: Final = _Kind(
    "network",
    {
        **_NAMED,
        "key": _kept("portgroup_key", values.text),
        "config.distributedVirtualSwitch": _message("distributed_switch", values.reference),
        "config.uplink": _kept("uplink", values.boolean),
        "config.defaultPortConfig": _kept("vlan_id", _vlan_id),
    },
)
_SWITCH: Final = _Kind("distributed_switch", {**_NAMED, "uuid": _kept("uuid", values.text)})
_VIRTUAL_MACHINE: Final = _Kind(
    "virtual_machine",
    {
        **_NAME,
        "parent": _message("folder", values.reference),
        "resourcePool": _message("resource_pool", values.reference),
        "datastore": _repeated("datastores", values.references),
        "customValue": _repeated("custom_attributes", _custom_values),
        "rootSnapshot": _optional("has_snapshot", _has_any),
        "runtime.host": _message("host", values.reference),
        "runtime.powerState": _enum("power_state", _POWER_STATES),
        "runtime.connectionState": _enum("connection_state", _CONNECTION_STATES),
        "runtime.bootTime": _message("booted_at", values.timestamp),
        "guest.toolsRunningStatus": _optional("tools_running", _is("guestToolsRunning")),
        "guest.hostName": _optional("guest_hostname", values.text),
        "config.instanceUuid": _kept("instance_uuid", values.text),
        "config.uuid": _kept("bios_uuid", values.text),
        "config.hardware.numCPU": _kept("cpus", values.number),
        "config.hardware.numCoresPerSocket": _kept("cores_per_socket", values.number),
        "config.hardware.memoryMB": _kept("memory_mb", values.number),
        "config.guestId": _kept("guest_id", values.text),
        "config.guestFullName": _kept("guest_full_name", values.text),
        "config.version": _kept("hardware_version", values.text),
        "config.firmware": _kept("firmware", values.text),
        "config.annotation": _optional("annotation", values.text),
        "config.managedBy": _managed_by,
        "config.ftInfo.role": _optional("fault_tolerance_role", values.number),
        "config.createDate": _message("created_at", values.timestamp),
        "config.files.vmPathName": _kept("vmx_path", values.text),
        "config.hardware.device": _devices,
        # After the devices, whose keys it refers to.
        "guest.net": _guest_net,
    },
)

_KINDS: Final[Mapping[str, _Kind]] = {
    "Folder": _FOLDER,
    "StoragePod": _FOLDER,
    "Datacenter": _DATACENTER,
    "ClusterComputeResource": _CLUSTER,
    "HostSystem": _HOST,
    "ResourcePool": _RESOURCE_POOL,
    "VirtualApp": _RESOURCE_POOL,
    "Datastore": _DATASTORE,
    "Network": _NETWORK,
    "OpaqueNetwork": _NETWORK,
    "DistributedVirtualPortgroup": _NETWORK,
    "DistributedVirtualSwitch": _SWITCH,
    "VmwareDistributedVirtualSwitch": _SWITCH,
    "VirtualMachine": _VIRTUAL_MACHINE,
}
