"""Virtual hardware as Nova shows it: flavor, block devices, addresses. Pure."""

import functools
import ipaddress
import uuid
from collections.abc import Sequence

from controlplane.domain.mapping.text import cut
from controlplane.domain.records import DiskRecord, FlavorRecord, NicRecord
from vsphere_gateway.v1 import inventory_pb2

GIB = 1024**3
NAMESPACE = uuid.UUID("7a3d5f0e-5f0b-5b55-9a57-3a6f0f1d7b0c")
"""Of every UUIDv5 that stands for a part of a server."""
FLAVOR_ID_BASE = 2**30
"""Below it `nova_api.flavors` counts; above it, up to the column's 2**31, are ours."""

_SCSI_ADAPTERS = frozenset({"lsiLogic", "busLogic", "paraVirtual", "lsiLogicsas"})


def size_gb(capacity_bytes: int) -> int:
    """A capacity in GiB, rounded up."""
    return -(-capacity_bytes // GIB)


def flavor(cpus: int, memory_mb: int, disks: Sequence[inventory_pb2.VirtualDisk]) -> FlavorRecord:
    """The synthetic flavor of this hardware: the first disk is root, the rest ephemeral."""
    sizes = [size_gb(disk.capacity_bytes) for disk in disks]
    return sized_flavor(cpus, memory_mb, sizes[0] if sizes else 0, sum(sizes[1:]))


@functools.lru_cache(maxsize=4096)
def sized_flavor(cpus: int, memory_mb: int, root_gb: int, ephemeral_gb: int) -> FlavorRecord:
    """The synthetic flavor of these sizes."""
    name = f"vsphere-{cpus}c-{memory_mb}m-{root_gb}g"
    if ephemeral_gb:
        name += f"-{ephemeral_gb}g"
    identity = uuid.uuid5(NAMESPACE, f"flavor:{name}")
    return FlavorRecord(
        id=FLAVOR_ID_BASE + identity.int % FLAVOR_ID_BASE,
        flavorid=str(identity),
        name=name,
        vcpus=cpus,
        memory_mb=memory_mb,
        root_gb=root_gb,
        ephemeral_gb=ephemeral_gb,
    )


def disks(
    instance_uuid: str, devices: Sequence[inventory_pb2.VirtualDisk]
) -> tuple[DiskRecord, ...]:
    """The block devices of a virtual machine; the first one boots."""
    return tuple(
        DiskRecord(
            uuid=_disk_uuid(instance_uuid, device.key),
            device_name=device_name(index),
            size_gb=size_gb(device.capacity_bytes),
            boot_index=0 if index == 0 else -1,
            disk_bus=disk_bus(device.adapter_type),
        )
        for index, device in enumerate(devices)
    )


def device_name(index: int) -> str:
    """`/dev/sda`, ... `/dev/sdz`, `/dev/sdaa`, ... for 0, ... 25, 26, ..."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"/dev/sd{letters}"


def disk_bus(adapter_type: str) -> str:
    """Nova's name of a controller's bus; SCSI when vCenter does not say."""
    return "scsi" if adapter_type in _SCSI_ADAPTERS or not adapter_type else adapter_type


def nics(
    vcenter_uuid: str,
    devices: Sequence[inventory_pb2.VirtualNic],
    labels: Sequence[str],
) -> tuple[NicRecord, ...]:
    """The network adapters; ``labels`` are the names of their networks, in order."""
    return tuple(
        NicRecord(
            network_uuid=_network(vcenter_uuid, device.network.value or device.portgroup_key),
            network_label=cut(label or device.portgroup_key or device.label),
            mac_address=device.mac_address,
            model=device.model,
            active=device.connected,
            addresses=tuple(filter(_is_address, device.ip_addresses)),
        )
        for device, label in zip(devices, labels, strict=True)
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _disk_uuid(instance_uuid: str, key: int) -> str:
    return str(uuid.uuid5(NAMESPACE, f"disk:{instance_uuid}:{key}"))


@functools.lru_cache(maxsize=4096)
def _network(vcenter_uuid: str, network: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"network:{vcenter_uuid}:{network}"))
