"""``config.hardware.device`` as disks and network adapters. Pure.

The devices of a virtual machine refer to each other by key: a disk to its controller.
Sources: vSphere Web Services API, VirtualDevice and its subtypes; the names of adapter and disk
types are those of Glance's ``vmware_adaptertype`` and ``vmware_disktype``.
"""

from collections.abc import Iterable
from typing import Final

from edge.vcenter.client.answers import VIM, Element, type_of
from edge.vcenter.client.values import (
    Children,
    child_number,
    child_text,
    reference,
    routable_addresses,
)
from vsphere_gateway.v1 import inventory_pb2

_CONTROLLERS: Final = {
    "VirtualLsiLogicController": "lsiLogic",
    "VirtualBusLogicController": "busLogic",
    "ParaVirtualSCSIController": "paraVirtual",
    "VirtualLsiLogicSASController": "lsiLogicsas",
    "VirtualIDEController": "ide",
    "VirtualAHCIController": "sata",
    "VirtualSATAController": "sata",
    "VirtualNVMEController": "nvme",
}
_NIC_MODELS: Final = {
    "VirtualVmxnet2": "VirtualVmxnet",
    "VirtualVmxnet3Vrdma": "VirtualVmxnet3",
}
_RAW_BACKINGS: Final = frozenset(
    (
        "VirtualDiskRawDiskMappingVer1BackingInfo",
        "VirtualDiskRawDiskVer2BackingInfo",
        "VirtualDiskPartitionedRawDiskVer2BackingInfo",
    )
)
_SPARSE_BACKINGS: Final = frozenset(
    (
        "VirtualDiskSparseVer1BackingInfo",
        "VirtualDiskSparseVer2BackingInfo",
        "VirtualDiskSeSparseBackingInfo",
    )
)
# Every virtual machine has these; what is not named here is looked at more closely.
_OTHER_DEVICES: Final = frozenset(
    (
        "VirtualPS2Controller",
        "VirtualPCIController",
        "VirtualSIOController",
        "VirtualKeyboard",
        "VirtualPointingDevice",
        "VirtualMachineVideoCard",
        "VirtualMachineVMCIDevice",
        "VirtualCdrom",
        "VirtualFloppy",
    )
)
_MAC_ADDRESS: Final = VIM + "macAddress"
_NETWORK: Final = VIM + "network"
_PORT: Final = VIM + "port"


def set_devices(machine: inventory_pb2.VirtualMachine, devices: Iterable[Element]) -> None:
    """Fill disks and network adapters; addresses that are known by device key are kept.

    Raises ``ValueError`` for a device that cannot be read.
    """
    addresses = {nic.key: list(nic.ip_addresses) for nic in machine.nics}
    disks, nics, adapters = [], [], {}
    for device in devices:
        kind = type_of(device)
        if kind == "VirtualDisk":
            disks.append((_disk(device), child_number(device, "controllerKey")))
        elif kind in _CONTROLLERS:
            adapters[child_number(device, "key")] = _CONTROLLERS[kind]
        elif kind not in _OTHER_DEVICES and device.find(_MAC_ADDRESS) is not None:
            nics.append(_nic(device, kind, addresses))
    for disk, controller in disks:
        disk.adapter_type = adapters.get(controller, "")
    del machine.disks[:], machine.nics[:]
    machine.disks.extend(sorted((disk for disk, _ in disks), key=lambda each: each.key))
    machine.nics.extend(sorted(nics, key=lambda each: each.key))


def set_addresses(machine: inventory_pb2.VirtualMachine, guest_nics: Iterable[Element]) -> None:
    """Fill the addresses of network adapters from ``guest.net``.

    What the guest made itself (bridges, tunnels) has no device and is left out.
    """
    addresses: dict[int, list[str]] = {}
    for guest_nic in guest_nics:
        key = child_number(guest_nic, "deviceConfigId")
        addresses.setdefault(key, []).extend(routable_addresses(guest_nic))
    for nic in machine.nics:
        del nic.ip_addresses[:]
        nic.ip_addresses.extend(sorted(set(addresses.get(nic.key, ()))))


def _disk(device: Element) -> inventory_pb2.VirtualDisk:
    found = Children(device)
    disk = inventory_pb2.VirtualDisk(
        key=found.number("key"),
        label=_label(found),
        capacity_bytes=found.number("capacityInBytes") or found.number("capacityInKB") * 1024,
    )
    disk_id = found.element("vDiskId")
    if disk_id is not None:
        disk.first_class_disk_id = child_text(disk_id, "id")
    backing = found.element("backing")
    if backing is not None:
        _fill_backing(disk, backing)
    return disk


def _fill_backing(disk: inventory_pb2.VirtualDisk, backing: Element) -> None:
    kind, found = type_of(backing), Children(backing)
    disk.file_name = found.text("fileName")
    disk.uuid = found.text("uuid")
    disk.disk_type = _disk_type(found, kind)
    disk.raw_device_mapping = kind in _RAW_BACKINGS
    disk.shared = found.text("sharing") == "sharingMultiWriter"
    parent = found.element("parent")
    if parent is not None:
        disk.parent_file_name = child_text(parent, "fileName")
    datastore = found.element("datastore")
    if datastore is not None:
        disk.datastore.CopyFrom(reference(datastore))


def _disk_type(backing: Children, kind: str) -> str:
    if kind in _SPARSE_BACKINGS:
        return "sparse"
    if backing.flag("thinProvisioned"):
        return "thin"
    if backing.flag("eagerlyScrub"):
        return "eagerZeroedThick"
    return "preallocated"


def _nic(device: Element, kind: str, addresses: dict[int, list[str]]) -> inventory_pb2.VirtualNic:
    found = Children(device)
    key = found.number("key")
    nic = inventory_pb2.VirtualNic(
        key=key,
        label=_label(found),
        mac_address=found.text("macAddress").lower(),
        model=_NIC_MODELS.get(kind, kind),
        ip_addresses=addresses.get(key),
    )
    connectable = found.element("connectable")
    if connectable is not None:
        nic.connected = child_text(connectable, "connected") == "true"
    backing = found.element("backing")
    if backing is not None:
        network, port = backing.find(_NETWORK), backing.find(_PORT)
        if network is not None:
            nic.network.CopyFrom(reference(network))
        if port is not None:
            nic.portgroup_key = child_text(port, "portgroupKey")
        elif network is None:
            nic.portgroup_key = child_text(backing, "opaqueNetworkId")
    return nic


def _label(device: Children) -> str:
    info = device.element("deviceInfo")
    return "" if info is None else child_text(info, "label")
