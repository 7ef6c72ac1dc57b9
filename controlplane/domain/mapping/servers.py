"""From what vCenter says and what the pipeline decided to records. Pure."""

import urllib.parse
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controlplane.domain.mapping import hardware as mapping_hardware
from controlplane.domain.mapping.text import cut, escape, hostname, utc
from controlplane.domain.records import ImageRecord, Policy, Power, ServerRecord
from vsphere_gateway.v1 import inventory_pb2

METADATA_PREFIX = "vsphere:"
"""Server metadata with this prefix is ours; all other is the users'."""

_POWER = {
    inventory_pb2.POWER_STATE_ON: Power.RUNNING,
    inventory_pb2.POWER_STATE_OFF: Power.SHUTDOWN,
    inventory_pb2.POWER_STATE_SUSPENDED: Power.SUSPENDED,
}
_CONNECTION = {
    inventory_pb2.CONNECTION_STATE_DISCONNECTED: "disconnected",
    inventory_pb2.CONNECTION_STATE_ORPHANED: "orphaned",
    inventory_pb2.CONNECTION_STATE_INACCESSIBLE: "inaccessible",
    inventory_pb2.CONNECTION_STATE_INVALID: "invalid",
}
# What nova/objects/image_meta.py accepts as vmware_adaptertype without raising.
_ADAPTER_TYPES = frozenset({"lsiLogic", "busLogic", "paraVirtual", "lsiLogicsas", "ide"})
# The same for hw_vif_model.
_NIC_MODELS = frozenset(
    {
        "VirtualE1000",
        "VirtualE1000e",
        "VirtualPCNet32",
        "VirtualSriovEthernetCard",
        "VirtualVmxnet",
        "VirtualVmxnet3",
    }
)


class Names(Protocol):
    """What references mean in one vCenter."""

    vcenter_uuid: str
    vcenter_name: str

    def name(self, reference: inventory_pb2.ObjectReference) -> str:
        """The object's name, empty when it is not known."""

    def folder_path(self, reference: inventory_pb2.ObjectReference) -> str:
        """Path below the datacenter's `vm` folder, the datacenter first, for example `DC0/web`."""

    def datacenter(self, reference: inventory_pb2.ObjectReference) -> str:
        """Name of the datacenter that holds the object, empty when it is not known."""


@dataclass(frozen=True, slots=True)
class ServerDecision:
    """What the pipeline decided about a virtual machine that is adopted."""

    instance_uuid: str
    project_id: str
    user_id: str
    policy: Policy
    compute_host: str
    node: str
    compute_node_uuid: str
    image_id: str | None = None
    """The image of the template that it was cloned from, when that is known."""


@dataclass(frozen=True, slots=True)
class ImageDecision:
    """What the pipeline decided about a template."""

    image_id: str
    owner: str
    visibility: str
    """`public`, `community`, `shared` or `private`."""
    members: frozenset[str] = frozenset()
    """Projects that see a `shared` image."""


def server_record(
    machine: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    decision: ServerDecision,
    names: Names,
    now: datetime,
) -> ServerRecord:
    """The server that stands for a virtual machine; ``now`` is UTC without a zone."""
    server = decision.instance_uuid
    display_name = _name(machine, reference)
    flavor = mapping_hardware.flavor(machine.cpus, machine.memory_mb, machine.disks)
    created_at = utc(machine.created_at) or utc(machine.booted_at) or now.replace(microsecond=0)
    labels = [names.name(nic.network) for nic in machine.nics]
    image_id = decision.image_id or unknown_image_id(names.vcenter_uuid)
    return ServerRecord(
        uuid=server,
        project_id=decision.project_id,
        user_id=decision.user_id,
        compute_host=decision.compute_host,
        node=decision.node,
        compute_node_uuid=decision.compute_node_uuid,
        display_name=display_name,
        hostname=hostname(machine.guest_hostname, machine.name) or f"server-{server}",
        power=_POWER.get(machine.power_state, Power.UNKNOWN),
        flavor=flavor,
        disks=mapping_hardware.disks(server, machine.disks),
        nics=mapping_hardware.nics(names.vcenter_uuid, machine.nics, labels),
        metadata=_metadata(machine, reference, names),
        image_id=image_id,
        image_properties=_image_metadata(machine, image_id, flavor.root_gb),
        created_at=created_at,
        launched_at=utc(machine.booted_at) or created_at,
        os_type=_os_type(machine.guest_id),
        policy=decision.policy,
    )


def image_record(
    template: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    decision: ImageDecision,
    names: Names,
    now: datetime,
) -> ImageRecord:
    """The image that stands for a template; ``now`` is UTC without a zone."""
    capacity = template.disks[0].capacity_bytes if template.disks else 0
    return ImageRecord(
        id=decision.image_id,
        name=_name(template, reference),
        owner=decision.owner,
        visibility=decision.visibility,
        members=decision.members,
        size_bytes=capacity,
        min_disk_gb=mapping_hardware.size_gb(capacity),
        min_ram_mb=0,
        location=_location(template, names),
        properties=_image_properties(template, reference, names),
        created_at=utc(template.created_at) or now.replace(microsecond=0),
    )


