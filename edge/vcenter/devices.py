"""``config.hardware.device`` as disks and network adapters. Pure.

The devices of a virtual machine refer to each other by key: a disk to its controller.
Sources: vSphere Web Services API, VirtualDevice and its subtypes; the names of adapter and disk
types are those of Glance's ``vmware_adaptertype`` and ``vmware_disktype``.
"""

from collections.abc import Iterable
from typing import Final

from edge.vcenter.answers import VIM, Element, type_of
from edge.vcenter.values import (
    child_flag,
    child_number,
    child_reference,
    child_text,
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
_LABEL: Final = f"{VIM}deviceInfo/{VIM}label"
_CONNECTED: Final = f"{VIM}connectable/{VIM}connected"
_DISK_ID: Final = f"{VIM}vDiskId/{VIM}id"
_PARENT_FILE: Final = f"{VIM}parent/{VIM}fileName"
_MAC_ADDRESS: Final = VIM + "macAddress"
_BACKING: Final = VIM + "backing"
_PORT: Final = VIM + "port"


def set_devices(machine: inventory_pb2.VirtualMachine, devices: Iterable[Element]) -> None:
    """Fill disks and network adapters; addresses that are known by device key are kept.

    Raises ``ValueError`` for a device that cannot be read.
    """
    addresses = {nic.key: list(nic.ip_addresses) for nic in machine.nics}
    disks, nics, controllers = [], [], {}
    for device in devices:
        kind = type_of(device)
        if kind == "VirtualDisk":
            disks.append(_disk(device))
        elif kind in _CONTROLLERS:
            controllers[child_number(device, "key")] = (
                _CONTROLLERS[kind],
                child_number(device, "busNumber"),
            )
        elif kind not in _OTHER_DEVICES and device.find(_MAC_ADDRESS) is not None:
            nics.append(_nic(device, kind, addresses))
    for disk in disks:
        disk.adapter_type, disk.bus_number = controllers.get(disk.controller_key, ("", 0))
    del machine.disks[:], machine.nics[:]
    machine.disks.extend(sorted(disks, key=lambda each: each.key))
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
    disk = inventory_pb2.VirtualDisk(
        key=child_number(device, "key"),
        label=device.findtext(_LABEL) or "",
        capacity_bytes=_capacity_bytes(device),
        controller_key=child_number(device, "controllerKey"),
        unit_number=child_number(device, "unitNumber"),
        first_class_disk_id=device.findtext(_DISK_ID) or "",
    )
    backing = device.find(_BACKING)
    if backing is not None:
        kind = type_of(backing)
        disk.file_name = child_text(backing, "fileName")
        disk.uuid = child_text(backing, "uuid")
        disk.disk_mode = child_text(backing, "diskMode")
        disk.disk_type = _disk_type(backing, kind)
        disk.parent_file_name = backing.findtext(_PARENT_FILE) or ""
        disk.raw_device_mapping = kind in _RAW_BACKINGS
        disk.shared = child_text(backing, "sharing") == "sharingMultiWriter"
        datastore = child_reference(backing, "datastore")
        if datastore is not None:
            disk.datastore.CopyFrom(datastore)
    return disk


def _capacity_bytes(device: Element) -> int:
    in_bytes = child_number(device, "capacityInBytes")
    return in_bytes or child_number(device, "capacityInKB") * 1024


def _disk_type(backing: Element, kind: str) -> str:
    if kind in _SPARSE_BACKINGS:
        return "sparse"
    if child_flag(backing, "thinProvisioned"):
        return "thin"
    if child_flag(backing, "eagerlyScrub"):
        return "eagerZeroedThick"
    return "preallocated"


def _nic(device: Element, kind: str, addresses: dict[int, list[str]]) -> inventory_pb2.VirtualNic:
    key = child_number(device, "key")
    nic = inventory_pb2.VirtualNic(
        key=key,
        label=device.findtext(_LABEL) or "",
        mac_address=child_text(device, "macAddress").lower(),
        model=_NIC_MODELS.get(kind, kind),
        connected=device.findtext(_CONNECTED) == "true",
        ip_addresses=addresses.get(key),
    )
    backing = device.find(_BACKING)
    if backing is not None:
        network = child_reference(backing, "network")
        if network is not None:
            nic.network.CopyFrom(network)
        port = backing.find(_PORT)
        if port is not None:
            nic.portgroup_key = child_text(port, "portgroupKey")
        elif network is None:
            nic.portgroup_key = child_text(backing, "opaqueNetworkId")
    return nic
