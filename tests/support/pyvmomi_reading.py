"""The inventory as pyVmomi's own objects say it: a second opinion about the parser's messages.

Written against vSphere's API and the proto alone, and shares no code with ``edge.vcenter``'s
parser.
"""

import datetime
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import timestamp_pb2
from pyVmomi import vim

from vsphere_gateway.v1 import inventory_pb2

DEVICE = vim.vm.device
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CONNECTION = {
    "connected": inventory_pb2.CONNECTION_STATE_CONNECTED,
    "disconnected": inventory_pb2.CONNECTION_STATE_DISCONNECTED,
    "notResponding": inventory_pb2.CONNECTION_STATE_NOT_RESPONDING,
    "orphaned": inventory_pb2.CONNECTION_STATE_ORPHANED,
    "inaccessible": inventory_pb2.CONNECTION_STATE_INACCESSIBLE,
    "invalid": inventory_pb2.CONNECTION_STATE_INVALID,
}
POWER = {
    "poweredOn": inventory_pb2.POWER_STATE_ON,
    "poweredOff": inventory_pb2.POWER_STATE_OFF,
    "suspended": inventory_pb2.POWER_STATE_SUSPENDED,
}
ADAPTERS = [
    (DEVICE.VirtualLsiLogicSASController, "lsiLogicsas"),
    (DEVICE.VirtualLsiLogicController, "lsiLogic"),
    (DEVICE.VirtualBusLogicController, "busLogic"),
    (DEVICE.ParaVirtualSCSIController, "paraVirtual"),
    (DEVICE.VirtualIDEController, "ide"),
    (DEVICE.VirtualSATAController, "sata"),
    (DEVICE.VirtualNVMEController, "nvme"),
]
Values = dict[str, Any]


def ref(managed_object: Any) -> inventory_pb2.ObjectReference | None:
    if managed_object is None:
        return None
    return inventory_pb2.ObjectReference(type=managed_object._wsdlName, value=managed_object._moId)


def refs(managed_objects: Iterable[Any] | None) -> list[inventory_pb2.ObjectReference]:
    made = [each for each in map(ref, managed_objects or []) if each is not None]
    return sorted(made, key=lambda each: (each.type, each.value))


def stamp(moment: datetime.datetime | None) -> timestamp_pb2.Timestamp | None:
    if moment is None or moment == EPOCH:
        return None
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(moment)
    return made


