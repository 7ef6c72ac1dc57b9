"""Turns Nova's request for a new server into the clone of a template, or refuses it."""

from collections.abc import Sequence
from typing import Any

from nova import exception
from nova.virt import configdrive
from nova.virt import driver as virt_driver

from vsphere_gateway.v1 import compute_pb2, operations_pb2

GIB = 1 << 30
NAME_LENGTH = 80
"""Characters of a virtual machine's name (vSphere API, VirtualMachineConfigSpec.name)."""


def check_request(
    instance: Any, network_info: Any, block_device_info: Any, injected_files: Any
) -> None:
    """Raise ``BuildAbortException`` for what a clone cannot have on any host."""
    unsupported = {
        "a network: create it with `--nic none`": bool(network_info),
        "a volume to boot from or to attach": bool(
            virt_driver.block_device_info_get_mapping(block_device_info)
        ),
        "ephemeral disks": bool(virt_driver.block_device_info_get_ephemerals(block_device_info)),
        "a swap disk": bool(
            virt_driver.swap_is_usable(virt_driver.block_device_info_get_swap(block_device_info))
        ),
        "a config drive": bool(configdrive.required_by(instance)),
        "injected files": bool(injected_files),
    }
    refused = [what for what, wanted in unsupported.items() if wanted]
    if refused:
        raise exception.BuildAbortException(
            instance_uuid=instance.uuid,
            reason=f"a clone of a vCenter template cannot have {', '.join(refused)}",
        )


def check_template(
    image_id: str, found: compute_pb2.GetTemplateResponse, vcenter_uuid: str, root_gb: int
) -> None:
    """Raise unless a server with this root disk can be cloned from the template here."""
    if not found.found:
        reason = "it stands for no template in a managed vCenter"
        raise exception.ImageUnacceptable(image_id=image_id, reason=reason)
    if found.vcenter_uuid != vcenter_uuid:
        reason = (
            f"its template is in vCenter {found.vcenter_uuid}, this compute host's cluster in "
            f"{vcenter_uuid}; give the image the required trait of its vCenter"
        )
        raise exception.ImageUnacceptable(image_id=image_id, reason=reason)
    size = found.template.disks[0].capacity_bytes if found.template.disks else 0
    if root_gb and root_gb * GIB < size:
        raise exception.FlavorDiskSmallerThanImage(flavor_size=root_gb * GIB, image_size=size)


def clone_request(
    instance: Any,
    found: compute_pb2.GetTemplateResponse,
    datastores: Sequence[str],
    *,
    power_on: bool,
) -> operations_pb2.CloneVirtualMachine:
    """Build the request of the clone that becomes the server."""
    return operations_pb2.CloneVirtualMachine(
        template=found.reference,
        template_instance_uuid=found.template.instance_uuid,
        name=(instance.display_name or instance.uuid)[:NAME_LENGTH],
        instance_uuid=instance.uuid,
        cpus=instance.flavor.vcpus,
        memory_mb=instance.flavor.memory_mb,
        root_disk_gb=instance.flavor.root_gb,
        power_on=power_on,
        datastore_patterns=datastores,
        annotation=(
            f"OpenStack server {instance.uuid}\nproject {instance.project_id}\n"
            f"flavor {instance.flavor.name}\nimage {instance.image_ref}"
        ),
        remove_nics=True,
    )
