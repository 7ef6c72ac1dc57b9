"""Makes the rows of an adopted server. Pure."""

from datetime import datetime
from typing import Any

from controlplane.domain.records import DiskRecord, Policy, Power, ServerRecord
from controlplane.store.nova import primitives
from controlplane.store.nova.cell_rows import ADOPTED_RESERVATION

VM_STATES = {Power.RUNNING: "active", Power.SHUTDOWN: "stopped", Power.SUSPENDED: "suspended"}
"""nova/compute/vm_states.py for the power states of vSphere."""

Values = dict[str, Any]


def instance(
    record: ServerRecord, compute_id: int | None, availability_zone: str, now: datetime
) -> Values:
    """Make the row of `instances`."""
    return {
        "created_at": record.created_at,
        "updated_at": now,
        "deleted": 0,
        "uuid": record.uuid,
        "project_id": record.project_id,
        "user_id": record.user_id,
        "display_name": record.display_name,
        "hostname": record.hostname,
        "image_ref": record.image_id,
        "kernel_id": "",
        "ramdisk_id": "",
        "launch_index": 0,
        "power_state": record.power.value,
        # vCenter knows no state of a VM whose host or files are out of reach.
        "vm_state": VM_STATES.get(record.power, "stopped"),
        **flavor_columns(record),
        "host": record.compute_host,
        "node": record.node,
        "compute_id": compute_id,
        "launched_on": record.compute_host,
        "reservation_id": ADOPTED_RESERVATION + record.uuid[:8],
        "launched_at": record.launched_at,
        "availability_zone": availability_zone,
        "os_type": record.os_type,
        "architecture": "x86_64",
        "root_device_name": root_device_name(record),
        "config_drive": "",
        "auto_disk_config": False,
        "progress": 0,
        "shutdown_terminate": False,
        "cleaned": 0,
        "hidden": False,
        **policy_columns(record.policy),
    }


def flavor_columns(record: ServerRecord) -> Values:
    """Make the columns of `instances` that repeat the flavor; quota sums them up."""
    return {
        "instance_type_id": record.flavor.id,
        "vcpus": record.flavor.vcpus,
        "memory_mb": record.flavor.memory_mb,
        "root_gb": record.flavor.root_gb,
        "ephemeral_gb": record.flavor.ephemeral_gb,
    }


def policy_columns(policy: Policy) -> Values:
    """Make the columns of `instances` that lock a server as a policy says."""
    locked = policy is not Policy.MANAGED
    return {
        "locked": locked,
        "locked_by": "admin" if locked else None,
        "disable_terminate": policy is Policy.LISTED,
    }


def root_device_name(record: ServerRecord) -> str | None:
    """Name the first disk."""
    return record.disks[0].device_name if record.disks else None


def instance_extra(record: ServerRecord, now: datetime) -> Values:
    """Make the row of `instance_extra`."""
    return {
        "created_at": now,
        "deleted": 0,
        "instance_uuid": record.uuid,
        "flavor": primitives.embedded_flavor(record.flavor),
        "pci_requests": "[]",
    }


def info_cache(record: ServerRecord, now: datetime) -> Values:
    """Make the row of `instance_info_caches`."""
    return {
        "created_at": now,
        "deleted": 0,
        "instance_uuid": record.uuid,
        "network_info": primitives.network_info(record.nics),
    }


def system_metadata(record: ServerRecord) -> dict[str, str]:
    """Make the system metadata of an adopted server."""
    return {f"image_{key}": value for key, value in record.image_properties.items()}


def pair(uuid: str, key: str, value: str, now: datetime) -> Values:
    """Make a row of `instance_metadata` or `instance_system_metadata`."""
    return {
        "created_at": now,
        "deleted": 0,
        "instance_uuid": uuid,
        "key": key,
        "value": value,
    }


def block_device(record: ServerRecord, disk: DiskRecord, now: datetime) -> Values:
    """Make a row of `block_device_mapping`.

    The first disk is a local image device whether the image is known or not: without one Nova takes
    a server with no image for volume-backed (nova/compute/utils.py:is_volume_backed_instance).
    """
    root = disk.boot_index == 0
    return {
        "created_at": now,
        "deleted": 0,
        "instance_uuid": record.uuid,
        "uuid": disk.uuid,
        "source_type": "image" if root else "blank",
        "destination_type": "local",
        "device_type": "disk",
        "disk_bus": disk.disk_bus,
        "boot_index": disk.boot_index,
        "device_name": disk.device_name,
        "delete_on_termination": True,
        "volume_size": disk.size_gb,
        "image_id": record.image_id if root else None,
        "no_device": False,
        "encrypted": False,
    }