def plain(name: str) -> str:
    for escape, character in (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\")):
        name = name.replace(escape, character)
    return name.replace("%25", "%")


def folder(values: Values) -> inventory_pb2.Folder:
    return inventory_pb2.Folder(name=plain(values["name"]), parent=ref(values.get("parent")))


def datacenter(values: Values) -> inventory_pb2.Datacenter:
    return inventory_pb2.Datacenter(name=plain(values["name"]), parent=ref(values.get("parent")))


def cluster(values: Values) -> inventory_pb2.Cluster:
    return inventory_pb2.Cluster(
        name=plain(values["name"]),
        parent=ref(values["parent"]),
        hosts=refs(values.get("host")),
        datastores=refs(values.get("datastore")),
        networks=refs(values.get("network")),
        drs_enabled=values.get("configurationEx.drsConfig.enabled"),
        ha_enabled=values.get("configurationEx.dasConfig.enabled"),
    )


def host(values: Values) -> inventory_pb2.Host:
    return inventory_pb2.Host(
        name=plain(values["name"]),
        cluster=ref(values["parent"]),
        hardware_uuid=values["hardware.systemInfo.uuid"],
        cpu_model=values["summary.hardware.cpuModel"],
        cpu_threads=values["summary.hardware.numCpuThreads"],
        cpu_cores=values["summary.hardware.numCpuCores"],
        memory_bytes=values["summary.hardware.memorySize"],
        connection_state=CONNECTION[values["runtime.connectionState"]],
        in_maintenance_mode=values["runtime.inMaintenanceMode"],
        powered_on=values["runtime.powerState"] == "poweredOn",
        esxi_version=values["summary.config.product.version"],
        datastores=refs(values.get("datastore")),
    )


def resource_pool(values: Values) -> inventory_pb2.ResourcePool:
    return inventory_pb2.ResourcePool(
        name=plain(values["name"]), parent=ref(values["parent"]), cluster=ref(values["owner"])
    )


def datastore(values: Values) -> inventory_pb2.Datastore:
    return inventory_pb2.Datastore(
        name=plain(values["name"]),
        parent=ref(values["parent"]),
        type=values["summary.type"],
        capacity_bytes=values["summary.capacity"],
        free_bytes=max(0, values["summary.freeSpace"]) // 2**30 * 2**30,
        accessible=values["summary.accessible"],
        in_maintenance_mode=values.get("summary.maintenanceMode", "normal") != "normal",
        shared=values.get("summary.multipleHostAccess"),
    )


def network(values: Values) -> inventory_pb2.Network:
    setting = values.get("config.defaultPortConfig")
    vlan = getattr(setting, "vlan", None)
    single = isinstance(vlan, vim.dvs.VmwareDistributedVirtualSwitch.VlanIdSpec)
    return inventory_pb2.Network(
        name=plain(values["name"]),
        parent=ref(values["parent"]),
        portgroup_key=values.get("key"),
        distributed_switch=ref(values.get("config.distributedVirtualSwitch")),
        uplink=values.get("config.uplink"),
        vlan_id=vlan.vlanId if single else 0,
    )


def switch(values: Values) -> inventory_pb2.DistributedSwitch:
    return inventory_pb2.DistributedSwitch(
        name=plain(values["name"]), parent=ref(values["parent"]), uuid=values["uuid"]
    )


def virtual_machine(values: Values) -> inventory_pb2.VirtualMachine:
    """Return what the parser makes of it: nothing that is derived from other objects."""
    managed_by = values.get("config.managedBy")
    devices = values.get("config.hardware.device") or []
    return inventory_pb2.VirtualMachine(
        name=plain(values["name"]),
        folder=ref(values.get("parent")),
        resource_pool=ref(values.get("resourcePool")),
        datastores=refs(values.get("datastore")),
        custom_attributes=sorted(
            (
                inventory_pb2.NamedValue(name=str(each.key), value=each.value)
                for each in values.get("customValue") or []
                if each.value
            ),
            key=lambda each: int(each.name),
        ),
        has_snapshot=bool(values.get("rootSnapshot")),
        host=ref(values.get("runtime.host")),
        power_state=POWER[values["runtime.powerState"]],
        connection_state=CONNECTION[values["runtime.connectionState"]],
        booted_at=stamp(values.get("runtime.bootTime")),
        tools_running=values.get("guest.toolsRunningStatus") == "guestToolsRunning",
        guest_hostname=values.get("guest.hostName"),
        instance_uuid=values["config.instanceUuid"],
        bios_uuid=values["config.uuid"],
        cpus=values["config.hardware.numCPU"],
        cores_per_socket=values.get("config.hardware.numCoresPerSocket"),
        memory_mb=values["config.hardware.memoryMB"],
        guest_id=values["config.guestId"],
        guest_full_name=values["config.guestFullName"],
        hardware_version=values["config.version"],
        firmware=values.get("config.firmware"),
        annotation=values.get("config.annotation"),
        managed_by=managed_by
        and inventory_pb2.ManagedBy(extension_key=managed_by.extensionKey, type=managed_by.type),
        placeholder=bool(managed_by and managed_by.type == "placeholderVm"),
        fault_tolerance_role=values.get("config.ftInfo.role"),
        created_at=stamp(values.get("config.createDate")),
        vmx_path=values["config.files.vmPathName"],
        disks=_disks(devices),
        nics=_nics(devices, values.get("guest.net") or []),
    )


def _disks(devices: list[Any]) -> list[inventory_pb2.VirtualDisk]:
    controllers = {each.key: each for each in devices}
    return [
        _disk(each, controllers.get(each.controllerKey))
        for each in sorted(devices, key=lambda each: each.key)
        if isinstance(each, DEVICE.VirtualDisk)
    ]


def _disk(disk: Any, controller: Any) -> inventory_pb2.VirtualDisk:
    backing = disk.backing
    parent = getattr(backing, "parent", None)
    thin, eager = getattr(backing, "thinProvisioned", None), getattr(backing, "eagerlyScrub", None)
    sparse = isinstance(
        backing,
        (
            DEVICE.VirtualDisk.SeSparseBackingInfo,
            DEVICE.VirtualDisk.SparseVer1BackingInfo,
            DEVICE.VirtualDisk.SparseVer2BackingInfo,
        ),
    )
    raw = isinstance(
        backing,
        (
            DEVICE.VirtualDisk.RawDiskMappingVer1BackingInfo,
            DEVICE.VirtualDisk.RawDiskVer2BackingInfo,
        ),
    )
    full = "eagerZeroedThick" if eager else "preallocated"
    return inventory_pb2.VirtualDisk(
        key=disk.key,
        label=disk.deviceInfo.label if disk.deviceInfo else "",
        capacity_bytes=disk.capacityInBytes or disk.capacityInKB * 1024,
        adapter_type=next((n for kind, n in ADAPTERS if isinstance(controller, kind)), ""),
        file_name=getattr(backing, "fileName", None),
        uuid=getattr(backing, "uuid", None),
        disk_type="sparse" if sparse else "thin" if thin else full if backing else "",
        parent_file_name=parent.fileName if parent else None,
        first_class_disk_id=disk.vDiskId.id if disk.vDiskId else None,
        raw_device_mapping=raw,
        datastore=ref(getattr(backing, "datastore", None)),
        shared=getattr(backing, "sharing", None) == "sharingMultiWriter",
    )


def _nics(devices: list[Any], guest_nics: list[Any]) -> list[inventory_pb2.VirtualNic]:
    addresses: dict[int, set[str]] = {}
    for guest_nic in guest_nics:
        known = addresses.setdefault(guest_nic.deviceConfigId, set())
        known.update(a for a in guest_nic.ipAddress if not ipaddress.ip_address(a).is_link_local)
    return [
        _nic(each, sorted(addresses.get(each.key, ())))
        for each in sorted(devices, key=lambda each: each.key)
        if isinstance(each, DEVICE.VirtualEthernetCard)
    ]


def _nic(nic: Any, addresses: list[str]) -> inventory_pb2.VirtualNic:
    backing = nic.backing
    port = getattr(backing, "port", None)
    model = type(nic).__name__.rpartition(".")[2]
    return inventory_pb2.VirtualNic(
        key=nic.key,
        label=nic.deviceInfo.label if nic.deviceInfo else "",
        mac_address=nic.macAddress.lower(),
        model={"VirtualVmxnet2": "VirtualVmxnet", "VirtualVmxnet3Vrdma": "VirtualVmxnet3"}.get(
            model, model
        ),
        network=ref(getattr(backing, "network", None)),
        connected=bool(nic.connectable and nic.connectable.connected),
        ip_addresses=addresses,
        portgroup_key=port.portgroupKey if port else getattr(backing, "opaqueNetworkId", None),
    )


READINGS: dict[str, Callable[[Values], Any]] = {
    "Folder": folder,
    "StoragePod": folder,
    "Datacenter": datacenter,
    "ClusterComputeResource": cluster,
    "HostSystem": host,
    "ResourcePool": resource_pool,
    "VirtualApp": resource_pool,
    "Datastore": datastore,
    "Network": network,
    "OpaqueNetwork": network,
    "DistributedVirtualPortgroup": network,
    "DistributedVirtualSwitch": switch,
    "VmwareDistributedVirtualSwitch": switch,
    "VirtualMachine": virtual_machine,
}