def _name(machine: inventory_pb2.VirtualMachine, reference: inventory_pb2.ObjectReference) -> str:
    """The name to show; a reference where there is nothing that one could see or type."""
    shown = cut(machine.name)
    return reference.value if not shown or shown.isspace() else shown


def unknown_image_id(vcenter_uuid: str) -> str:
    """The image of servers whose template is unknown.

    A server without an image is one that was booted from a volume, says `openstack server list`.
    """
    return str(uuid.uuid5(mapping_hardware.NAMESPACE, f"unknown image:{vcenter_uuid}"))


def vcenter_trait(vcenter_uuid: str) -> str:
    """The trait that a vCenter's clusters have and that its images require."""
    return f"CUSTOM_VSG_VCENTER_{vcenter_uuid.upper().replace('-', '_')}"


def _metadata(
    machine: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    names: Names,
) -> dict[str, str]:
    values = {
        "vcenter": names.vcenter_uuid,
        "moref": reference.value,
        "cluster": names.name(machine.cluster),
        "host": names.name(machine.host),
        "folder": names.folder_path(machine.folder) if machine.folder.value else "",
        "datastores": ", ".join(sorted(filter(None, map(names.name, machine.datastores)))),
        "vmx_path": machine.vmx_path,
        "guest_id": machine.guest_id,
        "hardware_version": machine.hardware_version,
        "disks": _disk_summary(machine.disks),
        "connection_state": _CONNECTION.get(machine.connection_state, ""),
    }
    return {METADATA_PREFIX + key: cut(value) for key, value in values.items() if value}


def _disk_summary(disks: Iterable[inventory_pb2.VirtualDisk]) -> str:
    return "; ".join(
        f"{mapping_hardware.device_name(index)[5:]} "
        f"{mapping_hardware.size_gb(disk.capacity_bytes)}G {disk.file_name}".rstrip()
        for index, disk in enumerate(disks)
    )


def _image_metadata(
    machine: inventory_pb2.VirtualMachine, image_id: str, root_gb: int
) -> dict[str, str]:
    """What nova/utils.py:get_system_metadata_from_image would keep of an image."""
    return {
        "base_image_ref": image_id,
        "container_format": "bare",
        "disk_format": "vmdk",
        "min_disk": str(root_gb),
        **_hardware_properties(machine),
    }


def _hardware_properties(machine: inventory_pb2.VirtualMachine) -> dict[str, str]:
    """The properties by which Nova's drivers build the same hardware again."""
    adapter = machine.disks[0].adapter_type if machine.disks else ""
    model = machine.nics[0].model if machine.nics else ""
    properties = {
        "hypervisor_type": "vmware",
        "vmware_adaptertype": adapter if adapter in _ADAPTER_TYPES else "",
        "hw_disk_bus": adapter if adapter == "sata" else "",
        "vmware_disktype": machine.disks[0].disk_type if machine.disks else "",
        "vmware_ostype": machine.guest_id,
        "hw_vif_model": model if model in _NIC_MODELS else "",
        "hw_firmware_type": "uefi" if machine.firmware == "efi" else "",
    }
    return {key: cut(value) for key, value in properties.items() if value}


def _image_properties(
    template: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    names: Names,
) -> dict[str, str]:
    references = {
        "vsphere_vcenter": names.vcenter_uuid,
        "vsphere_moref": reference.value,
        "vsphere_instance_uuid": template.instance_uuid,
        "vsphere_cluster": names.name(template.cluster),
        "vsphere_folder": names.folder_path(template.folder) if template.folder.value else "",
        "vsphere_vmx_path": template.vmx_path,
        "vsphere_hardware_version": template.hardware_version,
        "vsphere_disks": str(len(template.disks)),
    }
    return {
        **{key: escape(value) for key, value in references.items() if value},
        **_hardware_properties(template),
        f"trait:{vcenter_trait(names.vcenter_uuid)}": "required",
    }


def _location(template: inventory_pb2.VirtualMachine, names: Names) -> str:
    """A pointer in the form of glance_store's vmware_datastore driver.

    The host is the vCenter's UUID, which no store can dial: the pointer is for people and for us.
    """
    path = template.disks[0].file_name if template.disks else template.vmx_path
    datastore, _, file = path.removeprefix("[").partition("] ")
    query = urllib.parse.urlencode(
        {"dcPath": names.datacenter(template.folder), "dsName": datastore}
    )
    return f"vsphere://{names.vcenter_uuid}/folder/{urllib.parse.quote(file)}?{query}"


def _os_type(guest_id: str) -> str | None:
    if guest_id.startswith("win"):
        return "windows"
    return "linux" if "inux" in guest_id or guest_id.startswith(_LINUX_GUESTS) else None


_LINUX_GUESTS = (
    "almalinux",
    "amazonlinux",
    "asianux",
    "centos",
    "coreos",
    "crxPod",
    "debian",
    "fedora",
    "opensuse",
    "oracle",
    "rhel",
    "rockylinux",
    "sles",
    "suse",
    "turboLinux",
    "ubuntu",
    "vmwarePhoton",
)
